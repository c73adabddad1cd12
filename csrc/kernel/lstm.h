// i, f, o = sigmoid(a), g = tanh(a), c' = f c + i g, h' = o tanh(c').
// Hochreiter & Schmidhuber, "Long short-term memory", 1997, with the forget gate of Gers et al., 2000.
#pragma once

#include "math.h"

namespace fastrnn::FASTRNN_ISA {

struct LSTM {
  static constexpr const char* name = "lstm";
  static constexpr int gates = 4, slots = 4, states = 2;

  static constexpr int gate(int slot) { return slot; }  // i f g o

  // a: pre-activations in, activated gates out. States: h, c.
  template <class R>
  static FASTRNN_INLINE void forward(Vec<R>* a, const Vec<R>* prev, Vec<R>* next) {
    a[0] = sigmoid<R>(a[0]);
    a[1] = sigmoid<R>(a[1]);
    a[2] = tanh<R>(a[2]);
    a[3] = sigmoid<R>(a[3]);
    next[1] = fma(a[1], prev[1], a[0] * a[2]);
    next[0] = a[3] * tanh<R>(next[1]);
  }

  // a: activated gates in, gradients of the pre-activations out.
  template <class R>
  static FASTRNN_INLINE void backward(Vec<R>* a, const Vec<R>* prev, const Vec<R>* next, const Vec<R>* dnext,
                                      Vec<R>* dprev) {
    const Vec<R> one = splat(R(1)), i = a[0], f = a[1], g = a[2], o = a[3];
    const Vec<R> tanh_c = tanh<R>(next[1]);
    const Vec<R> dc = fma(dnext[0] * o, fma(-tanh_c, tanh_c, one), dnext[1]);
    a[3] = dnext[0] * tanh_c * fma(-o, o, o);
    a[0] = dc * g * fma(-i, i, i);
    a[1] = dc * prev[1] * fma(-f, f, f);
    a[2] = dc * i * fma(-g, g, one);
    dprev[1] = dc * f;
    dprev[0] = Vec<R>{};
  }
};

}  // namespace fastrnn::FASTRNN_ISA
