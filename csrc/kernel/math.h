// sigmoid, tanh and relu of every lane, within a few units in the last place (ULP), without a branch or a table.
//
// NaN in, NaN out; tanh is odd, keeps the sign of zero and ends at exactly +-1; sigmoid ends at exactly 0 and 1,
// with results below the smallest normal number flushed to 0. All is arithmetic on normal numbers, so that
// flushing denormals changes nothing but denormal arguments of tanh and relu.
#pragma once

#include "simd.h"

namespace fastrnn::FASTRNN_ISA {

// c0 + x (c1 + x (c2 + ...))
template <class R, class... C>
FASTRNN_INLINE Vec<R> polynomial(Vec<R> x, R c0, C... c) {
  if constexpr (sizeof...(c) == 0) {
    return splat(c0);
  } else {
    return fma(x, polynomial<R>(x, c...), splat(c0));
  }
}

// coefficients.py writes from here
constexpr float float_log2e = 0x1.715476p0f;
constexpr float float_ln2_high = 0x1.62e4p-1f;
constexpr float float_ln2_low = 0x1.7f7d1cp-20f;
FASTRNN_INLINE Vec<float> exp_minus_reduced(Vec<float> r) {
  return polynomial<float>(r, 0x1p0f, -0x1p0f, 0x1.fffffcp-2f, -0x1.55548cp-3f, 0x1.5558a8p-5f,
      -0x1.123d0ep-7f, 0x1.69a80ap-10f);
}
constexpr double double_log2e = 0x1.71547652b82fep0;
constexpr double double_ln2_high = 0x1.62e42fefa38p-1;
constexpr double double_ln2_low = 0x1.ef35793c7673p-45;
FASTRNN_INLINE Vec<double> exp_minus_reduced(Vec<double> r) {
  return polynomial<double>(r, 0x1p0, -0x1p0, 0x1p-1, -0x1.555555555555dp-3, 0x1.555555555556cp-5,
      -0x1.111111110e569p-7, 0x1.6c16c16c0a8c2p-10, -0x1.a01a01b5f3135p-13, 0x1.a01a01e7912eep-16,
      -0x1.71ddea62ca56ep-19, 0x1.27e4463f8dd2cp-22, -0x1.af7573b9eb577p-26, 0x1.2067b9414523cp-29);
}
FASTRNN_INLINE Vec<float> tanh_numerator(Vec<float> y) {
  return polynomial<float>(y, 0x1p0f, 0x1.121a9ap-3f, 0x1.caa25ep-9f, 0x1.5ac0ep-16f, 0x1.cdc658p-27f);
}
FASTRNN_INLINE Vec<float> tanh_denominator(Vec<float> y) {
  return polynomial<float>(y, 0x1p0f, 0x1.de629ap-2f, 0x1.a82fep-6f, 0x1.59217cp-12f, 0x1.a3545ep-21f);
}
FASTRNN_INLINE Vec<double> tanh_numerator(Vec<double> y) {
  return polynomial<double>(y, -0x1.5555555555555p-2, -0x1.6a23ff119a36p-7, 0x1.0ef4855637d0cp-12,
      0x1.81ab3c0e27cf8p-23);
}
FASTRNN_INLINE Vec<double> tanh_denominator(Vec<double> y) {
  return polynomial<double>(y, 0x1p0, 0x1.bb8cf98340001p-2, 0x1.5ac05ef07e0eap-7, -0x1.2f29ad629905fp-12);
}
// to here

// A NaN in x stays: the comparison is false and x is the second choice.
template <class R>
FASTRNN_INLINE Vec<R> at_most(Vec<R> x, R bound) {
  return splat(bound) < x ? splat(bound) : x;
}

template <class R>
FASTRNN_INLINE Vec<R> at_least(Vec<R> x, R bound) {
  return splat(bound) > x ? splat(bound) : x;
}

// n / d for normal d and quotient, to 0.6 ULP. Dividing 512 bits takes the divider 16 cycles or more, longer than
// all the rest of tanh: there an estimate of 1/d of 14 bits and a correction by the remainder (Markstein 1990).
// The signs keep -0 / d = -0.
FASTRNN_INLINE Vec<float> divide(Vec<float> n, Vec<float> d) {
#if defined(__AVX512F__)
  const Vec<float> r = _mm512_rcp14_ps(d), q = n * r;
  return _mm512_fnmadd_ps(_mm512_fmsub_ps(q, d, n), r, q);
#else
  return n / d;
#endif
}

FASTRNN_INLINE Vec<double> divide(Vec<double> n, Vec<double> d) {
#if defined(__AVX512F__)
  const Vec<double> r14 = _mm512_rcp14_pd(d);
  const Vec<double> r = _mm512_fmadd_pd(_mm512_fnmadd_pd(d, r14, splat(1.0)), r14, r14), q = n * r;
  return _mm512_fnmadd_pd(_mm512_fmsub_pd(q, d, n), r, q);
#else
  return n / d;
#endif
}

// 1 + e^-x for |x| < 88 (float), 709 (double). With n the integer nearest to -x / ln 2 and r = x + n ln 2,
// e^-x = 2^n e^-r (Cody & Waite 1980: ln 2 in two parts). Adding 1.5 * 2^(mantissa bits) rounds to n and leaves
// n + the exponent's bias in the lowest bits, from where a shift makes 2^n.
FASTRNN_INLINE Vec<float> one_plus_exp_minus(Vec<float> x) {
  const Vec<float> shift = splat(0x1.8p23f + 127), shifted = fma(x, splat(-float_log2e), shift), n = shifted - shift;
  const Vec<float> r = fma(n, splat(float_ln2_low), fma(n, splat(float_ln2_high), x));
  return fma(exp_minus_reduced(r), (Vec<float>)((Int<float>)shifted << 23), splat(1.0f));
}

FASTRNN_INLINE Vec<double> one_plus_exp_minus(Vec<double> x) {
  const Vec<double> shift = splat(0x1.8p52 + 1023), shifted = fma(x, splat(-double_log2e), shift);
  const Vec<double> n = shifted - shift;
  const Vec<double> r = fma(n, splat(double_ln2_low), fma(n, splat(double_ln2_high), x));
  return fma(exp_minus_reduced(r), (Vec<double>)((Int<double>)shifted << 52), splat(1.0));
}

// 1 / (1 + e^-x)
template <class R>
FASTRNN_INLINE Vec<R> sigmoid(Vec<R> x);

template <>
FASTRNN_INLINE Vec<float> sigmoid<float>(Vec<float> x) {
  const Vec<float> s = divide(splat(1.0f), one_plus_exp_minus(at_most(x, 40.0f)));
  return x < splat(-0x1.5d589ep6f) ? splat(0.0f) : s;  // -126 ln 2
}

template <>
FASTRNN_INLINE Vec<double> sigmoid<double>(Vec<double> x) {
  const Vec<double> s = divide(splat(1.0), one_plus_exp_minus(at_most(x, 80.0)));
  return x < splat(-0x1.6232bdd7abcd2p9) ? splat(0.0) : s;  // -1022 ln 2
}

template <class R>
FASTRNN_INLINE Vec<R> tanh(Vec<R> x);

// x N(x^2) / D(x^2), a rational of degree 9/8 that reaches 1 at the bound.
template <>
FASTRNN_INLINE Vec<float> tanh<float>(Vec<float> x) {
  x = at_least(at_most(x, 9.0f), -9.0f);
  const Vec<float> y = x * x;
  return divide(x * tanh_numerator(y), tanh_denominator(y));
}

// |x| small: x + x^3 N(x^2) / D(x^2), degree 6/6. Else 1 - 2 / (1 + e^2|x|) and the sign of x. One division for both.
template <>
FASTRNN_INLINE Vec<double> tanh<double>(Vec<double> x) {
  const Vec<double> y = x * x;
  const Int<double> sign = (Int<double>)x & (Int<double>)splat(-0.0);
  const Vec<double> size = (Vec<double>)((Int<double>)x ^ sign);
  const Int<double> small = size < splat(0.5625);
  const Vec<double> n = small ? size * y * tanh_numerator(y) : splat(-2.0);
  const Vec<double> d = small ? tanh_denominator(y) : one_plus_exp_minus(at_most(size, 20.0) * splat(-2.0));
  const Vec<double> t = (small ? size : splat(1.0)) + divide(n, d);
  return (Vec<double>)((Int<double>)t | sign);
}

template <class R>
FASTRNN_INLINE Vec<R> relu(Vec<R> x) {
  return x < Vec<R>{} ? Vec<R>{} : x;
}

}  // namespace fastrnn::FASTRNN_ISA
