// The compilers' vector types, and the few operations that they do not spell.
//
// This file is compiled once per ISA. The width follows the compiler's flags; arithmetic, comparison and
// `mask ? a : b` on Vec<R> come from the language. Contraction is off (-ffp-contract=off) and fma() is
// explicit, so that one expression gives the same bits wherever it is inlined.
#pragma once

#include "../fastrnn.h"

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace fastrnn::FASTRNN_ISA {

#if defined(__AVX512F__)
constexpr int vector_bytes = 64, vector_registers = 32;
#elif defined(__AVX2__)
constexpr int vector_bytes = 32, vector_registers = 16;
#elif defined(__aarch64__)
constexpr int vector_bytes = 16, vector_registers = 32;
#else
constexpr int vector_bytes = 16, vector_registers = 16;
#endif

template <class R>
struct Simd;

template <>
struct Simd<float> {
  typedef float Vec __attribute__((vector_size(vector_bytes)));
  typedef std::int32_t Int __attribute__((vector_size(vector_bytes)));
  typedef float Unaligned __attribute__((vector_size(vector_bytes), aligned(4), may_alias));
};

template <>
struct Simd<double> {
  typedef double Vec __attribute__((vector_size(vector_bytes)));
  typedef std::int64_t Int __attribute__((vector_size(vector_bytes)));
  typedef double Unaligned __attribute__((vector_size(vector_bytes), aligned(8), may_alias));
};

template <class R>
using Vec = typename Simd<R>::Vec;  // `lanes<R>` numbers

template <class R>
using Int = typename Simd<R>::Int;  // integers of the same width: what a comparison gives

template <class R>
constexpr int lanes = vector_bytes / int(sizeof(R));

template <class R>
FASTRNN_INLINE Vec<R> splat(R value) {
  return value - Vec<R>{};
}

template <class R>
FASTRNN_INLINE Vec<R> load(const R* p) {
  return *reinterpret_cast<const typename Simd<R>::Unaligned*>(p);
}

template <class R>
FASTRNN_INLINE void store(R* p, Vec<R> v) {
  *reinterpret_cast<typename Simd<R>::Unaligned*>(p) = v;
}

// Which lanes are among the first `count`.
template <class R>
FASTRNN_INLINE Int<R> first_lanes(int count) {
  Int<R> lane{};
  for (int i = 0; i < lanes<R>; ++i) lane[i] = i;
  return lane < count - Int<R>{};
}

// The first `count` numbers; the other lanes are 0 and their memory is not touched.
template <class R>
FASTRNN_INLINE Vec<R> load(const R* p, Index count) {
  if (count >= lanes<R>) return load(p);
#if defined(__AVX512F__)
  const unsigned mask = count > 0 ? (1u << count) - 1 : 0;
  if constexpr (sizeof(R) == 4)
    return _mm512_maskz_loadu_ps(__mmask16(mask), p);
  else
    return _mm512_maskz_loadu_pd(__mmask8(mask), p);
#elif defined(__AVX2__)
  const auto mask = (__m256i)first_lanes<R>(int(count));
  if constexpr (sizeof(R) == 4)
    return _mm256_maskload_ps(p, mask);
  else
    return _mm256_maskload_pd(p, mask);
#else
  Vec<R> v{};
  for (int i = 0; i < lanes<R>; ++i)
    if (i < count) v[i] = p[i];
  return v;
#endif
}

template <class R>
FASTRNN_INLINE void store(R* p, Vec<R> v, Index count) {
  if (count >= lanes<R>) return store(p, v);
#if defined(__AVX512F__)
  const unsigned mask = count > 0 ? (1u << count) - 1 : 0;
  if constexpr (sizeof(R) == 4)
    _mm512_mask_storeu_ps(p, __mmask16(mask), v);
  else
    _mm512_mask_storeu_pd(p, __mmask8(mask), v);
#elif defined(__AVX2__)
  const auto mask = (__m256i)first_lanes<R>(int(count));
  if constexpr (sizeof(R) == 4)
    _mm256_maskstore_ps(p, mask, v);
  else
    _mm256_maskstore_pd(p, mask, v);
#else
  for (int i = 0; i < lanes<R>; ++i)
    if (i < count) p[i] = v[i];
#endif
}

// Some of a vector's lanes, the first ones, as loads and stores take them: where those have masks, one way does for any
// number.
#if defined(__AVX512F__)
constexpr bool cheap_masks = true;
template <class R>
struct Lanes {
  std::uint16_t bits;
};
template <class R>
constexpr Lanes<R> all_lanes{0xffff};
template <class R>
FASTRNN_INLINE Lanes<R> lanes_below(Index count) {
  return {std::uint16_t(count >= 16 ? 0xffff : count > 0 ? (1 << count) - 1 : 0)};
}
FASTRNN_INLINE Vec<float> load(const float* p, Lanes<float> some) { return _mm512_maskz_loadu_ps(some.bits, p); }
FASTRNN_INLINE Vec<double> load(const double* p, Lanes<double> some) { return _mm512_maskz_loadu_pd(__mmask8(some.bits), p); }
FASTRNN_INLINE void store(float* p, Vec<float> v, Lanes<float> some) { _mm512_mask_storeu_ps(p, some.bits, v); }
FASTRNN_INLINE void store(double* p, Vec<double> v, Lanes<double> some) { _mm512_mask_storeu_pd(p, __mmask8(some.bits), v); }
#else
constexpr bool cheap_masks = false;
template <class R>
using Lanes = Index;
template <class R>
constexpr Lanes<R> all_lanes = Index(1) << 40;
template <class R>
FASTRNN_INLINE Lanes<R> lanes_below(Index count) { return count; }
#endif

// a0 b0 a1 b1 ... of the lower and of the upper halves of a and b.
template <class R>
FASTRNN_INLINE Vec<R> interleave_low(Vec<R> a, Vec<R> b) {
  if constexpr (lanes<R> == 2)
    return __builtin_shufflevector(a, b, 0, 2);
  else if constexpr (lanes<R> == 4)
    return __builtin_shufflevector(a, b, 0, 4, 1, 5);
  else if constexpr (lanes<R> == 8)
    return __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11);
  else
    return __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
}

template <class R>
FASTRNN_INLINE Vec<R> interleave_high(Vec<R> a, Vec<R> b) {
  if constexpr (lanes<R> == 2)
    return __builtin_shufflevector(a, b, 1, 3);
  else if constexpr (lanes<R> == 4)
    return __builtin_shufflevector(a, b, 2, 6, 3, 7);
  else if constexpr (lanes<R> == 8)
    return __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15);
  else
    return __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
}

// Rows become columns. A round of interleaving rotates the bits of (row, column) by one place.
template <class R>
FASTRNN_INLINE void transpose(Vec<R> (&v)[lanes<R>]) {
  constexpr int half = lanes<R> / 2;
#pragma GCC unroll 4
  for (int round = 1; round < lanes<R>; round *= 2) {
    Vec<R> turned[lanes<R>];
#pragma GCC unroll 8
    for (int i = 0; i < half; ++i) {
      turned[2 * i] = interleave_low<R>(v[i], v[i + half]);
      turned[2 * i + 1] = interleave_high<R>(v[i], v[i + half]);
    }
#pragma GCC unroll 16
    for (int i = 0; i < lanes<R>; ++i) v[i] = turned[i];
  }
}

// The nearest integers, of two that are equally near the even one, of numbers within 2^22.
FASTRNN_INLINE Int<float> nearest(Vec<float> v) {
  const Vec<float> rounds = splat(0x1.8p23f);  // whose last bit is 1
  return (Int<float>)(v + rounds) - (Int<float>)rounds;
}

// a b + c with one rounding, where the ISA can.
FASTRNN_INLINE Vec<float> fma(Vec<float> a, Vec<float> b, Vec<float> c) {
#if defined(__AVX512F__)
  return _mm512_fmadd_ps(a, b, c);
#elif defined(__FMA__)
  return _mm256_fmadd_ps(a, b, c);
#elif defined(__aarch64__)
  return vfmaq_f32(c, a, b);
#else
  return a * b + c;
#endif
}

FASTRNN_INLINE Vec<double> fma(Vec<double> a, Vec<double> b, Vec<double> c) {
#if defined(__AVX512F__)
  return _mm512_fmadd_pd(a, b, c);
#elif defined(__FMA__)
  return _mm256_fmadd_pd(a, b, c);
#elif defined(__aarch64__)
  return vfmaq_f64(c, a, b);
#else
  return a * b + c;
#endif
}

}  // namespace fastrnn::FASTRNN_ISA
