// The product's tiles, for every height, width and dtype: a unit of their own, so that an edit of a cell does not compile
// them again.
#if FASTRNN_APPLIES  // to the processor that this is compiled for
#include "gemm.h"

#include <utility>

namespace fastrnn::FASTRNN_ISA {
namespace {

// Vectors of a panel that a tile of MR rows takes at once: all, or where those do not fit two after two.
template <int MR, int NV>
constexpr int tile_vectors = MR * NV > most_sums ? 2 : NV;

// Panels side by side in a tile of MR rows: few rows need several, or the FMA's latency shows. Not more than that takes:
// of a matrix that goes back and forth through the nearest cache, what was last stays there in whole tiles.
template <int MR, int NV>
constexpr int tile_panels() {
  const int fit = most_sums / (MR * NV);
  return fit >= 8 && NV == 1 ? 8 : fit >= 4 && NV < 4 ? 4 : fit >= 2 ? 2 : 1;
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
    const bool turn = panels.stride < 0 && k + depth == runs.depth();
    const R* following = turn ? panels.w + (p + 2 * NP - 1) * panels.stride : w + depth * NP * NV * lanes<R>;
    const char* next = reinterpret_cast<const char*>(following);
    for (int v = 0; v < NV; v += at_once, next += depth * NP * at_once * vector_bytes)
      block_rows<STEP, MR, NP, at_once, R>(blocks, offset, w + v * lanes<R>, bias, slice, panels,
                                           column + v * lanes<R>, next);
  }
}

// The panels are the outer loop: one stays near while rows pass. What is left goes in smaller and smaller groups; of one
// row, which waits for the FMA's latency in each, at once.
template <int STEP, int MR, int NP, int NV, class R>
FASTRNN_INLINE void panel_groups(const Blocks<R>& blocks, const Runs& runs, const Panels<R>& panels, Index p) {
  for (; p + NP <= panels.count; p += NP) panel_group<STEP, MR, NP, NV, R>(blocks, runs, panels, p);
  if constexpr (NP > 1) panel_groups<STEP, MR, MR * NV == 1 ? NP - 1 : NP / 2, NV, R>(blocks, runs, panels, p);
}

template <int STEP, int MR, int NV, class R>
void row_blocks(const Blocks<R>& blocks, const Runs& runs, const Panels<R>& panels) {
  constexpr int NP = STEP == 1 ? tile_panels<MR, NV>() : 1;  // a packed A has rows enough
  panel_groups<STEP, MR, NP, NV, R>(blocks, runs, panels, 0);
}

template <int STEP, int NV, class R, std::size_t... less>
constexpr std::array<RowBlocks<R>, sizeof...(less)> heights(std::index_sequence<less...>) {
  return {row_blocks<STEP, int(less) + 1, NV, R>...};
}

}  // namespace

template <int NV, int STEP, class R>
constinit const std::array<RowBlocks<R>, most_rows<NV>> Tiles<NV, STEP, R>::of =
    heights<STEP, NV, R>(std::make_index_sequence<most_rows<NV>>());

#define FASTRNN_TILES(STEP, R)    \
  template struct Tiles<1, STEP, R>; \
  template struct Tiles<2, STEP, R>; \
  template struct Tiles<3, STEP, R>; \
  template struct Tiles<4, STEP, R>
FASTRNN_TILES(1, float);
FASTRNN_TILES(1, double);
FASTRNN_TILES(lanes<float>, float);
FASTRNN_TILES(lanes<double>, double);

}  // namespace fastrnn::FASTRNN_ISA

#endif
