// Softmax and cross-entropy, row by row.
#pragma once

#include "math.h"

namespace fastrnn::FASTRNN_ISA {

// What fn makes of all lanes, two at a time.
template <class R, class F>
FASTRNN_INLINE R fold(Vec<R> v, const F& fn) {
#pragma GCC unroll 4
  for (int left = lanes<R>; left > 1; left /= 2) v = fn(interleave_low<R>(v, v), interleave_high<R>(v, v));
  return v[0];
}

// A row of V numbers as whole vectors and a rest: fn(i, count) for each.
template <class R, class F>
FASTRNN_INLINE void each_vector(Index V, const F& fn) {
  Index i = 0;
  for (; i + lanes<R> <= V; i += lanes<R>) fn(i, lanes<R>);
  if (i < V) fn(i, int(V - i));
}

// NaN is not looked for: its exponential will carry it into the sum.
template <class R>
FASTRNN_INLINE R largest(const R* x, Index V) {
  Vec<R> most = splat(x[0]);
  each_vector<R>(V, [&](Index i, int count) {
    const Vec<R> v = load(x + i, count);
    most = (v > most) & first_lanes<R>(count) ? v : most;
  });
  return fold<R>(most, [](Vec<R> a, Vec<R> b) { return a > b ? a : b; });
}

// e = exp(x - offset), and their sum.
template <class R>
FASTRNN_INLINE R exponentials(const R* x, R offset, R* e, Index V) {
  Vec<R> sum{};
  each_vector<R>(V, [&](Index i, int count) {
    const Vec<R> v = exp<R>(load(x + i, count) - splat(offset));
    store(e + i, v, count);
    sum += first_lanes<R>(count) ? v : Vec<R>{};
  });
  return fold<R>(sum, [](Vec<R> a, Vec<R> b) { return a + b; });
}

// Rows n0 .. n1-1: the losses -log softmax(logits)[target], and (softmax(logits) - onehot(target)) / count.
template <class R>
void cross_entropy(const CrossEntropy<R>& task, Index n0, Index n1) noexcept {
  const Index V = task.V;
  for (Index n = n0; n < n1; ++n) {
    const Index target = task.targets[n];
    const R* x = task.logits + n * V;
    R* dx = task.dlogits + n * V;
    R offset = 0, total = 1, factor = 0;
    if (target >= 0) {
      offset = largest(x, V);
      total = exponentials(x, offset, dx, V);
      factor = 1 / (task.count * total);
    }
    task.losses[n] = target < 0 ? 0.0 : __builtin_log(double(total)) - double(x[target] - offset);
    each_vector<R>(V, [&](Index i, int count) {
      store(dx + i, target < 0 ? Vec<R>{} : load(dx + i, count) * splat(factor), count);
    });
    if (target >= 0) dx[target] -= 1 / task.count;
  }
}

}  // namespace fastrnn::FASTRNN_ISA
