// r, z = sigmoid(a), n = tanh(a_n + r q), q = W_hn h + b_hn, h' = (1 - z) n + z h.
// Cho et al., "Learning phrase representations", 2014, in the reset-after form of cuDNN.
#pragma once

#include "math.h"

namespace fastrnn::FASTRNN_ISA {

struct GRU {
  static constexpr const char* name = "gru";
  // Slots n r z q: the input feeds the first three, the recurrence the last three.
  static constexpr int gates = 3, slots = 4, states = 1;

  static constexpr int gate(int slot) { return slot == 0 ? 2 : slot - 1; }  // r z n

  // a: pre-activations in; n, r, z and q out.
  template <class R>
  static FASTRNN_INLINE void forward(Vec<R>* a, const Vec<R>* prev, Vec<R>* next) {
    a[1] = sigmoid<R>(a[1]);
    a[2] = sigmoid<R>(a[2]);
    a[0] = tanh<R>(fma(a[1], a[3], a[0]));
    next[0] = fma(a[2], prev[0] - a[0], a[0]);
  }

  // a: n, r, z and q in, gradients of the pre-activations out.
  template <class R>
  static FASTRNN_INLINE void backward(Vec<R>* a, const Vec<R>* prev, const Vec<R>*, const Vec<R>* dnext,
                                      Vec<R>* dprev) {
    const Vec<R> one = splat(R(1)), n = a[0], r = a[1], z = a[2], q = a[3], dh = dnext[0];
    a[0] = dh * (one - z) * fma(-n, n, one);
    a[1] = a[0] * q * fma(-r, r, r);
    a[2] = dh * (prev[0] - n) * fma(-z, z, z);
    a[3] = a[0] * r;
    dprev[0] = dh * z;
  }
};

}  // namespace fastrnn::FASTRNN_ISA
