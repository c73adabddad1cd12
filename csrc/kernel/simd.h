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

// The first `count` numbers; the other lanes are 0 and their memory is not touched.
template <class R>
FASTRNN_INLINE Vec<R> load(const R* p, int count) {
  if (count >= lanes<R>) return load(p);
  Vec<R> v{};
  for (int i = 0; i < count; ++i) v[i] = p[i];
  return v;
}

template <class R>
FASTRNN_INLINE void store(R* p, Vec<R> v, int count) {
  if (count >= lanes<R>) return store(p, v);
  for (int i = 0; i < count; ++i) p[i] = v[i];
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
