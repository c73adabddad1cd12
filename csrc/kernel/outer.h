// Sums of outer products over many rows, as the weights' gradients are: C[j] += sum over k of A[k, j] B[k].
// `outer_depth` rows at a time are packed, so that C, which is large, is read and written rarely.
#pragma once

#include "gemm.h"
#include "share.h"

namespace fastrnn::FASTRNN_ISA {

constexpr Index outer_depth = 512;
constexpr Index outer_blocks = 8;   // of columns of A that are packed at a time: what the second cache holds

// Rows lie too far apart for the processor to see where the next one is.
template <class R>
FASTRNN_INLINE void prefetch_row(const R* const* rows, Index k, Index depth, Index column) {
  constexpr Index ahead = 12;
  if (k + ahead < depth) __builtin_prefetch(rows[k + ahead] + column);
}

// `count` blocks of columns from `column` on, the last one `valid` wide, as [count, depth, U]. What the rows add up to is
// added to `sum` [2, width], which goes on for millions of rows: each stretch of them starts from zero, and what
// rounding adds to the sum of all is noted behind it and taken off again the next time (Kahan 1965).
template <class R>
void pack_blocks(const R* const* rows, Index depth, Index column, Index count, Index width, R* sum, R* packed) {
  constexpr Index U = lanes<R>, together = 4;  // so that a line's neighbours are used while they are near
  constexpr Index stretch = 64;
  R* const excess = sum + padded(width, U);
  for (Index first = 0; first < count; first += together, packed += together * depth * U) {
    const Index from = column + first * U, n = count - first < together ? count - first : together;
    Vec<R> total[together] = {};
    for (Index k = 0, end; k < depth;) {
      Vec<R> some[together] = {};
      for (end = k + stretch < depth ? k + stretch : depth; k < end; ++k)
#pragma GCC unroll 4
        for (Index j = 0; j < together; ++j)
          if (j < n) {
            prefetch_row(rows, k, depth, from + j * U);
            const Vec<R> v = load(rows[k] + from + j * U, width - from - j * U);
            store(packed + (j * depth + k) * U, v);
            some[j] += v;
          }
      for (Index j = 0; j < together; ++j) total[j] += some[j];
    }
    for (Index j = 0; j < n; ++j) {
      const Index at = (first + j) * U;
      const Vec<R> before = load(sum + at), added = total[j] - load(excess + at), after = before + added;
      store(sum + at, after);
      store(excess + at, after - after == Vec<R>{} ? after - before - added : Vec<R>{});  // none of an infinity
    }
  }
}

// Some rows of B, which is `width` wide, in wide panels of its columns.
template <class R>
void pack_columns(const R* const* rows, Range some, const WidePanels<R>& layout, Index width, R* to) {
  for (Index q = 0; q < layout.count; q += wide) {
    const Index row = layout.row(q), column = q * lanes<R>;
    R* packed = to + layout.start(q) + some.first * row;
    for (Index k = some.first; k < some.last; ++k, packed += row)
      for (Index j = 0; j < row; j += lanes<R>) {
        prefetch_row(rows, k, some.last, column + j);
        store(packed + j, load(rows[k] + column + j, width - column - j));
      }
  }
}

}  // namespace fastrnn::FASTRNN_ISA
