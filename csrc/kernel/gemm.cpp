// The product's tiles, for every height, width and dtype: a unit of their own, so that an edit of a cell does not compile
// them again.
#if FASTRNN_APPLIES  // to the processor that this is compiled for
#include "gemm.h"

#include <utility>

namespace fastrnn::FASTRNN_ISA {
namespace {

// Of weights that are stored in another format there are tiles for a few rows only, as many as there are, and less code.
template <class W, class R>
constexpr bool narrow = !std::is_same_v<W, R>;

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
template <int STEP, int NP, int NV, class R, int MR, class W>
FASTRNN_INLINE void multiply(Accumulators<R, MR, NP * NV>& acc, const R* const* rows, const Runs& runs,
                             const W* w, const Panels<R>& panels, const char* next) {
  constexpr Index line = 64;
  // For the nearest cache. Half of the lines: on a core that is shared each instruction more costs as much as it gains.
  // A packed A goes with panels that are there already, and few rows wait for the cache behind, whatever is asked for.
  constexpr bool fetch_near = STEP == 1 && MR > 3;
  constexpr int N = NP * NV;
  const Index row = panels.row, stride = panels.stride;
  const W* near = w + 16 * row;
  // Ends of rows and a k that counts up to 0: with eight rows, no integer register is left for a bound.
  const R* a[MR];
#pragma GCC unroll 16
  for (int i = 0; i < MR; ++i) a[i] = rows[i] + runs.length * STEP;
  for (Index run = 0; run < runs.count; ++run) {
    for (Index k = -runs.length; k < 0; ++k, w += row, near += row) {
      const auto at = [&](int j) { return (j / NV) * stride + (j % NV) * lanes<R>; };
      const auto weights = [&](int j) { return Row<W>::at(w + (j / NV) * stride, j % NV, NV); };
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
          const Vec<R> wk = weights(j);
#pragma GCC unroll 16
          for (int i = 0; i < MR; ++i) acc.c[i][j] = fma(ak[i], wk, acc.c[i][j]);
        }
      } else {
        Vec<R> wk[N];
#pragma GCC unroll 16
        for (int j = 0; j < N; ++j) wk[j] = weights(j);
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
template <class R, class W, int MR>
struct Tile {
  const R* a[MR];
  R* c[MR];
  const W* w;
  const R* bias;
};

// `valid` columns of C exist, or all: then the compiler knows it where that makes a difference.
template <int STEP, int MR, int NP, int NV, class R, class W>
FASTRNN_INLINE void compute(const Tile<R, W, MR>& t, const Runs& runs, const Panels<R>& panels, const char* next,
                            bool whole, Index valid) {
  Accumulators<R, MR, NP * NV> acc;
  const auto at = [&](int j) { return (j / NV) * panels.columns + (j % NV) * lanes<R>; };
  Lanes<R> some[NP * NV];
#pragma GCC unroll 16
  for (int j = 0; j < NP * NV; ++j) some[j] = whole ? all_lanes<R> : lanes_below<R>(valid - at(j));
#pragma GCC unroll 16
  for (int i = 0; i < MR; ++i)
#pragma GCC unroll 16
    for (int j = 0; j < NP * NV; ++j) acc.c[i][j] = load((t.bias ? t.bias : t.c[i]) + at(j), some[j]);
  multiply<STEP, NP, NV>(acc, t.a, runs, t.w, panels, next);
#pragma GCC unroll 16
  for (int i = 0; i < MR; ++i)
#pragma GCC unroll 16
    for (int j = 0; j < NP * NV; ++j) store(t.c[i] + at(j), acc.c[i][j], some[j]);
}

// Depth of the part of NV vectors of panels that is taken at once: it stays near while rows pass. Nearer where A is
// packed and each of its lines serves one k.
template <int STEP, int NV>
constexpr Index slice_depth = (STEP == 1 ? 2048 : 1024) / NV;

// One slice of NV vectors of each of NP panels, for MR rows.
template <int STEP, int MR, int NP, int NV, class R, class W>
FASTRNN_INLINE void tile_at(const R* const* a, Index offset, R* const* c, const W* w, const R* bias, const Runs& slice,
                            const Panels<R>& panels, Index column, const char* next) {
  const Index valid = panels.width - column;
  Tile<R, W, MR> t;
#pragma GCC unroll 16
  for (int i = 0; i < MR; ++i) t.a[i] = a[i] + offset, t.c[i] = c[i] + column;
  t.w = w, t.bias = bias ? bias + column : nullptr;
  const bool whole = valid >= (NP - 1) * panels.columns + NV * lanes<R>;
  if constexpr (!cheap_masks && !narrow<W, R>)
    if (whole) return compute<STEP, MR, NP, NV>(t, slice, panels, next, true, valid);
  compute<STEP, MR, NP, NV>(t, slice, panels, next, cheap_masks && whole, valid);
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
template <int STEP, int MR, int NP, int NV, class R, class W>
FASTRNN_INLINE void block_rows(const Blocks<R>& blocks, Index offset, const W* w, const R* bias, const Runs& slice,
                               const Panels<R>& panels, Index column, const char* next) {
  const Index share = slice.depth() * NP * NV * lanes<R> * Index(sizeof(W)) / (blocks.many + blocks.less);  // of the next slice
  const R* const* a = blocks.a;
  R* const* c = blocks.c;
  for (Index m = 0; m < blocks.many; ++m, a += MR, c += MR, next += share) {
    fetch_sums<MR, NP, NV>(blocks, c + MR, panels, column);
    tile_at<STEP, MR, NP, NV>(a, offset, c, w, bias, slice, panels, column, next);
  }
  if constexpr (MR > 1 && !narrow<W, R>)
    for (Index m = 0; m < blocks.less; ++m, a += MR - 1, c += MR - 1, next += share) {
      fetch_sums<MR - 1, NP, NV>(blocks, c + MR - 1, panels, column);
      tile_at<STEP, MR - 1, NP, NV>(a, offset, c, w, bias, slice, panels, column, next);
    }
}

// All rows times NP panels from p on. While the rows of one slice pass, the next is fetched from the outer caches.
template <int STEP, int MR, int NP, int NV, class W, class R>
FASTRNN_INLINE void panel_group(const Blocks<R>& blocks, const Runs& runs, const Panels<R>& panels, Index p) {
  constexpr int at_once = tile_vectors<MR, NV>;
  const R* bias = panels.bias;
  for (Index k = 0, depth; k < runs.depth(); k += depth, bias = nullptr) {
    const Runs slice = runs.after(k, slice_depth<STEP, NP * NV>);
    depth = slice.depth();
    const W* const first = static_cast<const W*>(panels.w);
    const W* w = first + p * panels.stride + k * panels.row;
    const Index offset = runs.offset(k) * STEP, column = panels.column + p * panels.columns;
    const bool turn = panels.stride < 0 && k + depth == runs.depth();
    const W* following = turn ? first + (p + 2 * NP - 1) * panels.stride : w + depth * NP * NV * lanes<R>;
    const char* next = reinterpret_cast<const char*>(following);
    for (int v = 0; v < NV; v += at_once, next += depth * NP * at_once * lanes<R> * Index(sizeof(W)))
      block_rows<STEP, MR, NP, at_once>(blocks, offset, w + v * lanes<R>, bias, slice, panels,
                                           column + v * lanes<R>, next);
  }
}

// The panels are the outer loop: one stays near while rows pass. What is left goes in smaller and smaller groups; of one
// row, which waits for the FMA's latency in each, at once. Of narrow weights one by one.
template <int STEP, int MR, int NP, int NV, class W, class R>
FASTRNN_INLINE void panel_groups(const Blocks<R>& blocks, const Runs& runs, const Panels<R>& panels, Index p) {
  for (; p + NP <= panels.count; p += NP) panel_group<STEP, MR, NP, NV, W>(blocks, runs, panels, p);
  constexpr int fewer = narrow<W, R> ? 1 : MR * NV == 1 ? NP - 1 : NP / 2;
  if constexpr (NP > 1) panel_groups<STEP, MR, fewer, NV, W>(blocks, runs, panels, p);
}

template <int STEP, int MR, int NV, class W, class R>
void row_blocks(const Blocks<R>& blocks, const Runs& runs, const Panels<R>& panels) {
  constexpr int NP = STEP == 1 ? tile_panels<MR, NV>() : 1;  // a packed A has rows enough
  panel_groups<STEP, MR, NP, NV, W>(blocks, runs, panels, 0);
}

template <int STEP, int NV, class R, class W, std::size_t... less>
constexpr std::array<RowBlocks<R>, sizeof...(less)> heights(std::index_sequence<less...>) {
  return {row_blocks<STEP, int(less) + 1, NV, W, R>...};
}

constexpr int most_narrow_rows = 4;  // for which weights are widened in registers

// Panels of W, piece after piece widened for up to so many rows at once.
template <class W, int NV>
void multiply_widened(const float* const* a, float* const* c, Index rows, Index K, const Panels<float>& panels) {
  constexpr Index depth = 128, most = 64;
  alignas(64) float piece[depth * NV * lanes<float>];
  const float* from[most];
  for (Index m = 0; m < rows; m += most, a += most, c += most) {
    const Index count = rows - m < most ? rows - m : most;
    for (Index p = 0; p < panels.count; ++p) {
      const W* w = static_cast<const W*>(panels.w) + p * panels.stride;
      for (Index k = 0; k < K; k += depth) {
        const Index left = K - k < depth ? K - k : depth;
        float* to = piece;
        for (Index i = 0; i < left; ++i, w += panels.row)
          for (int j = 0; j < NV; ++j, to += lanes<float>) store(to, Row<W>::at(w, j, NV));
        for (Index i = 0; i < count; ++i) from[i] = a[i] + k;
        gemm<NV>(from, c, count, {1, left, 0},
                 Panels<float>{piece, NV * lanes<float>, 0, 1, panels.column + p * panels.columns, 0, panels.width,
                               k ? nullptr : panels.bias});
      }
    }
  }
}

template <int most, class W>
void multiply_stored(Index vectors, const float* const* a, float* const* c, Index rows, Index K,
                     const Panels<float>& panels) {
  if constexpr (most > 0) {
    if (vectors != most) return multiply_stored<most - 1, W>(vectors, a, c, rows, K, panels);
    if (rows > most_narrow_rows) return multiply_widened<W, most>(a, c, rows, K, panels);
    static constexpr auto tiles = heights<1, most, float, W>(std::make_index_sequence<most_narrow_rows>());
    if (rows) tiles[rows - 1]({a, c, rows, 1, 0}, {1, K, 0}, panels);
  }
}

}  // namespace

template <int NV, int STEP, class R>
constinit const std::array<RowBlocks<R>, most_rows<NV>> Tiles<NV, STEP, R>::of =
    heights<STEP, NV, R, R>(std::make_index_sequence<most_rows<NV>>());

#define FASTRNN_TILES(STEP, R)    \
  template struct Tiles<1, STEP, R>; \
  template struct Tiles<2, STEP, R>; \
  template struct Tiles<3, STEP, R>; \
  template struct Tiles<4, STEP, R>
FASTRNN_TILES(1, float);
FASTRNN_TILES(1, double);
FASTRNN_TILES(lanes<float>, float);
FASTRNN_TILES(lanes<double>, double);

void multiply_narrow(Format format, Index vectors, const float* const* a, float* const* c, Index rows, Index K,
                     const Panels<float>& panels) {
  if (format == Format::float16) return multiply_stored<wide, Half>(vectors, a, c, rows, K, panels);
  if (format == Format::bfloat16) return multiply_stored<wide, BFloat16>(vectors, a, c, rows, K, panels);
  multiply_quantized(format, vectors, a, c, rows, K, panels);
}

}  // namespace fastrnn::FASTRNN_ISA

#endif
