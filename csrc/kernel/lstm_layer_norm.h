// The LSTM of normalised products, x and h: a = x + h, c' = f c + i g, h' = o tanh(norm(c') gamma_c + beta_c).
#pragma once

#include "layer_norm.h"

namespace fastrnn::FASTRNN_ISA {

struct LSTMLayerNorm : Plain {
  static constexpr const char* name = "lstm_layer_norm";
  static constexpr int gates = 4, slots = 8, states = 2;
  static constexpr Product products[] = {{Source::h, 4, 4}};
  static constexpr Lengths vectors{{4, 4, 1, 1}};  // gamma_ih, gamma_hh, gamma_c, beta_c
  static constexpr bool whole_rows = true;

  static constexpr int gate(int slot) { return slot % 4; }  // i f g o

  template <class R, class L>
  static void forward(const L& layout, const WholeRow<R>& row) {
    const NormedRow<LSTMLayerNorm, L, R> a(layout, row);
    const Range all{0, layout.units()};
    layout.each(all, [&](Index u, int n) {
      const Vec<R> i = sigmoid<R>(a(u, n, 0) + a(u, n, 4)), f = sigmoid<R>(a(u, n, 1) + a(u, n, 5));
      const Vec<R> g = tanh<R>(a(u, n, 2) + a(u, n, 6));
      store(row.next_c + u * lanes<R>, fma(f, load(row.c + u * lanes<R>), i * g));
    });
    if (!row.next_h) return;
    const Moments<R> of_c = moments(layout, row);
    layout.each(all, [&](Index u, int n) {
      const Vec<R> o = sigmoid<R>(a(u, n, 3) + a(u, n, 7)), c = of_c.normalise(load(row.next_c + u * lanes<R>));
      store(row.next_h + u * lanes<R>, o * tanh<R>(fma(c, a.gamma(u, 8), a.gamma(u, 9))), n);
    });
  }

  template <class R, class L>
  static void backward(const L& layout, const WholeRow<R>& row) {
    NormedRow<LSTMLayerNorm, L, R> a(layout, row);
    const Range all{0, layout.units()};
    const Moments<R> of_c = moments(layout, row);
    const Vec<R> one = splat(R(1));
    Vec<R> sum{}, product{};
    R* const dnorms = row.scratch + slots * row.Hp;
    layout.each(all, [&](Index u, int n) {
      const Vec<R> o = sigmoid<R>(a(u, n, 3) + a(u, n, 7)), c = of_c.normalise(load(row.next_c + u * lanes<R>));
      const Vec<R> shown = tanh<R>(fma(c, a.gamma(u, 8), a.gamma(u, 9))), dh = only<R>(load(row.dh + u * lanes<R>), n);
      const Vec<R> dshown = dh * o * fma(-shown, shown, one), dnorm = dshown * a.gamma(u, 8);
      const Vec<R> da = dh * shown * fma(-o, o, o);
      a.give(u, n, 3, da), a.give(u, n, 7, da);
      a.add(8, u, dshown * c), a.add(9, u, dshown);
      sum += dnorm, product = fma(dnorm, c, product);
      store(dnorms + u * lanes<R>, dnorm);
      store(row.dh + u * lanes<R>, Vec<R>{});
    });
    const R mean = total<R>(sum) / R(layout.H), slope = total<R>(product) / R(layout.H);
    layout.each(all, [&](Index u, int n) {
      const Vec<R> i = sigmoid<R>(a(u, n, 0) + a(u, n, 4)), f = sigmoid<R>(a(u, n, 1) + a(u, n, 5));
      const Vec<R> g = tanh<R>(a(u, n, 2) + a(u, n, 6)), c = of_c.normalise(load(row.next_c + u * lanes<R>));
      const Vec<R> through_h = of_c.back(c, load(dnorms + u * lanes<R>), mean, slope);
      const Vec<R> dc = only<R>(load(row.dc + u * lanes<R>) + through_h, n);
      const Vec<R> da[] = {dc * g * fma(-i, i, i), dc * load(row.c + u * lanes<R>) * fma(-f, f, f), dc * i * fma(-g, g, one)};
      for (int j = 0; j < 3; ++j) a.give(u, n, j, da[j]), a.give(u, n, 4 + j, da[j]);
      store(row.dc + u * lanes<R>, dc * f);
    });
    a.finish();
  }

 private:
  template <class R, class L>
  static Moments<R> moments(const L& layout, const WholeRow<R>& row) {
    return moments_of<R>(layout, 1, [&](Index u, int n, int) { return load(row.next_c + u * lanes<R>, n); });
  }
};

}  // namespace fastrnn::FASTRNN_ISA
