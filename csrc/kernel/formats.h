// What weights are stored as where that is narrower than what is computed with: widened exactly on the way into a
// register. Weights are finite.
#pragma once

#include "simd.h"

namespace fastrnn::FASTRNN_ISA {

struct Half {
  std::uint16_t bits;
};
struct BFloat16 {
  std::uint16_t bits;
};

using Words = std::uint16_t __attribute__((vector_size(vector_bytes / 2)));  // of 16 bits, one for each lane of float
using UnalignedWords = std::uint16_t __attribute__((vector_size(vector_bytes / 2), aligned(2), may_alias));

FASTRNN_INLINE Words words(const void* p) { return *static_cast<const UnalignedWords*>(p); }
FASTRNN_INLINE Int<float> zero_extended(Words w) {
#if defined(__AVX512F__)
  return (Int<float>)_mm512_cvtepu16_epi32((__m256i)w);
#elif defined(__AVX2__)
  return (Int<float>)_mm256_cvtepu16_epi32((__m128i)w);  // which GCC does not see in a conversion
#else
  return __builtin_convertvector(w, Int<float>);
#endif
}

FASTRNN_INLINE Vec<float> widened(const Half* p) {
#if defined(__AVX512F__)
  return _mm512_cvtph_ps((__m256i)words(p));
#elif defined(__F16C__)
  return _mm256_cvtph_ps((__m128i)words(p));
#elif defined(__aarch64__)
  return vcvt_f32_f16(vreinterpret_f16_u16((uint16x4_t)words(p)));
#else
  // Another bias of the exponent; below the least one a fixed point, which no conversion takes for a denormal number.
  const Int<float> bits = zero_extended(words(p)), rest = bits & 0x7fff, sign = (bits & 0x8000) << 16;
  const Int<float> normal = (rest << 13) + (112 << 23);
  const Vec<float> fixed = __builtin_convertvector(rest, Vec<float>) * 0x1p-24f;
  return (Vec<float>)((rest < 0x400 ? (Int<float>)fixed : normal) | sign);
#endif
}

// To nearest, ties to even; of what was widened, the same again.
FASTRNN_INLINE Words narrowed(Vec<float> v, BFloat16) {
  const Int<float> bits = (Int<float>)v;
  return __builtin_convertvector((bits + 0x7fff + ((bits >> 16) & 1)) >> 16, Words);
}

FASTRNN_INLINE Words narrowed(Vec<float> v, Half) {
#if defined(__AVX512F__)
  return (Words)_mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT);
#elif defined(__F16C__)
  return (Words)_mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT);
#elif defined(__aarch64__)
  return (Words)vreinterpret_u16_f16(vcvt_f16_f32(v));
#else
  // The sum with a power of two has the last bit that stays where a float has its last one.
  const Int<float> bits = (Int<float>)v, rest = bits & 0x7fffffff;
  const Int<float> normal = (rest + 0xfff + ((rest >> 13) & 1) - (112 << 23)) >> 13;
  const Int<float> fixed = (Int<float>)((Vec<float>)rest + 0.5f) - (Int<float>)(Vec<float>{} + 0.5f);
  return __builtin_convertvector((rest < (113 << 23) ? fixed : normal) | ((bits >> 16) & 0x8000), Words);
#endif
}

// Rows of panels, as each format has them: vector `v` of `vectors` of one, and where a column stands.

template <class W>
struct Row {
  static FASTRNN_INLINE Vec<W> at(const W* row, int v, int) { return load(row + v * lanes<W>); }
  static FASTRNN_INLINE void put(W* row, Index column, Index, Vec<W> v, Index count) { store(row + column, v, count); }
};

template <>
struct Row<Half> {
  static FASTRNN_INLINE Vec<float> at(const Half* row, int v, int) { return widened(row + v * lanes<float>); }
  static void put(Half* row, Index column, Index, Vec<float> v, Index count) {
    const Words all = narrowed(v, Half());
    for (Index i = 0; i < count; ++i) row[column + i].bits = all[i];
  }
};

// Two vectors lie lane by lane side by side: so each takes one operation to widen.
template <>
struct Row<BFloat16> {
  static FASTRNN_INLINE Vec<float> at(const BFloat16* row, int v, int vectors) {
    const BFloat16* p = row + v / 2 * 2 * lanes<float>;
    if (v % 2 == 0 && v + 1 == vectors) return (Vec<float>)(zero_extended(words(p)) << 16);
    const auto both = (Int<float>)load(reinterpret_cast<const float*>(p));
    return (Vec<float>)(v % 2 ? both & ~0xffff : both << 16);
  }
  static void put(BFloat16* row, Index column, Index vectors, Vec<float> numbers, Index count) {
    const Words all = narrowed(numbers, BFloat16());
    for (Index i = 0; i < count; ++i, ++column) {
      const Index v = column / lanes<float>, lane = column % lanes<float>;
      const bool alone = v % 2 == 0 && v + 1 == vectors;
      row[v / 2 * 2 * lanes<float> + (alone ? lane : 2 * lane + v % 2)].bits = all[i];
    }
  }
};

}  // namespace fastrnn::FASTRNN_ISA
