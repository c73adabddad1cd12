// r, z = sigmoid(a), n = tanh(a_n + r q), q = W_hn h + b_hn, h' = (1 - z) n + z h.
// Cho et al., "Learning phrase representations", 2014, in the reset-after form of cuDNN.
#pragma once

#include "functions.h"

namespace fastrnn::FASTRNN_ISA {

template <class F>
struct GRU : Plain {
  static constexpr const char* name = F::any ? "gru_any" : "gru";
  // Slots n r z q: the input feeds the first three, the recurrence the last three.
  static constexpr int gates = 3, slots = 4, states = 1;
  static constexpr Product products[] = {{Source::h, 1, 3}};
  static constexpr bool reads_h = true;

  static constexpr int gate(int slot) { return slot == 0 ? 2 : slot - 1; }  // r z n

  // a: n, r, z and q out.
  template <int, class R>
  static FASTRNN_INLINE void forward(Point<R>& p) {
    Vec<R>* const a = p.a;
    a[1] = F::template gate<R>(p.options, a[1]);
    a[2] = F::template gate<R>(p.options, a[2]);
    a[0] = F::template state<R>(p.options, fma(a[1], a[3], a[0]));
    p.next_h = fma(a[2], p.h - a[0], a[0]);
  }

  template <int, class R>
  static FASTRNN_INLINE void backward(Point<R>& p) {
    Vec<R>* const a = p.a;
    const Vec<R> one = splat(R(1)), n = a[0], r = a[1], z = a[2], q = a[3], dh = p.dh;
    a[0] = dh * (one - z) * F::template state_slope<R>(p.options, n);
    a[1] = a[0] * q * F::template gate_slope<R>(p.options, r);
    a[2] = dh * (p.h - n) * F::template gate_slope<R>(p.options, z);
    a[3] = a[0] * r;
    p.dh = dh * z;
  }
};

}  // namespace fastrnn::FASTRNN_ISA
