// The matrix product, once: C += A W with W packed in panels.
//
// A panel is NV vectors wide and K rows deep. Every output has one accumulator and adds its K
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

template <class R>
struct Panels {
  const R* w;      // [count, K, row]: of each row the first NV vectors
  Index row;       // from k to k
  Index stride;    // from panel to panel
  Index count;
  Index column;    // of C that the first panel gives
  Index columns;   // from panel to panel in C
  Index width;     // of C: the last panel may hang over
  const R* bias;   // what each row of C starts from, or null: C itself
};

// Sums of a tile in registers; what is left is for W and A to pass through.
constexpr int most_sums = vector_registers == 32 ? 24 : 12;

// Rows of a full tile.
template <int NV>
constexpr int tile_rows = NV == 3 ? most_sums / NV : 6;

// Vectors of a panel that a tile of MR rows takes at once: all, or where those do not fit two after two.
template <int MR, int NV>
constexpr int tile_vectors = MR * NV > most_sums ? 2 : NV;

// Panels side by side in a tile of MR rows: few rows need several, or the FMA's latency shows.
template <int MR, int NV>
constexpr int tile_panels() {
  const int fit = most_sums / (MR * NV);
  return fit >= 8 && NV == 1 ? 8 : fit >= 4 ? 4 : fit >= 2 ? 2 : 1;
}

template <class R, int MR, int N>
struct Accumulators {
  Vec<R> c[MR][N];
};

// acc[i][j] += a[i] * w[j] over K, for NP panels of NV vectors. Meanwhile the outer caches get ready what is next, for
// each k a line.
template <int STEP, int NP, int NV, class R, int MR>
FASTRNN_INLINE void multiply(Accumulators<R, MR, NP * NV>& acc, const R* const* rows, const Runs& runs,
                             const R* w, const Panels<R>& panels, const char* next) {
  constexpr Index line = 64;
  // For the nearest cache. Half of the lines: on a core that is shared each instruction more costs as much as it gains.
  // A packed A goes with panels that are there already, and few rows wait for the cache behind, whatever is asked for.
  constexpr bool fetch_near = STEP == 1 && MR > 3;
  constexpr int N = NP * NV;
  const Index row = panels.row, stride = panels.stride;
  const R* near = w + 16 * row;
  // Ends of rows and a k that counts up to 0: with eight rows, no integer register is left for a bound.
  const R* a[MR];
#pragma GCC unroll 16
  for (int i = 0; i < MR; ++i) a[i] = rows[i] + runs.length * STEP;
  for (Index run = 0; run < runs.count; ++run) {
    for (Index k = -runs.length; k < 0; ++k, w += row, near += row) {
      const auto at = [&](int j) { return (j / NV) * stride + (j % NV) * lanes<R>; };
      __builtin_prefetch(next, 0, 2);
      next += line;
#pragma GCC unroll 16
      for (int j = 0; j < N && fetch_near; j += 2) __builtin_prefetch(near + at(j));
      // The shorter side stays in registers beside the sums: 12 of them leave 4 of 16.
      if constexpr (MR <= N) {
        Vec<R> ak[MR];
#pragma GCC unroll 16
        for (int i = 0; i < MR; ++i) ak[i] = splat(a[i][k * STEP]);
#pragma GCC unroll 16
        for (int j = 0; j < N; ++j) {
          const Vec<R> wk = load(w + at(j));
#pragma GCC unroll 16
          for (int i = 0; i < MR; ++i) acc.c[i][j] = fma(ak[i], wk, acc.c[i][j]);
        }
      } else {
        Vec<R> wk[N];
#pragma GCC unroll 16
        for (int j = 0; j < N; ++j) wk[j] = load(w + at(j));
#pragma GCC unroll 16
        for (int i = 0; i < MR; ++i) {
          const Vec<R> ak = splat(a[i][k * STEP]);
#pragma GCC unroll 16
          for (int j = 0; j < N; ++j) acc.c[i][j] = fma(ak, wk[j], acc.c[i][j]);
        }
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

// `valid` columns of C exist: where all do, the compiler knows.
template <int STEP, int MR, int NP, int NV, class R>
FASTRNN_INLINE void compute(const Tile<R, MR>& t, const Runs& runs, const Panels<R>& panels, const char* next,
                            Index valid) {
  Accumulators<R, MR, NP * NV> acc;
  const auto at = [&](int j) { return (j / NV) * panels.columns + (j % NV) * lanes<R>; };
#pragma GCC unroll 16
  for (int i = 0; i < MR; ++i)
#pragma GCC unroll 16
    for (int j = 0; j < NP * NV; ++j) acc.c[i][j] = load((t.bias ? t.bias : t.c[i]) + at(j), valid - at(j));
  multiply<STEP, NP, NV>(acc, t.a, runs, t.w, panels, next);
#pragma GCC unroll 16
  for (int i = 0; i < MR; ++i)
#pragma GCC unroll 16
    for (int j = 0; j < NP * NV; ++j) store(t.c[i] + at(j), acc.c[i][j], valid - at(j));
}

// Depth of the part of NV vectors of panels that is taken at once: it stays near while rows pass. Nearer where A is
// packed and each of its lines serves one k.
template <int STEP, int NV>
constexpr Index slice_depth = (STEP == 1 ? 2048 : 1024) / NV;

// Blocks of rows: `many` of MR, then `less` of MR - 1, so that no block is left with a few.
template <class R>
struct Blocks {
  const R* const* a;
  R* const* c;
  Index rows, many, less;

  FASTRNN_INLINE R* const* end() const { return c + rows; }
};

// One slice of NV vectors of each of NP panels, for MR rows.
template <int STEP, int MR, int NP, int NV, class R>
FASTRNN_INLINE void tile_at(const R* const* a, Index offset, R* const* c, const R* w, const R* bias, const Runs& slice,
                            const Panels<R>& panels, Index column, const char* next) {
  const Index valid = panels.width - column;
  constexpr Index all = Index(1) << 40;
  Tile<R, MR> t;
#pragma GCC unroll 16
  for (int i = 0; i < MR; ++i) t.a[i] = a[i] + offset, t.c[i] = c[i] + column;
  t.w = w, t.bias = bias ? bias + column : nullptr;
  if (valid >= (NP - 1) * panels.columns + NV * lanes<R>)
    compute<STEP, MR, NP, NV, R>(t, slice, panels, next, all);
  else
    compute<STEP, MR, NP, NV, R>(t, slice, panels, next, valid);
}

// Asks for what the next tile adds to: its sums would wait for a far cache before the first product. Behind the last
// row comes the first one, of the next panels.
template <int MR, int NP, int NV, class R>
FASTRNN_INLINE void fetch_sums(const Blocks<R>& blocks, R* const* c, const Panels<R>& panels, Index column) {
  if (c == blocks.end()) c = blocks.c, column += NP * panels.columns;
  for (int i = 0; i < MR && c + i < blocks.end(); ++i)
#pragma GCC unroll 16
    for (int j = 0; j < NP * NV; ++j)
      __builtin_prefetch(c[i] + column + (j / NV) * panels.columns + (j % NV) * lanes<R>, 1, 2);
}

// One slice of NV vectors of each of NP panels, for all rows.
template <int STEP, int MR, int NP, int NV, class R>
FASTRNN_INLINE void block_rows(const Blocks<R>& blocks, Index offset, const R* w, const R* bias, const Runs& slice,
                               const Panels<R>& panels, Index column, const char* next) {
  const Index share = slice.depth() * NP * NV * vector_bytes / (blocks.many + blocks.less);  // of the next slice
  const R* const* a = blocks.a;
  R* const* c = blocks.c;
  for (Index m = 0; m < blocks.many; ++m, a += MR, c += MR, next += share) {
    fetch_sums<MR, NP, NV>(blocks, c + MR, panels, column);
    tile_at<STEP, MR, NP, NV, R>(a, offset, c, w, bias, slice, panels, column, next);
  }
  if constexpr (MR > 1)
    for (Index m = 0; m < blocks.less; ++m, a += MR - 1, c += MR - 1, next += share) {
      fetch_sums<MR - 1, NP, NV>(blocks, c + MR - 1, panels, column);
      tile_at<STEP, MR - 1, NP, NV, R>(a, offset, c, w, bias, slice, panels, column, next);
    }
}

// All rows times NP panels from p on. While the rows of one slice pass, the next is fetched from the outer caches.
template <int STEP, int MR, int NP, int NV, class R>
FASTRNN_INLINE void panel_group(const Blocks<R>& blocks, const Runs& runs, const Panels<R>& panels, Index p) {
  constexpr int at_once = tile_vectors<MR, NV>;
  const R* bias = panels.bias;
  for (Index k = 0, depth; k < runs.depth(); k += depth, bias = nullptr) {
    const Runs slice = runs.after(k, slice_depth<STEP, NP * NV>);
    depth = slice.depth();
    const R* w = panels.w + p * panels.stride + k * panels.row;
    const Index offset = runs.offset(k) * STEP, column = panels.column + p * panels.columns;
    const char* next = reinterpret_cast<const char*>(w + depth * NP * NV * lanes<R>);
    for (int v = 0; v < NV; v += at_once, next += depth * NP * at_once * vector_bytes)
      block_rows<STEP, MR, NP, at_once, R>(blocks, offset, w + v * lanes<R>, bias, slice, panels,
                                           column + v * lanes<R>, next);
  }
}

// The panels are the outer loop: one stays near while rows pass. What is left goes in smaller and smaller groups.
template <int STEP, int MR, int NP, int NV, class R>
FASTRNN_INLINE void panel_groups(const Blocks<R>& blocks, const Runs& runs, const Panels<R>& panels, Index p) {
  for (; p + NP <= panels.count; p += NP) panel_group<STEP, MR, NP, NV, R>(blocks, runs, panels, p);
  if constexpr (NP > 1) panel_groups<STEP, MR, NP / 2, NV, R>(blocks, runs, panels, p);
}

template <int STEP, int MR, int NV, class R>
void row_blocks(const Blocks<R>& blocks, const Runs& runs, const Panels<R>& panels) {
  constexpr int NP = STEP == 1 ? tile_panels<MR, NV>() : 1;  // a packed A has rows enough
  panel_groups<STEP, MR, NP, NV, R>(blocks, runs, panels, 0);
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
  largest_block<STEP, most, NV, R>(largest, {a, c, rows, count - less, less}, runs, panels);
}

// Compiled in gemm.cpp, which takes longer than all cells do.
#define FASTRNN_GEMM(NV, STEP, R) \
  template void gemm<NV, STEP, R>(const R* const*, R* const*, Index, const Runs&, const Panels<R>&)
#define FASTRNN_GEMMS(prefix, R)                                                                                  \
  prefix FASTRNN_GEMM(1, 1, R); prefix FASTRNN_GEMM(2, 1, R); prefix FASTRNN_GEMM(3, 1, R); prefix FASTRNN_GEMM(4, 1, R); \
  prefix FASTRNN_GEMM(1, lanes<R>, R); prefix FASTRNN_GEMM(2, lanes<R>, R); prefix FASTRNN_GEMM(3, lanes<R>, R);  \
  prefix FASTRNN_GEMM(4, lanes<R>, R)
FASTRNN_GEMMS(extern, float);
FASTRNN_GEMMS(extern, double);

// The same for panels of `vectors` vectors, at most `most`.
template <int most, int STEP = 1, class R>
FASTRNN_INLINE void gemm_of(Index vectors, const R* const* a, R* const* c, Index rows, const Runs& runs,
                            const Panels<R>& panels) {
  if constexpr (most > 0) {
    if (vectors == most)
      gemm<most, STEP>(a, c, rows, runs, panels);
    else
      gemm_of<most - 1, STEP>(vectors, a, c, rows, runs, panels);
  }
}

// ---- panels as wide as tiles are, for a matrix of vectors of columns without groups of their own

constexpr Index wide = 4;  // vectors

// Where vector q of `count` stands in each row, and how rows of its panel follow: [count / wide, K, wide, U], the
// last panel as narrow as what is left.
template <class R>
struct WidePanels {
  Index count, K;

  Index panels() const { return (count + wide - 1) / wide; }
  Index row(Index q) const {
    const Index left = count - q / wide * wide;
    return (left < wide ? left : wide) * lanes<R>;
  }
  Index start(Index q) const { return q / wide * wide * K * lanes<R> + q % wide * lanes<R>; }
};

// The columns of C that a product gives, and how wide C is: see Panels.
template <class R>
struct Columns {
  Index first, last;  // in vectors
  Index width;
  const R* bias;
};

// C[m] += A[m] W for some columns, with the rows of W from `from` on.
template <int STEP = 1, class R>
void gemm_wide(const R* const* a, R* const* c, Index rows, const Runs& runs, const R* w, Index from,
               const WidePanels<R>& layout, const Columns<R>& columns) {
  const Index last = columns.last;
  for (Index q = columns.first, next; q < last; q = next) {
    next = q / wide * wide + wide < last ? q / wide * wide + wide : last;
    Panels<R> panels{w + layout.start(q) + from * layout.row(q), layout.row(q), 0, 1, q * lanes<R>, 0,
                     columns.width, columns.bias};
    const Index vectors = next - q;
    if (vectors == wide) {
      panels.count = (last - q) / wide;
      panels.stride = wide * layout.K * lanes<R>;
      panels.columns = wide * lanes<R>;
      next = q + panels.count * wide;
    }
    gemm_of<wide, STEP>(vectors, a, c, rows, runs, panels);
  }
}

}  // namespace fastrnn::FASTRNN_ISA
