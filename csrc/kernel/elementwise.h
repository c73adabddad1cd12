// What a training step does to arrays one element at a time. Each line is one of reference.training or
// reference.feedforward in the same order, so that the results are the same bits on every ISA: the compiler makes
// vectors of these loops, and may not contract.
#pragma once

#include "../fastrnn.h"

namespace fastrnn::FASTRNN_ISA {

// Arrays of the next loop do not overlap.
#if defined(__clang__)
#define FASTRNN_APART _Pragma("clang loop vectorize(assume_safety)")
#else
#define FASTRNN_APART _Pragma("GCC ivdep")
#endif

FASTRNN_INLINE float root(float x) { return __builtin_sqrtf(x); }
FASTRNN_INLINE double root(double x) { return __builtin_sqrt(x); }

template <class R>
void sgd(const Update<R>& task, Index first, Index last) noexcept {
  R *p = task.p, *m = task.m;
  const R *g = task.g, lr = R(task.rate), weight_decay = R(task.decay), momentum = R(task.beta1);
  FASTRNN_APART
  for (Index i = first; i < last; ++i) {
    R direction = weight_decay != 0 ? p[i] * weight_decay + g[i] : g[i];
    if (m) direction = m[i] = m[i] * momentum + direction;
    p[i] -= direction * lr;
  }
}

template <class R>
void rmsprop(const Update<R>& task, Index first, Index last) noexcept {
  R *p = task.p, *v = task.v;
  const R *g = task.g, lr = R(task.rate), eps = R(task.eps);
  const R beta = R(task.beta2), rest = R(1 - task.beta2);
  FASTRNN_APART
  for (Index i = first; i < last; ++i) {
    v[i] = v[i] * beta + g[i] * g[i] * rest;
    p[i] -= g[i] / (root(v[i]) + eps) * lr;
  }
}

template <class R>
void adam(const Update<R>& task, Index first, Index last) noexcept {
  R *p = task.p, *m = task.m, *v = task.v;
  const R *g = task.g, lr = R(task.rate), kept = R(task.decay), eps = R(task.eps);
  const R rest1 = R(1 - task.beta1), beta2 = R(task.beta2), rest2 = R(1 - task.beta2);
  FASTRNN_APART
  for (Index i = first; i < last; ++i) {
    m[i] += (g[i] - m[i]) * rest1;
    v[i] = v[i] * beta2 + g[i] * g[i] * rest2;
    p[i] = p[i] * kept - m[i] / (root(v[i]) + eps) * lr;
  }
}

template <class R>
void scale(R* x, R factor, Index first, Index last) noexcept {
  for (Index i = first; i < last; ++i) x[i] *= factor;
}

// In double, in which no float's square overflows; sixteen sums on every ISA, added up in the end.
template <class R>
double sum_of_squares(const R* x, Index first, Index last) noexcept {
  constexpr int width = 16;
  double sums[width] = {}, total = 0;
  Index i = first;
  for (; i + width <= last; i += width)
    for (int k = 0; k < width; ++k) sums[k] += double(x[i + k]) * double(x[i + k]);
  for (int k = 0; i + k < last; ++k) sums[k] += double(x[i + k]) * double(x[i + k]);
  for (const double sum : sums) total += sum;
  return total;
}

// A dropped element is multiplied by 0, which leaves NaN and infinity to be seen.
template <class R>
void drop(const Drop<R>& task, Index first, Index last) noexcept {
  const R *x = task.x, scale = task.scale;
  const std::uint16_t* random = task.random;
  const int threshold = task.threshold;
  R* y = task.y;
  FASTRNN_APART
  for (Index i = first; i < last; ++i) y[i] = x[i] * (random[i] >= threshold ? scale : R(0));
}

#undef FASTRNN_APART

}  // namespace fastrnn::FASTRNN_ISA
