// The GRU of normalised products, x and h: r, z = sigmoid(x + h), n = tanh(x_n + r h_n), h' = (1 - z) n + z h.
#pragma once

#include "layer_norm.h"

namespace fastrnn::FASTRNN_ISA {

struct GRULayerNorm : Plain {
  static constexpr const char* name = "gru_layer_norm";
  static constexpr int gates = 3, slots = 6, states = 1;
  static constexpr Product products[] = {{Source::h, 3, 3}};
  static constexpr Lengths vectors{{3, 3}};  // gamma_ih, gamma_hh
  static constexpr bool reads_h = true, whole_rows = true;

  static constexpr int gate(int slot) { return slot % 3; }  // r z n

  template <class R, class L>
  static void forward(const L& layout, const WholeRow<R>& row) {
    if (!row.next_h) return;
    const NormedRow<GRULayerNorm, L, R> a(layout, row);
    layout.each({0, layout.units()}, [&](Index u, int count) {
      const Vec<R> r = sigmoid<R>(a(u, count, 0) + a(u, count, 3)), z = sigmoid<R>(a(u, count, 1) + a(u, count, 4));
      const Vec<R> n = tanh<R>(fma(r, a(u, count, 5), a(u, count, 2)));
      store(row.next_h + u * lanes<R>, fma(z, load(row.h + u * lanes<R>, count) - n, n), count);
    });
  }

  template <class R, class L>
  static void backward(const L& layout, const WholeRow<R>& row) {
    NormedRow<GRULayerNorm, L, R> a(layout, row);
    const Vec<R> one = splat(R(1));
    layout.each({0, layout.units()}, [&](Index u, int count) {
      const Vec<R> r = sigmoid<R>(a(u, count, 0) + a(u, count, 3)), z = sigmoid<R>(a(u, count, 1) + a(u, count, 4));
      const Vec<R> q = a(u, count, 5), n = tanh<R>(fma(r, q, a(u, count, 2)));
      const Vec<R> dh = only<R>(load(row.dh + u * lanes<R>), count);
      const Vec<R> dn = dh * (one - z) * fma(-n, n, one), dr = dn * q * fma(-r, r, r);
      const Vec<R> dz = dh * (load(row.h + u * lanes<R>, count) - n) * fma(-z, z, z);
      a.give(u, count, 0, dr), a.give(u, count, 1, dz), a.give(u, count, 2, dn);
      a.give(u, count, 3, dr), a.give(u, count, 4, dz), a.give(u, count, 5, dn * r);
      store(row.dh + u * lanes<R>, dh * z);
    });
    a.finish();
  }
};

}  // namespace fastrnn::FASTRNN_ISA
