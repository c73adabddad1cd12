// Sums of outer products over many rows, as the weights' gradients are: C[j] += sum over k of A[k, j] B[k].
// `depth` rows at a time are packed so that both sides are read in order; C takes their sum up in between.
#pragma once

#include "gemm.h"

namespace fastrnn::FASTRNN_ISA {

constexpr Index outer_depth = 128;
constexpr int outer_columns = 4;  // vectors in a panel of B

// Memory that one call of add_outer works in.
template <class R>
constexpr Index outer_panel = outer_depth * outer_columns * lanes<R>;

// `valid` columns of the rows as a block [count, U]; what they add up to goes to `sum` [U].
template <class R>
void pack_block(const R* const* rows, Index count, Index column, int valid, R* sum, R* packed) {
  Vec<R> total = load(sum);
  for (Index k = 0; k < count; ++k, packed += lanes<R>) {
    const Vec<R> v = load(rows[k] + column, valid);
    store(packed, v);
    total += v;
  }
  store(sum, total);
}

// A panel of columns [count, outer_columns * U], of rows of `width`.
template <class R>
void pack_columns(const R* const* rows, Index count, Index column, Index width, R* packed) {
  constexpr Index whole = outer_columns * lanes<R>;
  const Index valid = width - column < whole ? width - column : whole;
  for (Index k = 0; k < count; ++k, packed += whole) {
    const R* from = rows[k] + column;
    if (valid == whole) {
      for (int j = 0; j < outer_columns; ++j) store(packed + j * lanes<R>, load(from + j * lanes<R>));
    } else {
      for (Index j = 0; j < whole; ++j) packed[j] = j < valid ? from[j] : R(0);
    }
  }
}

// Row c[m] of C, of `width`, gets lane a[m] of a packed block times the rows of B.
template <class R>
void add_outer(const R* const* a, R* const* c, Index n, const R* const* rows, Index count, Index width, R* panel) {
  constexpr Index whole = outer_columns * lanes<R>;
  for (Index q = 0; q * whole < width; ++q) {
    pack_columns(rows, count, q * whole, width, panel);
    gemm<outer_columns, lanes<R>>(a, c, n, {1, count, 0}, Panels<R>{panel, 0, q, q + 1, whole, width, nullptr});
  }
}

}  // namespace fastrnn::FASTRNN_ISA
