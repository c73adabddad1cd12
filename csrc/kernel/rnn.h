// h' = f(a), a = W_ih x + b_ih + W_hh h + b_hh, f = tanh, relu or what it is told.
// Elman, "Finding structure in time", 1990.
#pragma once

#include "functions.h"

namespace fastrnn::FASTRNN_ISA {

template <class F, char kind>
struct RNN : Plain {
  static constexpr const char* name = kind == 't' ? "rnn_tanh" : kind == 'r' ? "rnn_relu" : "rnn_any";
  static constexpr int gates = 1, slots = 1, states = 1;
  static constexpr Product products[] = {{Source::h, 0, 1}};

  static constexpr int gate(int) { return 0; }

  template <int, class R>
  static FASTRNN_INLINE void forward(Point<R>& p) { p.next_h = F::template state<R>(p.options, p.a[0]); }

  template <int, class R>
  static FASTRNN_INLINE void backward(Point<R>& p) {
    p.a[0] = p.dh * F::template state_slope<R>(p.options, p.next_h);
    p.dh = Vec<R>{};
  }
};

}  // namespace fastrnn::FASTRNN_ISA
