// Products of int8 weights with rows that are made integers on the way, of 16 bits or of 8. The sum of a block is exact,
// whoever adds it up: so it is the same on every ISA, for any number of rows and threads.
#if FASTRNN_APPLIES  // to the processor that this is compiled for
#include "quantized.h"

#include "gemm.h"

namespace fastrnn::FASTRNN_ISA {
namespace {

using Ints = Int<float>;
using Unsigned = std::uint32_t __attribute__((vector_size(vector_bytes)));  // sums wrap around on the way
using Shorts = std::int16_t __attribute__((vector_size(vector_bytes)));
using OfInts = std::int32_t __attribute__((vector_size(vector_bytes), aligned(4), may_alias));

constexpr Index quad = 4;  // neighbours in k, whose weights lie side by side

FASTRNN_INLINE Unsigned splat_bytes(const void* four) {
  std::uint32_t bits;
  __builtin_memcpy(&bits, four, sizeof(bits));
  return bits - Unsigned{};
}

// Sums of neighbours' products.
FASTRNN_INLINE Ints madd(Shorts a, Shorts b) {
#if defined(__AVX512BW__)
  return (Ints)_mm512_madd_epi16((__m512i)a, (__m512i)b);
#elif defined(__AVX2__)
  return (Ints)_mm256_madd_epi16((__m256i)a, (__m256i)b);
#elif defined(__SSE2__)
  return (Ints)_mm_madd_epi16((__m128i)a, (__m128i)b);
#elif defined(__aarch64__)
  return (Ints)vpaddq_s32(vmull_s16(vget_low_s16((int16x8_t)a), vget_low_s16((int16x8_t)b)),
                          vmull_high_s16((int16x8_t)a, (int16x8_t)b));
#else
  Ints sum{};
  for (int i = 0; i < lanes<float>; ++i) sum[i] = a[2 * i] * b[2 * i] + a[2 * i + 1] * b[2 * i + 1];
  return sum;
#endif
}

// Ways to multiply: each has rows, weights and sums as it reads them.

// Weights are widened to 16 bits, those of even k and those of odd.
struct Pairs {
  struct Row {
    alignas(64) std::int16_t of[int8_block];  // of each quad 0 2 1 3
  };
  struct Quad {
    Shorts even, odd;
  };
  using Weights = Quad;
  using Sums = Unsigned;

  static FASTRNN_INLINE void put(Row& row, Index k, Ints v) {
    using Narrow = std::int16_t __attribute__((vector_size(vector_bytes / 2), aligned(2), may_alias));
    const auto all = __builtin_convertvector(v, Narrow);
    for (Index i = 0; i < lanes<float>; i += quad)
      for (Index n = 0; n < quad; ++n) row.of[k + i + n / 2 + n % 2 * 2] = all[i + n];
  }
  static FASTRNN_INLINE Quad quad_at(const Row& row, Index k) {
    return {(Shorts)splat_bytes(row.of + k), (Shorts)splat_bytes(row.of + k + 2)};
  }
  static FASTRNN_INLINE Weights weights_at(const char* w) {
    const auto both = (Shorts)load(reinterpret_cast<const float*>(w));
    return {(Shorts)((both << 8) >> 8), (Shorts)(both >> 8)};
  }
  static FASTRNN_INLINE void add(Sums& sum, const Quad& a, const Weights& w) {
    sum += (Unsigned)madd(a.even, w.even) + (Unsigned)madd(a.odd, w.odd);
  }
  static FASTRNN_INLINE Ints total(Sums sum, Unsigned) { return (Ints)sum; }
};

#if defined(__AVX512F__)
// Four products of bytes without a sign with weights at once, which those processors have that the kernels ask for it. So
// the rows' integers are moved up by half of their range, and what the weights' sum makes of that is taken away again.
FASTRNN_INLINE Unsigned dot(Unsigned sum, Unsigned a, __m512i w) {
  asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(a), "v"(w));
  return sum;
}

template <int bits>
struct Dots {
  struct Row {
    alignas(64) std::uint8_t high[int8_block], low[bits == 16 ? int8_block : 1];
  };
  struct Quad {
    Unsigned high, low;
  };
  using Weights = __m512i;
  struct Sums {
    Unsigned high, low;
  };

  static FASTRNN_INLINE void put(Row& row, Index k, Ints v) {
    const __m512i moved = (__m512i)(v + (bits == 16 ? 32768 : 128));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(row.high + k), _mm512_cvtepi32_epi8(_mm512_srli_epi32(moved, bits - 8)));
    if (bits == 16) _mm_storeu_si128(reinterpret_cast<__m128i*>(row.low + k), _mm512_cvtepi32_epi8(moved));
  }
  static FASTRNN_INLINE Quad quad_at(const Row& row, Index k) {
    return {splat_bytes(row.high + k), bits == 16 ? splat_bytes(row.low + k) : Unsigned{}};
  }
  static FASTRNN_INLINE Weights weights_at(const char* w) { return _mm512_loadu_si512(w); }
  static FASTRNN_INLINE void add(Sums& sums, const Quad& a, const Weights& w) {
    sums.high = dot(sums.high, a.high, w);
    if (bits == 16) sums.low = dot(sums.low, a.low, w);
  }
  static FASTRNN_INLINE Ints total(const Sums& sums, Unsigned weights) {
    if (bits == 8) return (Ints)(sums.high - (weights << 7));
    return (Ints)((sums.high << 8) + sums.low - (weights << 15));
  }
};
#endif

constexpr Index most = 4;        // rows of a tile
constexpr Index most_taken = 32;  // rows that are integers at a time

// Rows of a tile.
template <class Way>
struct Rows {
  const typename Way::Row* row;
  const float* scale;
};

// The next rows, and what a block of k of each is as integers.
template <class Way>
struct Activations {
  typename Way::Row row[most_taken];
  float factor[most_taken], scale[most_taken];

  void take(const float* const* a, Index rows, Index K, float largest) {
    for (Index m = 0; m < rows; ++m) {
      Ints above{};
      for (Index k = 0; k < K; k += lanes<float>) {
        const Ints size = (Ints)load(a[m] + k, K - k) & 0x7fffffff;
        above = size > above ? size : above;
      }
      std::int32_t bits = 0;
      for (int i = 0; i < lanes<float>; ++i) bits = above[i] > bits ? above[i] : bits;
      float top;
      __builtin_memcpy(&top, &bits, sizeof(top));
      const bool none = top < 1e-30f;
      factor[m] = none ? 0 : largest / top;
      scale[m] = none ? 0 : bits >= 0x7f800000 ? __builtin_nanf("") : top / largest;
    }
  }

  void quantize(const float* const* a, Index rows, Index k0, Index depth) {
    for (Index m = 0; m < rows; ++m)
      for (Index k = 0; k < depth; k += lanes<float>)
        Way::put(row[m], k, nearest(load(a[m] + k0 + k, depth - k) * splat(factor[m])));
  }
};

// A block of a panel: its quads, scales and the sum of its weights.
struct Block {
  const char* quads;
  const float* scales;
  const std::int32_t* sums;
};

// NP panels of NV vectors, for MR rows.
template <class Way, int MR, int NP, int NV>
FASTRNN_INLINE void tile(const Rows<Way>& rows, float* const* c, const Block& block, Index depth,
                         const Panels<float>& panels, Index column, const float* bias) {
  constexpr int N = NP * NV;
  const auto panel = [&](int j) { return j / NV * panels.stride; };
  typename Way::Sums sums[MR][N];
#pragma GCC unroll 16
  for (int i = 0; i < MR; ++i)
#pragma GCC unroll 16
    for (int j = 0; j < N; ++j) sums[i][j] = typename Way::Sums{};
  const char* w = block.quads;
  for (Index k = 0; k < depth; k += quad, w += panels.row * quad) {
    const auto weights = [&](int j) { return Way::weights_at(w + panel(j) + j % NV * vector_bytes); };
    // The shorter side stays in registers beside the sums.
    if constexpr (MR < N) {
      typename Way::Quad a[MR];
#pragma GCC unroll 16
      for (int i = 0; i < MR; ++i) a[i] = Way::quad_at(rows.row[i], k);
#pragma GCC unroll 16
      for (int j = 0; j < N; ++j) {
        const typename Way::Weights wk = weights(j);
#pragma GCC unroll 16
        for (int i = 0; i < MR; ++i) Way::add(sums[i][j], a[i], wk);
      }
    } else {
      typename Way::Weights wk[N];
#pragma GCC unroll 16
      for (int j = 0; j < N; ++j) wk[j] = weights(j);
#pragma GCC unroll 16
      for (int i = 0; i < MR; ++i) {
        const typename Way::Quad a = Way::quad_at(rows.row[i], k);
#pragma GCC unroll 16
        for (int j = 0; j < N; ++j) Way::add(sums[i][j], a, wk[j]);
      }
    }
  }
#pragma GCC unroll 16
  for (int j = 0; j < N; ++j) {
    const auto at = [&](const void* of) { return static_cast<const char*>(of) + panel(j) + j % NV * vector_bytes; };
    const Vec<float> scales = load(reinterpret_cast<const float*>(at(block.scales)));
    const auto weights = (Unsigned)*reinterpret_cast<const OfInts*>(at(block.sums));
    const Index to = column + j / NV * panels.columns + j % NV * lanes<float>, valid = panels.width - to;
#pragma GCC unroll 16
    for (int i = 0; i < MR; ++i) {
      const Vec<float> sum = __builtin_convertvector(Way::total(sums[i][j], weights), Vec<float>);
      const Vec<float> z = load((bias ? bias : c[i]) + to, valid);
      store(c[i] + to, fma(sum, scales * splat(rows.scale[i]), z), valid);
    }
  }
}

template <int MR>
constexpr int vectors_at_once = 8 / MR;

template <class Way, int MR, int NV>
void all_panels(const Rows<Way>& rows, float* const* c, Index k0, Index K, const Panels<float>& panels) {
  constexpr int fit = vectors_at_once<MR>, parts = (NV + fit - 1) / fit, vectors = (NV + parts - 1) / parts;
  constexpr int NP = NV < fit ? fit / NV : 1;
  const Index depth = K - k0 < int8_block ? K - k0 : int8_block, row = panels.row;
  const char* w = static_cast<const char*>(panels.w);
  const float* bias = k0 ? nullptr : panels.bias;
  const auto block = [&](Index p, int v) -> Block {
    const QuadPanel parts(w + p * panels.stride, K, row);
    const Index first = v * lanes<float>;
    return {reinterpret_cast<const char*>(parts.quads + k0 / quad * row + first), parts.scales + first,
            parts.sums + k0 / int8_block * row + first};
  };
  const auto column = [&](Index p, int v) { return panels.column + p * panels.columns + v * lanes<float>; };
  Index p = 0;
  if constexpr (NP > 1)
    for (; p + NP <= panels.count; p += NP)
      tile<Way, MR, NP, NV>(rows, c, block(p, 0), depth, panels, column(p, 0), bias);
  for (; p < panels.count; ++p) {
    int v = 0;
    for (; v + vectors <= NV; v += vectors)
      tile<Way, MR, 1, vectors>(rows, c, block(p, v), depth, panels, column(p, v), bias);
    if constexpr (NV % vectors != 0)
      tile<Way, MR, 1, NV % vectors>(rows, c, block(p, v), depth, panels, column(p, v), bias);
  }
}

template <class Way, int MR>
void of_rows(Index count, Index vectors, const Rows<Way>& rows, float* const* c, Index k0, Index K,
             const Panels<float>& panels) {
  if constexpr (MR > 0) {
    if (count < MR) return of_rows<Way, MR / 2>(count, vectors, rows, c, k0, K, panels);
    if (vectors == 1) return all_panels<Way, MR, 1>(rows, c, k0, K, panels);
    if (vectors == 2) return all_panels<Way, MR, 2>(rows, c, k0, K, panels);
    if (vectors == 3) return all_panels<Way, MR, 3>(rows, c, k0, K, panels);
    all_panels<Way, MR, 4>(rows, c, k0, K, panels);
  }
}

template <class Way>
void multiply(float largest, Index vectors, const float* const* a, float* const* c, Index rows, Index K,
              const Panels<float>& panels) {
  Activations<Way> activations;
  for (Index taken; rows > 0; rows -= taken, a += taken, c += taken) {
    taken = rows < most_taken ? rows : most_taken;
    activations.take(a, taken, K, largest);
    // Where there are many rows, a few panels at a time stay near while they pass.
    const Index at_once = taken > most ? (most + vectors - 1) / vectors : panels.count;
    for (Index k0 = 0; k0 < K; k0 += int8_block) {
      activations.quantize(a, taken, k0, K - k0 < int8_block ? K - k0 : int8_block);
      Panels<float> some = panels;
      for (Index left = panels.count; left > 0; left -= at_once) {
        some.count = left < at_once ? left : at_once;
        for (Index m = 0, count; m < taken; m += count) {
          count = taken - m >= most ? most : taken - m >= 2 ? 2 : 1;
          of_rows<Way, most>(count, vectors, {activations.row + m, activations.scale + m}, c + m, k0, K, some);
        }
        some.w = static_cast<const char*>(some.w) + at_once * some.stride;
        some.column += at_once * some.columns;
      }
    }
  }
}

}  // namespace

void multiply_quantized(Format format, Index vectors, const float* const* a, float* const* c, Index rows, Index K,
                        const Panels<float>& panels) {
  const bool wide = format == Format::int8;
#if defined(__AVX512F__)
  if (has_dot_products()) {
    if (wide) return multiply<Dots<16>>(32767, vectors, a, c, rows, K, panels);
    return multiply<Dots<8>>(127, vectors, a, c, rows, K, panels);
  }
#endif
  multiply<Pairs>(wide ? 32767 : 127, vectors, a, c, rows, K, panels);
}

}  // namespace fastrnn::FASTRNN_ISA

#endif
