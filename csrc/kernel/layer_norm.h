// Layer normalisation of a row's products, in haste's form: over the G*H numbers that the input gives, and over those
// that the recurrence gives, (a - mean) / sqrt(variance + 1e-5), times gamma. Ba et al., "Layer normalization", 2016.
//
// Slots are raw sums, the input's G and then the recurrence's; gamma is the cell's own vector of the same number.
#pragma once

#include "functions.h"
#include "share.h"

namespace fastrnn::FASTRNN_ISA {

template <class R>
R total(Vec<R> v) {
  R sum = 0;
  for (int i = 0; i < lanes<R>; ++i) sum += v[i];
  return sum;
}

template <class R>
FASTRNN_INLINE Vec<R> only(Vec<R> v, int count) { return first_lanes<R>(count) ? v : Vec<R>{}; }

template <class R>
struct Moments {
  Vec<R> mean, scale;

  FASTRNN_INLINE Vec<R> normalise(Vec<R> v) const { return (v - mean) * scale; }
  // The gradient of v from that of its norm, whose sum and whose sum of products with the norm are these over n.
  FASTRNN_INLINE Vec<R> back(Vec<R> norm, Vec<R> dnorm, R sum, R product) const {
    return scale * (dnorm - splat(sum) - norm * splat(product));
  }
};

// Of what get(u, count, j) gives, j < n, over all blocks.
template <class R, class L, class F>
FASTRNN_INLINE Moments<R> moments_of(const L& layout, int n, const F& get) {
  const Range all{0, layout.units()};
  Vec<R> sum{}, squares{};
  layout.each(all, [&](Index u, int count) { for (int j = 0; j < n; ++j) sum += get(u, count, j); });
  const Vec<R> mean = splat(total<R>(sum) / R(n * layout.H));
  layout.each(all, [&](Index u, int count) {
    for (int j = 0; j < n; ++j) {
      const Vec<R> d = only<R>(get(u, count, j) - mean, count);
      squares = fma(d, d, squares);
    }
  });
  return {mean, splat(R(1) / R(__builtin_sqrt(total<R>(squares) / R(n * layout.H) + R(1e-5))))};
}

// The normalised products of a row, and the way back through them.
template <class C, class L, class R>
struct NormedRow {
  static constexpr int G = C::gates, S = C::slots;

  const L& layout;
  const WholeRow<R>& row;
  Moments<R> moments[2];
  Vec<R> sum[2] = {}, product[2] = {};

  NormedRow(const L& layout, const WholeRow<R>& row) : layout(layout), row(row) {
    for (int k = 0; k < 2; ++k)
      moments[k] = moments_of<R>(layout, G, [&](Index u, int count, int j) { return raw(u, count, k * G + j); });
  }

  FASTRNN_INLINE R* at(Index u, int slot) const { return row.slots + layout.at(u, slot); }
  FASTRNN_INLINE Vec<R> raw(Index u, int count, int slot) const { return load(at(u, slot), count); }
  FASTRNN_INLINE Vec<R> norm(Index u, int count, int slot) const {
    return moments[slot / G].normalise(raw(u, count, slot));
  }
  FASTRNN_INLINE Vec<R> gamma(Index u, int k) const { return load(row.vectors + k * row.Hp + u * lanes<R>); }
  FASTRNN_INLINE Vec<R> operator()(Index u, int count, int slot) const {
    return fma(norm(u, count, slot), gamma(u, slot), load(row.bias + layout.at(u, slot), count));
  }
  FASTRNN_INLINE void add(Index k, Index u, Vec<R> v) const {
    R* sum = row.dvectors + k * row.Hp + u * lanes<R>;
    store(sum, load(sum) + v);
  }

  // The gradient of a slot's value.
  FASTRNN_INLINE void give(Index u, int count, int slot, Vec<R> d) {
    const Vec<R> n = norm(u, count, slot), dnorm = d * gamma(u, slot);
    add(slot, u, d * n);
    add(vector_groups<C>() + slot, u, d);  // of the bias
    sum[slot / G] += dnorm;
    product[slot / G] = fma(dnorm, n, product[slot / G]);
    store(row.scratch + slot * row.Hp + u * lanes<R>, dnorm);
  }
  // After all: those of the raw sums.
  void finish() const {
    const R n = R(G * layout.H);
    layout.each({0, layout.units()}, [&](Index u, int count) {
      for (int slot = 0; slot < S; ++slot) {
        const int k = slot / G;
        const Vec<R> d = load(row.scratch + slot * row.Hp + u * lanes<R>);
        store(at(u, slot), moments[k].back(norm(u, count, slot), d, total<R>(sum[k]) / n, total<R>(product[k]) / n), count);
      }
    });
  }
};

}  // namespace fastrnn::FASTRNN_ISA
