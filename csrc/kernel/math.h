// sigmoid, tanh, relu, exp and expm1 of every lane, without branches or tables: the same bits on every ISA that has FMA.
//
// NaN in, NaN out. tanh is odd, bit by bit, and reaches -1 and 1; sigmoid reaches 0 and 1. exp and expm1 are for x up to 0,
// where they reach 1 and 0, and below 0 and -1; sigmoid and exp are 0 where they would be denormal; none goes beyond. All
// rise with x but for steps back by 4 (tanh) or 1 (the others) in the last place. Only tanh, expm1 and relu of denormal
// numbers depend on whether the CPU flushes denormals.
// Methods: Cody & Waite, "Software Manual for the Elementary Functions", 1980; Muller, "Elementary
// Functions".
//
// Largest error in units in the last place (float: over all numbers; double: over samples):
//
//             float          double
//             FMA   without  FMA   without
//   sigmoid   2.49  2.49     1.99  1.99
//   tanh      2.56  2.77     1.61  1.61
//   exp       0.91  1.17     0.88  1.15
//   expm1     1.33  1.40     1.48  1.47
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

template <class R>
struct Constant;

// coefficients.py writes from here
template <>
struct Constant<float> {
  static constexpr float log2e = 0x1.715476p0f;
  static constexpr float ln2 = 0x1.62e43p-1f;
  static constexpr float ln2_high = 0x1.62e4p-1f;
  static constexpr float ln2_low = 0x1.7f7d1cp-20f;
  static constexpr float log_smallest = -0x1.5d58ap6f;
};

template <>
struct Constant<double> {
  static constexpr double log2e = 0x1.71547652b82fep0;
  static constexpr double ln2 = 0x1.62e42fefa39efp-1;
  static constexpr double ln2_high = 0x1.62e42fefa38p-1;
  static constexpr double ln2_low = 0x1.ef35793c7673p-45;
  static constexpr double log_smallest = -0x1.6232bdd7abcd2p9;
};

FASTRNN_INLINE Vec<float> exp_quotient(Vec<float> r) {
  return polynomial<float>(r, -0x1p0f, 0x1p-1f, -0x1.5554a2p-3f, 0x1.55568ap-5f, -0x1.123006p-7f,
      0x1.6b6deep-10f);
}
FASTRNN_INLINE Vec<double> exp_quotient(Vec<double> r) {
  return polynomial<double>(r, -0x1p0, 0x1p-1, -0x1.5555555555501p-3, 0x1.55555555531c7p-5,
      -0x1.1111111128afcp-7, 0x1.6c16c17cd9a06p-10, -0x1.a01a011b7e34dp-13, 0x1.a019aadfa242bp-16,
      -0x1.71df561edd8e3p-19, 0x1.289fde9425558p-22, -0x1.ad1fbdd08b5b2p-26);
}
FASTRNN_INLINE Vec<float> tanh_quotient(Vec<float> y) {
  return polynomial<float>(y, -0x1.554feap-2f, 0x1.0c7f6ep-3f);
}
FASTRNN_INLINE Vec<double> tanh_quotient(Vec<double> y) {
  return polynomial<double>(y, -0x1.555555555543dp-2, 0x1.11111110fbf98p-3, -0x1.ba1ba1a8763dap-5,
      0x1.664f44d8caeddp-6, -0x1.226dc51800a8ap-7, 0x1.d6c31bfc54b27p-9, -0x1.7cd660749737ap-10,
      0x1.2ef64f21c4c7ap-11, -0x1.b4b0a5afbd99ep-13, 0x1.a01bcefb71529p-15);
}
// to here

#if defined(__AVX512F__)  // the form without a mask warns of an uninitialised operand in GCC 12
#define FASTRNN_MM(operation, a, b) _mm512_maskz_##operation(-1, a, b)
#elif defined(__AVX2__)
#define FASTRNN_MM(operation, a, b) _mm256_##operation(a, b)
#elif defined(__x86_64__)
#define FASTRNN_MM(operation, a, b) _mm_##operation(a, b)
#endif

// NaN if x is. (GCC 12 compares and blends instead if one side of the choice is constant.)
template <class R>
FASTRNN_INLINE Vec<R> at_most(R bound, Vec<R> x) {
#if defined(FASTRNN_MM)
  if constexpr (sizeof(R) == 4) return FASTRNN_MM(min_ps, splat(bound), x);
  else return FASTRNN_MM(min_pd, splat(bound), x);
#else
  return splat(bound) < x ? splat(bound) : x;
#endif
}

template <class R>
FASTRNN_INLINE Vec<R> at_least(R bound, Vec<R> x) {
#if defined(FASTRNN_MM)
  if constexpr (sizeof(R) == 4) return FASTRNN_MM(max_ps, splat(bound), x);
  else return FASTRNN_MM(max_pd, splat(bound), x);
#else
  return splat(bound) > x ? splat(bound) : x;
#endif
}

#undef FASTRNN_MM

// Adding `rounder` to a small x leaves the nearest integer in the lowest bits of the sum, on top of the bias
// of the exponent, from where a shift makes a power of two of it.
template <class R>
constexpr R rounder = sizeof(R) == 4 ? R(0x1.8p23 + 127) : R(0x1.8p52 + 1023);

template <class R>
FASTRNN_INLINE Vec<R> power_of_two(Vec<R> sum) {
  return (Vec<R>)((Int<R>)sum << (sizeof(R) == 4 ? 23 : 52));
}

// 1 / (1 + 2^n e^-r) with n the integer nearest to -x / ln 2 and r = x + n ln 2, ln 2 in two parts; e^-r by a
// polynomial of degree 6 (float) or 11 (double).
template <class R>
FASTRNN_INLINE Vec<R> sigmoid(Vec<R> x) {
  using C = Constant<R>;
  const Vec<R> bounded = at_most(R(64), x);  // sigmoid(64) rounds to 1
  const Vec<R> sum = fma(bounded, splat(-C::log2e), splat(rounder<R>)), n = sum - splat(rounder<R>);
  const Vec<R> r = fma(n, splat(C::ln2_low), fma(n, splat(C::ln2_high), bounded));
  const Vec<R> power = power_of_two<R>(sum), one = splat(R(1));
  Vec<R> d;
  if constexpr (sizeof(R) == 4) {
    d = fma(fma(r, exp_quotient(r), one), power, one);
  } else {  // two operations more; only the last sum rounds in the last place
    d = at_least(R(1), power) + fma(r * exp_quotient(r), power, at_most(R(1), power));
  }
  return x < splat(C::log_smallest) ? Vec<R>{} : one / d;
}

template <class R>
FASTRNN_INLINE Vec<R> tanh(Vec<R> x);

// (2^n - 1 + (2^n + 1) t) / (2^n + 1 + (2^n - 1) t) with n the integer nearest to 2 x / ln 2 and t =
// tanh(r), r = x - n ln 2 / 2, by a polynomial of degree 5. Small x give t itself; large x make both sums
// equal; for -x both are 2^-n times those for x, exactly. ln 2 in one part: where n ln 2 rounds, tanh is
// flat.
template <>
FASTRNN_INLINE Vec<float> tanh<float>(Vec<float> x) {
  using C = Constant<float>;
  x = at_least(-16.0f, at_most(16.0f, x));
  const Vec<float> sum = fma(x, splat(2 * C::log2e), splat(rounder<float>)), n = sum - splat(rounder<float>);
  const Vec<float> r = fma(n, splat(C::ln2 / -2), x), y = r * r, one = splat(1.0f);
  const Vec<float> t = r * fma(y, tanh_quotient(y), one);
  const Vec<float> power = power_of_two<float>(sum), plus = one + power, minus = one - power;
  return fma(plus, t, -minus) / fma(minus, -t, plus);  // the signs that leave -0 as it is
}

// Both sums above round in the last place, too much for 2 ULP. Instead, of |x|: t itself below 0.5625, else
// 1 - (1 - t) / (2^m + 1/2 + (2^m - 1/2) t), m = n - 1; t by a polynomial of degree 21.
template <>
FASTRNN_INLINE Vec<double> tanh<double>(Vec<double> x) {
  using C = Constant<double>;
  const Int<double> sign = (Int<double>)x & (Int<double>)splat(-0.0);
  x = at_most(20.0, (Vec<double>)((Int<double>)x ^ sign));
  const Int<double> small = x < splat(0.5625);
  const Vec<double> halver = splat(rounder<double> - 1);
  const Vec<double> sum = small ? halver : fma(x, splat(2 * C::log2e), halver), n = sum - halver;
  const Vec<double> r = fma(n, splat(C::ln2_low / -2), fma(n, splat(C::ln2_high / -2), x)), y = r * r;
  const Vec<double> t = fma(r * y, tanh_quotient(y), r);
  const Vec<double> power = power_of_two<double>(sum), half = splat(0.5);
  const Vec<double> end = small ? Vec<double>{} : splat(1.0);
  const Vec<double> result = end + (t - end) / fma(power - half, t, power + half);
  return (Vec<double>)((Int<double>)result | sign);
}

// 2^n e^-r as in sigmoid, of -x.
template <class R>
FASTRNN_INLINE Vec<R> exp(Vec<R> x) {
  using C = Constant<R>;
  const Vec<R> sum = fma(x, splat(C::log2e), splat(rounder<R>)), n = sum - splat(rounder<R>);
  const Vec<R> r = fma(n, splat(C::ln2_low), fma(n, splat(C::ln2_high), -x));
  const Vec<R> result = fma(r, exp_quotient(r), splat(R(1))) * power_of_two<R>(sum);
  return x < splat(C::log_smallest) ? Vec<R>{} : result;
}

// exp(x) - 1 without its rounding: 2^n (e^-r - 1) + 2^n - 1.
template <class R>
FASTRNN_INLINE Vec<R> expm1(Vec<R> x) {
  using C = Constant<R>;
  const Vec<R> sum = fma(x, splat(C::log2e), splat(rounder<R>)), n = sum - splat(rounder<R>);
  const Vec<R> r = fma(n, splat(C::ln2_low), fma(n, splat(C::ln2_high), -x));
  const Vec<R> power = power_of_two<R>(sum);
  return x < splat(C::log_smallest) ? splat(R(-1)) : fma(r * exp_quotient(r), power, power - splat(R(1)));
}

// The line through (0, 1/2), between 0 and 1.
template <class R>
FASTRNN_INLINE Vec<R> hard_sigmoid(Vec<R> x, R slope) {
  return at_least(R(0), at_most(R(1), fma(x, splat(slope), splat(R(0.5)))));
}

// -0 stays.
template <class R>
FASTRNN_INLINE Vec<R> relu(Vec<R> x) {
  return at_least(R(0), x);
}

}  // namespace fastrnn::FASTRNN_ISA
