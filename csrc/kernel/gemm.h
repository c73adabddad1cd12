// The matrix product, once: C += A W with W packed in panels.
//
// A panel is NV vectors wide and K rows deep, [K, NV*lanes]. Every output has one accumulator and adds its K
// products in order, whatever the tile that it falls in: so a result does not depend on how rows and panels
// are shared out or how K is cut.
#pragma once

#include "simd.h"

namespace fastrnn::FASTRNN_ISA {

// The columns of A that count: `count` runs of `length`, their starts `stride` apart.
struct Runs {
  Index count, length, stride;
};

template <class R>
struct Panels {
  const R* w;     // [panels, K, NV*lanes]
  Index stride;   // from panel to panel in w
  Index first, last;
  Index columns;  // from panel to panel in C
  Index width;    // of C: the last panel may hang over
  const R* bias;  // what each row of C starts from, or null: C itself
};

// Rows of a full tile: with NV columns of vectors it fills the registers, less what W and A pass through.
template <int NV>
constexpr int tile_rows = vector_registers == 32 ? (NV == 3 ? 8 : 6) : (NV == 3 ? 4 : 3);

// Panels side by side in a tile of MR rows: few rows need several, or the FMA's latency shows.
template <int MR, int NV>
constexpr int tile_panels() {
  const int fit = tile_rows<NV> * (NV == 1 ? 4 : NV) / (MR * NV);
  return fit >= 8 && NV == 1 ? 8 : fit >= 4 ? 4 : fit >= 2 ? 2 : 1;
}

template <class R, int MR, int N>
struct Accumulators {
  Vec<R> c[MR][N];
};

// acc[i][j] += a[i] * w[j] over K, for NP panels of NV vectors `stride` apart.
template <int STEP, int NP, int NV, class R, int MR>
FASTRNN_INLINE void multiply(Accumulators<R, MR, NP * NV>& acc, const R* const* rows, const Runs& runs,
                             const R* w, Index stride) {
  constexpr Index ahead = 16;  // rows of a panel: where weights come from the outer caches it gains a quarter
  const R* a[MR];
#pragma GCC unroll 16
  for (int i = 0; i < MR; ++i) a[i] = rows[i];
  for (Index run = 0; run < runs.count; ++run) {
    for (Index k = 0; k < runs.length; ++k, w += NV * lanes<R>) {
      Vec<R> ak[MR];
#pragma GCC unroll 16
      for (int i = 0; i < MR; ++i) ak[i] = splat(a[i][k * STEP]);
#pragma GCC unroll 16
      for (int j = 0; j < NP * NV; ++j) {
        const Vec<R> wk = load(w + (j / NV) * stride + (j % NV) * lanes<R>);
        __builtin_prefetch(w + (j / NV) * stride + (j % NV) * lanes<R> + ahead * NV * lanes<R>);
#pragma GCC unroll 16
        for (int i = 0; i < MR; ++i) acc.c[i][j] = fma(ak[i], wk, acc.c[i][j]);
      }
    }
#pragma GCC unroll 16
    for (int i = 0; i < MR; ++i) a[i] += runs.stride;
  }
}

// The tile at panel p, between rows of C that stand `columns` apart from panel to panel.
template <int STEP, int MR, int NP, int NV, class R>
FASTRNN_INLINE void tile(const R* const* a, R* const* c, const R* bias, const Runs& runs, const Panels<R>& panels,
                         Index p) {
  const Index columns = panels.columns;
  Accumulators<R, MR, NP * NV> acc;
#pragma GCC unroll 16
  for (int i = 0; i < MR; ++i) {
    const R* from = bias ? bias : c[i];
#pragma GCC unroll 16
    for (int j = 0; j < NP * NV; ++j) acc.c[i][j] = load(from + (j / NV) * columns + (j % NV) * lanes<R>);
  }
  multiply<STEP, NP, NV>(acc, a, runs, panels.w + p * panels.stride, panels.stride);
#pragma GCC unroll 16
  for (int i = 0; i < MR; ++i)
#pragma GCC unroll 16
    for (int j = 0; j < NP * NV; ++j) store(c[i] + (j / NV) * columns + (j % NV) * lanes<R>, acc.c[i][j]);
}

// The same where C ends within the tile: on a copy, of which `valid` columns go back.
template <int STEP, int MR, int NP, int NV, class R>
void edge_tile(const R* const* a, R* const* c, const R* bias, const Runs& runs, const Panels<R>& panels, Index p,
               Index valid) {
  alignas(vector_bytes) R copy[MR][NP * NV * lanes<R>] = {};
  R* rows[MR];
  for (int i = 0; i < MR; ++i) {
    rows[i] = copy[i];
    for (Index j = 0; j < valid; ++j) copy[i][j] = bias ? bias[j] : c[i][j];
  }
  tile<STEP, MR, NP, NV, R>(a, rows, nullptr, runs, panels, p);
  for (int i = 0; i < MR; ++i)
    for (Index j = 0; j < valid; ++j) c[i][j] = copy[i][j];
}

template <int STEP, int MR, int NP, int NV, class R>
FASTRNN_INLINE void tile_at(const R* const* a, R* const* c, const Runs& runs, const Panels<R>& panels, Index p) {
  const Index column = p * panels.columns;
  R* rows[MR];
#pragma GCC unroll 16
  for (int i = 0; i < MR; ++i) rows[i] = c[i] + column;
  const R* bias = panels.bias ? panels.bias + column : nullptr;
  if (panels.width - column < NP * NV * lanes<R>)
    edge_tile<STEP, MR, NP, NV, R>(a, rows, bias, runs, panels, p, panels.width - column);
  else
    tile<STEP, MR, NP, NV, R>(a, rows, bias, runs, panels, p);
}

// `count` blocks of MR rows. The panels are the outer loop: one stays in the nearest cache while rows pass.
template <int STEP, int MR, int NV, class R>
void row_blocks(const R* const* a, R* const* c, Index count, const Runs& runs, const Panels<R>& panels) {
  constexpr int NP = tile_panels<MR, NV>();
  Index p = panels.first;
  for (; p + NP <= panels.last; p += NP)
    for (Index m = 0; m < count; ++m) tile_at<STEP, MR, NP, NV, R>(a + m * MR, c + m * MR, runs, panels, p);
  if constexpr (NP > 1)
    for (; p < panels.last; ++p)
      for (Index m = 0; m < count; ++m) tile_at<STEP, MR, 1, NV, R>(a + m * MR, c + m * MR, runs, panels, p);
}

// Fewer rows than a full tile has.
template <int STEP, int MR, int NV, class R>
FASTRNN_INLINE void rows_left(const R* const* a, R* const* c, Index rows, const Runs& runs,
                              const Panels<R>& panels) {
  if constexpr (MR > 0) {
    if (rows == MR)
      row_blocks<STEP, MR, NV, R>(a, c, 1, runs, panels);
    else
      rows_left<STEP, MR - 1, NV, R>(a, c, rows, runs, panels);
  }
}

// C[m] += A[m] W for the rows that a and c point to. Elements of A that follow in k stand STEP apart.
template <int NV, int STEP = 1, class R>
void gemm(const R* const* a, R* const* c, Index rows, const Runs& runs, const Panels<R>& panels) {
  constexpr int MR = tile_rows<NV>;
  const Index blocks = rows / MR;
  row_blocks<STEP, MR, NV, R>(a, c, blocks, runs, panels);
  rows_left<STEP, MR - 1, NV, R>(a + blocks * MR, c + blocks * MR, rows - blocks * MR, runs, panels);
}

}  // namespace fastrnn::FASTRNN_ISA
