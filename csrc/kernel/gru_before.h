// r, z = sigmoid(a), n = tanh(a_n + W_hn (r h)), h' = (1 - z) n + z h.
// Cho et al., "Learning phrase representations", 2014: the reset gate comes before the product.
#pragma once

#include "functions.h"

namespace fastrnn::FASTRNN_ISA {

template <class F>
struct GRUBefore : Plain {
  static constexpr const char* name = F::any ? "gru_before_any" : "gru_before";
  static constexpr int gates = 3, slots = 3, states = 1;  // n r z
  static constexpr Product products[] = {{Source::h, 1, 2}, {Source::row, 0, 1}};
  static constexpr bool reads_h = true;

  static constexpr int gate(int slot) { return slot == 0 ? 2 : slot - 1; }  // r z n

  template <int part, class R>
  static FASTRNN_INLINE void forward(Point<R>& p) {
    Vec<R>* const a = p.a;
    if constexpr (part == 0) {
      a[1] = F::template gate<R>(p.options, a[1]);
      a[2] = F::template gate<R>(p.options, a[2]);
      p.row = a[1] * p.multiplied;
    } else {
      a[0] = F::template state<R>(p.options, a[0]);
      p.next_h = fma(a[2], p.h - a[0], a[0]);
    }
  }

  template <int part, class R>
  static FASTRNN_INLINE void backward(Point<R>& p) {
    Vec<R>* const a = p.a;
    if constexpr (part == 0) {
      const Vec<R> r = a[1];
      a[1] = p.drow * p.multiplied * F::template gate_slope<R>(p.options, r);
      p.dmultiplied = p.drow * r;
    } else {
      const Vec<R> n = a[0], z = a[2], dh = p.dh;
      a[0] = dh * (splat(R(1)) - z) * F::template state_slope<R>(p.options, n);
      a[2] = dh * (p.h - n) * F::template gate_slope<R>(p.options, z);
      p.dh = dh * z;
    }
  }
};

}  // namespace fastrnn::FASTRNN_ISA
