// h' = f(a), a = W_ih x + b_ih + W_hh h + b_hh, f = tanh or relu. Elman, "Finding structure in time", 1990.
#pragma once

#include "math.h"

namespace fastrnn::FASTRNN_ISA {

struct Tanh {
  static constexpr const char* name = "rnn_tanh";

  template <class R>
  static FASTRNN_INLINE Vec<R> apply(Vec<R> a) { return tanh<R>(a); }
  template <class R>
  static FASTRNN_INLINE Vec<R> derivative(Vec<R> h) { return fma(-h, h, splat(R(1))); }  // from the output
};

struct Relu {
  static constexpr const char* name = "rnn_relu";

  template <class R>
  static FASTRNN_INLINE Vec<R> apply(Vec<R> a) { return relu<R>(a); }
  template <class R>
  static FASTRNN_INLINE Vec<R> derivative(Vec<R> h) { return h > Vec<R>{} ? splat(R(1)) : Vec<R>{}; }
};

template <class F>
struct RNN {
  static constexpr const char* name = F::name;
  static constexpr int gates = 1, slots = 1, states = 1;

  static constexpr int gate(int) { return 0; }

  template <class R>
  static FASTRNN_INLINE void forward(Vec<R>* a, const Vec<R>*, Vec<R>* next) {
    next[0] = F::template apply<R>(a[0]);
  }

  template <class R>
  static FASTRNN_INLINE void backward(Vec<R>* a, const Vec<R>*, const Vec<R>* next, const Vec<R>* dnext,
                                      Vec<R>* dprev) {
    a[0] = dnext[0] * F::template derivative<R>(next[0]);
    dprev[0] = Vec<R>{};
  }
};

}  // namespace fastrnn::FASTRNN_ISA
