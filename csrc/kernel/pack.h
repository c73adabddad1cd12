// Weights in the order in which the products read them, and gradients back in PyTorch's.
#pragma once

#include "cell.h"
#include "gemm.h"
#include "quantized.h"
#include "share.h"

namespace fastrnn::FASTRNN_ISA {

// The lanes of block u that are among H units.
template <class R>
FASTRNN_INLINE int units_in(Index u, Index H) {
  const Index left = H - u * lanes<R>;
  return left < lanes<R> ? int(left) : lanes<R>;
}

// From U rows of K numbers, or `count` of them, those at k and after it: block[i] holds the rows' numbers at k + i.
template <class R>
FASTRNN_INLINE void transposed_block(const R* from, Index K, Index k, int count, Vec<R> (&block)[lanes<R>]) {
  const int valid = units_in<R>(k / lanes<R>, K);
  for (Index lane = 0; lane < lanes<R>; ++lane) block[lane] = lane < count ? load(from + lane * K + k, valid) : Vec<R>{};
  transpose<R>(block);
}

// Rows of weights [count, K] that become columns of a stored panel.
template <class R>
struct StoredColumns {
  Format format;
  const R* w;
  Index K;
  int count;
};

// Those from k0 to k1, in whole vectors and in order, into the panel's columns from `column` on: in pack.cpp.
template <class R>
void store_columns(const StoredColumns<R>& columns, Index k0, Index k1, char* panel, Index row, Index column);

// How slots, gates and rows of PyTorch's weights belong together, for cell C.
template <class C, class R>
struct Layout {
  static constexpr Index G = C::gates, S = C::slots, U = lanes<R>;
  static constexpr Index x_slot = 0, h_slot = S - G;  // the first that the input and the recurrence feed

  Index H;

  Index units() const { return (H + U - 1) / U; }
  Index whole_units() const { return H / U; }
  Index row() const { return padded(S * H, U); }
  int width(Index u) const { return units_in<R>(u, H); }

  // Where a slot of block u begins in a row.
  Index at(Index u, Index slot) const { return u * S * U + slot * width(u); }
  // Numbers of the panel of block u for each k, which holds `count` slots.
  Index panel_row(Index u, Index count = G) const { return padded(count * width(u), U); }

  Index weight_row(Index slot, Index u) const { return C::gate(int(slot)) * H + u * U; }

  // Calls fn(u, width) for blocks of units; the compiler knows the width of all but the last.
  template <class F>
  FASTRNN_INLINE void each(Range units, const F& fn) const {
    const Index whole = whole_units();
    for (Index u = units.first; u < units.last && u < whole; ++u) fn(u, int(U));
    if (units.last > whole) fn(whole, width(whole));
  }

  struct Place {
    Index slot, unit;
  };
  // What stands in a column of a row; slot S where nothing does.
  Place place(Index column) const {
    const Index whole = whole_units() * S * U, left = H % U;
    if (column < whole) return {column / U % S, column / (S * U) * U + column % U};
    return {(column - whole) / left, H - left + (column - whole) % left};
  }

  // Where the panel of block u begins in a stored matrix of K rows.
  static Index panel_at(Format format, Index K, Index u, Index slots) { return u * slots * U * column_bytes<R>(format, K); }

  // The rows of w [G*H, K] for `slots` slots from first_slot on -> their panel of block u in the stored matrix.
  void pack(Format format, const R* w, Index K, Index first_slot, Index slots, Index u, char* stored) const {
    constexpr Index stretch = 16 * U;  // of k: short enough that all gates' numbers meet in a near cache
    const int count = width(u);
    for (Index k = 0; k < K; k += stretch)
      for (Index g = 0; g < slots; ++g)
        store_columns<R>({.format = format, .w = w + weight_row(first_slot + g, u) * K, .K = K, .count = count},
                         k, k + stretch < K ? k + stretch : K, stored + panel_at(format, K, u, slots),
                         panel_row(u, slots), g * count);
  }

  // The rows of w [G*H, N] for some slots, in their order -> wide panel p of its columns: K = slots*H
  WidePanels<R> transposed(Index N, Index slots = G) const { return {(N + U - 1) / U, slots * H}; }

  void pack_transposed(const R* w, Index N, Index first_slot, Index slots, Index p, R* packed) const {
    const WidePanels<R> panels = transposed(N, slots);
    const Index q = p * wide, row = panels.row(q);
    packed += panels.start(q);
    for (Index u = 0; u < units(); ++u)
      for (Index g = 0; g < slots; ++g) {
        const R* from = w + weight_row(first_slot + g, u) * N + q * U;
        for (Index lane = 0; lane < width(u); ++lane, from += N, packed += row)
          for (Index j = 0; j < row; j += U) store(packed + j, load(from + j, N - q * U - j));
      }
  }

  // b_ih + b_hh in the slots that both feed, each alone where only one does.
  void pack_bias(const R* b_ih, const R* b_hh, Index u, R* bias) const {
    const int count = width(u);
    for (Index slot = 0; slot < S; ++slot) {
      Vec<R> sum{};
      if (b_ih && slot < G) sum += load(b_ih + weight_row(slot, u), count);
      if (b_hh && slot >= h_slot) sum += load(b_hh + weight_row(slot, u), count);
      store(bias + at(u, slot), sum, count);
    }
  }

  // The panel of block u [K, panel_row(u)] -> dw [G*H, K], for the slots of the input.
  void unpack(const R* packed, Index K, Index u, R* dw) const {
    const int count = width(u);
    for (Index g = 0; g < G; ++g)
      for (Index k = 0; k < K; k += U) {
        const int valid = units_in<R>(k / U, K);
        Vec<R> block[U];
        for (Index i = 0; i < U; ++i)
          block[i] = i < valid ? load(packed + (k + i) * panel_row(u) + g * count, count) : Vec<R>{};
        transpose<R>(block);
        for (Index lane = 0; lane < count; ++lane)
          store(dw + (weight_row(x_slot + g, u) + lane) * K + k, block[lane], valid);
      }
  }
};

// A product without a cell.
struct OneGate {
  static constexpr int gates = 1, slots = 1;
  static constexpr int gate(int) { return 0; }
};

}  // namespace fastrnn::FASTRNN_ISA
