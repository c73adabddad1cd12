// One call of y = x W^T + b or of its gradients: the memory that its kernel works in, and its rows in pieces.
#pragma once

#include <memory>

#include "fastrnn.h"
#include "poll.h"
#include "weights.h"

namespace fastrnn {

template <class R>
Parameters<R> parameters_of(const Linear<R>& task) {
  return {.I = task.I, .H = task.O, .w_ih = task.w, .b_ih = task.b};
}

int linear_threads(Index N, Index I, Index O);

// The letters and arrays of `task` are set but for its memory. Without weights, w and b are read and, for more than a few
// rows, packed.
template <class R>
void linear_forward(const LinearKernel<R>& kernel, Linear<R> task, const Poll& poll,
                    std::shared_ptr<Weights<R>> weights = nullptr);

template <class R>
void linear_backward(const LinearKernel<R>& kernel, LinearGradients<R> task, const Poll& poll);

}  // namespace fastrnn
