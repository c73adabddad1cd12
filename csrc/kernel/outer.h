// Sums of outer products over many rows, as the weights' gradients are: C[j] += sum over k of A[k, j] B[k].
// `outer_depth` rows at a time are packed, so that C, which is large, is read and written rarely.
#pragma once

#include "gemm.h"

namespace fastrnn::FASTRNN_ISA {

constexpr Index outer_depth = 512;
constexpr Index outer_blocks = 8;   // of columns of A that are packed at a time: what the second cache holds

// Rows lie too far apart for the processor to see where the next one is.
template <class R>
FASTRNN_INLINE void prefetch_row(const R* const* rows, Index k, Index depth, Index column) {
  constexpr Index ahead = 12;
  if (k + ahead < depth) __builtin_prefetch(rows[k + ahead] + column);
}

// `count` blocks of columns from `column` on, the last one `valid` wide, as [count, depth, U]; what the rows add up
// to goes to `sum` [count, U].
template <class R>
void pack_blocks(const R* const* rows, Index depth, Index column, Index count, Index width, R* sum, R* packed) {
  constexpr Index U = lanes<R>, together = 4;  // so that a line's neighbours are used while they are near
  for (Index first = 0; first < count; first += together, packed += together * depth * U) {
    const Index from = column + first * U, n = count - first < together ? count - first : together;
    Vec<R> total[together] = {};
    for (Index j = 0; j < n; ++j) total[j] = load(sum + (first + j) * U);
    for (Index k = 0; k < depth; ++k)
#pragma GCC unroll 4
      for (Index j = 0; j < together; ++j)
        if (j < n) {
          prefetch_row(rows, k, depth, from + j * U);
          const Vec<R> v = load(rows[k] + from + j * U, width - from - j * U);
          store(packed + (j * depth + k) * U, v);
          total[j] += v;
        }
    for (Index j = 0; j < n; ++j) store(sum + (first + j) * U, total[j]);
  }
}

// The columns of B, which is `width` wide, in wide panels.
template <class R>
void pack_columns(const R* const* rows, const WidePanels<R>& layout, Index width, R* packed) {
  for (Index q = 0; q < layout.count; q += wide) {
    const Index row = layout.row(q), column = q * lanes<R>;
    for (Index k = 0; k < layout.K; ++k, packed += row)
      for (Index j = 0; j < row; j += lanes<R>) {
        prefetch_row(rows, k, layout.K, column + j);
        store(packed + j, load(rows[k] + column + j, width - column - j));
      }
  }
}

}  // namespace fastrnn::FASTRNN_ISA
