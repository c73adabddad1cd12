// i, f, o = sigmoid(a), g = tanh(a), c' = f c + i g, h' = o tanh(c').
// Hochreiter & Schmidhuber, "Long short-term memory", 1997, with the forget gate of Gers et al., 2000.
//
// If it is told: any activations, f = 1 - i, and peepholes, through which i and f see c and o sees c' (Gers &
// Schmidhuber, "Recurrent nets that time and count", 2000).
#pragma once

#include "functions.h"

namespace fastrnn::FASTRNN_ISA {

template <class F>
struct LSTM : Plain {
  static constexpr const char* name = F::any ? "lstm_any" : "lstm";
  static constexpr int gates = 4, slots = 4, states = 2;
  static constexpr Product products[] = {{Source::h, 0, 4}};
  static constexpr Lengths vectors{{F::any ? 3 : 0}};

  static constexpr int gate(int slot) { return slot; }  // i f g o

  template <int, class R>
  static FASTRNN_INLINE void forward(Point<R>& p) {
    Vec<R>* const a = p.a;
    const Vec<R>* const peephole = p.vectors;  // i f o
    if constexpr (F::any)
      if (p.given) a[0] += peephole[0] * p.c, a[1] += peephole[1] * p.c;
    a[0] = F::template gate<R>(p.options, a[0]);
    a[1] = F::template gate<R>(p.options, a[1]);
    a[2] = F::template state<R>(p.options, a[2]);
    if constexpr (F::any)
      if (p.options->coupled) a[1] = splat(R(1)) - a[0];
    if constexpr (!F::any) a[3] = F::template gate<R>(p.options, a[3]);
    p.next_c = fma(a[1], p.c, a[0] * a[2]);
    if constexpr (F::any)
      a[3] = F::template gate<R>(p.options, p.given ? fma(peephole[2], p.next_c, a[3]) : a[3]);
    p.next_h = a[3] * F::template output<R>(p.options, p.next_c);
  }

  template <int, class R>
  static FASTRNN_INLINE void backward(Point<R>& p) {
    const Vec<R> i = p.a[0], f = p.a[1], g = p.a[2], o = p.a[3];
    const Vec<R> shown = F::template output<R>(p.options, p.next_c);
    Vec<R>* const a = p.a;
    Vec<R> dc = fma(p.dh * o, F::template output_slope<R>(p.options, shown), p.dc);
    a[3] = p.dh * shown * F::template gate_slope<R>(p.options, o);
    if constexpr (F::any)
      if (p.given) dc += a[3] * p.vectors[2];
    a[0] = dc * g * F::template gate_slope<R>(p.options, i);
    a[1] = dc * p.c * F::template gate_slope<R>(p.options, f);
    a[2] = dc * i * F::template state_slope<R>(p.options, g);
    p.dc = dc * f;
    p.dh = Vec<R>{};
    if constexpr (F::any) {
      if (p.options->coupled) {
        a[0] = dc * (g - p.c) * F::template gate_slope<R>(p.options, i);
        a[1] = Vec<R>{};
      }
      if (p.given) p.dc += a[0] * p.vectors[0] + a[1] * p.vectors[1];
      p.dvectors[0] = a[0] * p.c;
      p.dvectors[1] = a[1] * p.c;
      p.dvectors[2] = a[3] * p.next_c;
    }
  }
};

}  // namespace fastrnn::FASTRNN_ISA
