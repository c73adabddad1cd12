// The activations of a cell, and their slopes where they had the value y: the usual ones, or those that it is told.
#pragma once

#include "cell.h"

namespace fastrnn::FASTRNN_ISA {

struct Usual {
  static constexpr bool any = false;

  template <class R>
  static FASTRNN_INLINE Vec<R> gate(const Options*, Vec<R> a) { return sigmoid<R>(a); }
  template <class R>
  static FASTRNN_INLINE Vec<R> gate_slope(const Options*, Vec<R> y) { return fma(-y, y, y); }
  template <class R>
  static FASTRNN_INLINE Vec<R> state(const Options*, Vec<R> a) { return tanh<R>(a); }
  template <class R>
  static FASTRNN_INLINE Vec<R> state_slope(const Options*, Vec<R> y) { return fma(-y, y, splat(R(1))); }
  template <class R>
  static FASTRNN_INLINE Vec<R> output(const Options*, Vec<R> a) { return tanh<R>(a); }
  template <class R>
  static FASTRNN_INLINE Vec<R> output_slope(const Options*, Vec<R> y) { return fma(-y, y, splat(R(1))); }
};

struct UsualRelu : Usual {
  template <class R>
  static FASTRNN_INLINE Vec<R> state(const Options*, Vec<R> a) { return relu<R>(a); }
  template <class R>
  static FASTRNN_INLINE Vec<R> state_slope(const Options*, Vec<R> y) { return y > Vec<R>{} ? splat(R(1)) : Vec<R>{}; }
};

struct Chosen {
  static constexpr bool any = true;

  template <class R>
  static constexpr R unbounded = R(__builtin_inf());

  // Of an argument within -clip .. clip. Functions of their own: a cell calls them in many places.
  template <class R>
  static __attribute__((noinline)) Vec<R> apply(Activation f, R clip, Vec<R> a) {
    a = at_least(-clip, at_most(clip, a));
    switch (f) {
      case Activation::sigmoid: return sigmoid<R>(a);
      case Activation::hard_sigmoid: return hard_sigmoid<R>(a, R(1) / 5);
      case Activation::hard_sigmoid_6: return hard_sigmoid<R>(a, R(1) / 6);
      case Activation::relu: return relu<R>(a);
      case Activation::linear: return a;
      default: return tanh<R>(a);
    }
  }

  // 0 where the argument was clipped: where the value is that of a bound.
  template <class R>
  static __attribute__((noinline)) Vec<R> slope(Activation f, R clip, Vec<R> y) {
    const Vec<R> zero{}, one = splat(R(1));
    Vec<R> value;
    switch (f) {
      case Activation::sigmoid: value = fma(-y, y, y); break;
      case Activation::hard_sigmoid: value = splat(R(1) / 5); break;
      case Activation::hard_sigmoid_6: value = splat(R(1) / 6); break;
      case Activation::relu: value = y > zero ? one : zero; break;
      case Activation::linear: value = one; break;
      default: value = fma(-y, y, one);
    }
    if (f == Activation::hard_sigmoid || f == Activation::hard_sigmoid_6) value = y > zero && y < one ? value : zero;
    if (clip == unbounded<R>) return value;
    const Vec<R> low = apply<R>(f, clip, splat(-clip)), high = apply<R>(f, clip, splat(clip));
    return y == low || y == high ? zero : value;
  }

  template <class R>
  static FASTRNN_INLINE Vec<R> gate(const Options* o, Vec<R> a) { return apply<R>(o->gate, R(o->clip), a); }
  template <class R>
  static FASTRNN_INLINE Vec<R> gate_slope(const Options* o, Vec<R> y) { return slope<R>(o->gate, R(o->clip), y); }
  template <class R>
  static FASTRNN_INLINE Vec<R> state(const Options* o, Vec<R> a) { return apply<R>(o->state, R(o->clip), a); }
  template <class R>
  static FASTRNN_INLINE Vec<R> state_slope(const Options* o, Vec<R> y) { return slope<R>(o->state, R(o->clip), y); }
  // c_t, which it is applied to, is not clipped.
  template <class R>
  static FASTRNN_INLINE Vec<R> output(const Options* o, Vec<R> a) { return apply<R>(o->output, unbounded<R>, a); }
  template <class R>
  static FASTRNN_INLINE Vec<R> output_slope(const Options* o, Vec<R> y) { return slope<R>(o->output, unbounded<R>, y); }
};

}  // namespace fastrnn::FASTRNN_ISA
