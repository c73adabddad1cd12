// What activation layers apply: each number by itself, or of softmax rows.
#pragma once

#include "softmax.h"

namespace fastrnn::FASTRNN_ISA {

template <class R>
FASTRNN_INLINE Vec<R> apply(const Function& function, Vec<R> x) {
  const auto number = [&](int i) { return R(function.numbers[i]); };
  const auto choose = [&](Vec<R> positive, Vec<R> other) { return x > Vec<R>{} ? positive : other; };
  const Vec<R> one = splat(R(1));
  switch (function.name) {
    case Function::relu: return relu<R>(x);
    case Function::leaky_relu: return choose(x, splat(number(0)) * x);
    case Function::elu: {
      const R alpha_scale = R(function.numbers[0] * function.numbers[1]);
      return choose(splat(number(1)) * x, splat(alpha_scale) * expm1<R>(x));
    }
    case Function::tanh: return tanh<R>(x);
    case Function::sigmoid: return sigmoid<R>(x);
    case Function::hard_sigmoid: return hard_sigmoid<R>(x, number(0));
    case Function::silu: return x * sigmoid<R>(x);
    case Function::gelu: {
      const Vec<R> half = splat(R(0.5)) * x, cubic = fma(splat(R(0.044715)) * x, x, one);
      return fma(half, tanh<R>(splat(R(0.7978845608028654)) * x * cubic), half);  // sqrt(2 / pi)
    }
    case Function::softsign: return x / (one + choose(x, -x));
    case Function::exp: return exp<R>(x);
    default: return x;
  }
}

// fn(i, numbers left) for each vector: one loop, so that there is one copy of fn.
template <class R, class F>
FASTRNN_INLINE void each_place(Index first, Index last, const F& fn) {
  for (Index i = first; i < last; i += lanes<R>) fn(i, last - i);
}

// The sum is of one number after the other, so that it is the same whatever a vector holds.
template <class R>
FASTRNN_INLINE void softmax(const R* x, R* y, Index width) {
  const Vec<R> offset = splat(largest(x, width));
  each_place<R>(0, width, [&](Index i, Index left) { store(y + i, exp<R>(load(x + i, left) - offset), left); });
  R total = 0;
  for (Index i = 0; i < width; ++i) total += y[i];
  each_place<R>(0, width, [&](Index i, Index left) { store(y + i, load(y + i, left) / splat(total), left); });
}

template <class R>
void apply(const Applied<R>& task, Index first, Index last) noexcept {
  const Index width = task.width;
  if (task.function.name == Function::softmax)
    for (Index n = first; n < last; ++n) softmax(task.x + n * width, task.y + n * width, width);
  else
    each_place<R>(first, last, [&](Index i, Index left) {
      store(task.y + i, apply<R>(task.function, load(task.x + i, left)), left);
    });
}

}  // namespace fastrnn::FASTRNN_ISA
