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

  Index depth() const { return count * length; }
  // What follows the first k of them: whole runs, or a part of the only one, about `most` deep.
  Runs after(Index k, Index most) const {
    if (count == 1) return {1, length - k < most ? length - k : most, 0};
    const Index left = count - k / length, whole = most < length ? 1 : most / length;
    return {left < whole ? left : whole, length, stride};
  }
  Index offset(Index k) const { return count == 1 ? k : k / length * stride; }
};

// Memory that the outer caches should get ready while a tile is at work: `pace` bytes for each k.
struct Ahead {
  const char* next;
  Index pace;
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
                             const R* w, Index stride, Ahead outer) {
  constexpr Index ahead = 16;  // rows of a panel, for the nearest cache
  const R* a[MR];
#pragma GCC unroll 16
  for (int i = 0; i < MR; ++i) a[i] = rows[i];
  for (Index run = 0; run < runs.count; ++run) {
    for (Index k = 0; k < runs.length; ++k, w += NV * lanes<R>) {
      Vec<R> ak[MR];
#pragma GCC unroll 16
      for (int i = 0; i < MR; ++i) ak[i] = splat(a[i][k * STEP]);
      __builtin_prefetch(outer.next, 0, 2);
      __builtin_prefetch(outer.next + 64, 0, 2);
      outer.next += outer.pace;
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

// A tile of C: rows of A and C, the panels' first vectors and what C starts from, if not from itself.
template <class R, int MR>
struct Tile {
  const R* a[MR];
  R* c[MR];
  const R* w;
  const R* bias;
};

template <int STEP, int MR, int NP, int NV, class R>
FASTRNN_INLINE void compute(const Tile<R, MR>& t, const Runs& runs, const Panels<R>& panels, Ahead outer) {
  const Index columns = panels.columns;
  Accumulators<R, MR, NP * NV> acc;
#pragma GCC unroll 16
  for (int i = 0; i < MR; ++i) {
    const R* from = t.bias ? t.bias : t.c[i];
#pragma GCC unroll 16
    for (int j = 0; j < NP * NV; ++j) acc.c[i][j] = load(from + (j / NV) * columns + (j % NV) * lanes<R>);
  }
  multiply<STEP, NP, NV>(acc, t.a, runs, t.w, panels.stride, outer);
#pragma GCC unroll 16
  for (int i = 0; i < MR; ++i)
#pragma GCC unroll 16
    for (int j = 0; j < NP * NV; ++j) store(t.c[i] + (j / NV) * columns + (j % NV) * lanes<R>, acc.c[i][j]);
}

// The same where C ends within the tile: on a copy, of which `valid` columns go back.
template <int STEP, int MR, int NP, int NV, class R>
void compute_edge(Tile<R, MR> t, const Runs& runs, const Panels<R>& panels, Index valid) {
  alignas(vector_bytes) R copy[MR][NP * NV * lanes<R>] = {};
  Tile<R, MR> inner = t;
  inner.bias = nullptr;
  for (int i = 0; i < MR; ++i) {
    inner.c[i] = copy[i];
    for (Index j = 0; j < valid; ++j) copy[i][j] = t.bias ? t.bias[j] : t.c[i][j];
  }
  compute<STEP, MR, NP, NV, R>(inner, runs, panels, {reinterpret_cast<const char*>(t.w), 0});
  for (int i = 0; i < MR; ++i)
    for (Index j = 0; j < valid; ++j) t.c[i][j] = copy[i][j];
}

// Depth of the part of NV vectors of panels that is taken at once: it stays near while rows pass.
template <int NV>
constexpr Index slice_depth = 2048 / NV;

// Blocks of rows: `many` of MR, then `less` of MR - 1, so that no block is left with a few.
template <class R>
struct Blocks {
  const R* const* a;
  R* const* c;
  Index many, less;
};

// One slice of NP panels from p on, for MR rows.
template <int STEP, int MR, int NP, int NV, class R>
FASTRNN_INLINE void tile_at(const R* const* a, Index offset, R* const* c, const R* w, const R* bias, const Runs& slice,
                            const Panels<R>& panels, Index p, Ahead outer) {
  const Index column = p * panels.columns, valid = panels.width - column;
  Tile<R, MR> t;
#pragma GCC unroll 16
  for (int i = 0; i < MR; ++i) t.a[i] = a[i] + offset, t.c[i] = c[i] + column;
  t.w = w, t.bias = bias ? bias + column : nullptr;
  if (valid < NP * NV * lanes<R>)
    compute_edge<STEP, MR, NP, NV, R>(t, slice, panels, valid);
  else
    compute<STEP, MR, NP, NV, R>(t, slice, panels, outer);
}

// All rows times NP panels from p on. While the rows of one slice pass, the next is fetched from the outer caches.
template <int STEP, int MR, int NP, int NV, class R>
FASTRNN_INLINE void panel_group(const Blocks<R>& blocks, const Runs& runs, const Panels<R>& panels, Index p) {
  const R* bias = panels.bias;
  for (Index k = 0, depth; k < runs.depth(); k += depth, bias = nullptr) {
    const Runs slice = runs.after(k, slice_depth<NP * NV>);
    depth = slice.depth();
    const R* w = panels.w + p * panels.stride + k * NV * lanes<R>;
    const Index offset = runs.offset(k) * STEP, pace = NP * NV * vector_bytes / (blocks.many + blocks.less);
    Ahead outer{reinterpret_cast<const char*>(w + depth * NP * NV * lanes<R>), pace};
    const R* const* a = blocks.a;
    R* const* c = blocks.c;
    for (Index m = 0; m < blocks.many; ++m, a += MR, c += MR, outer.next += depth * pace)
      tile_at<STEP, MR, NP, NV, R>(a, offset, c, w, bias, slice, panels, p, outer);
    if constexpr (MR > 1)
      for (Index m = 0; m < blocks.less; ++m, a += MR - 1, c += MR - 1, outer.next += depth * pace)
        tile_at<STEP, MR - 1, NP, NV, R>(a, offset, c, w, bias, slice, panels, p, outer);
  }
}

// The panels are the outer loop: one stays near while rows pass.
template <int STEP, int MR, int NV, class R>
void row_blocks(const Blocks<R>& blocks, const Runs& runs, const Panels<R>& panels) {
  constexpr int NP = tile_panels<MR, NV>();
  Index p = panels.first;
  for (; p + NP <= panels.last; p += NP) panel_group<STEP, MR, NP, NV, R>(blocks, runs, panels, p);
  if constexpr (NP > 1)
    for (; p < panels.last; ++p) panel_group<STEP, MR, 1, NV, R>(blocks, runs, panels, p);
}

template <int STEP, int MR, int NV, class R>
FASTRNN_INLINE void largest_block(Index largest, const Blocks<R>& blocks, const Runs& runs, const Panels<R>& panels) {
  if constexpr (MR > 0) {
    if (largest == MR)
      row_blocks<STEP, MR, NV, R>(blocks, runs, panels);
    else
      largest_block<STEP, MR - 1, NV, R>(largest, blocks, runs, panels);
  }
}

// C[m] += A[m] W for the rows that a and c point to. Elements of A that follow in k stand STEP apart.
template <int NV, int STEP = 1, class R>
void gemm(const R* const* a, R* const* c, Index rows, const Runs& runs, const Panels<R>& panels) {
  constexpr int most = tile_rows<NV>;
  if (rows == 0) return;
  const Index count = (rows + most - 1) / most, largest = (rows + count - 1) / count;
  const Index less = count * largest - rows;
  largest_block<STEP, most, NV, R>(largest, {a, c, count - less, less}, runs, panels);
}

}  // namespace fastrnn::FASTRNN_ISA
