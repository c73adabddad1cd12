// One call of y = x W^T + b or of its gradients: the memory that its kernel works in, and its rows in pieces.
#pragma once

#include "fastrnn.h"
#include "poll.h"

namespace fastrnn {

// The letters and arrays of `task` are set but for its memory.
template <class R>
void linear_forward(const LinearKernel<R>& kernel, Linear<R> task, const Poll& poll);

template <class R>
void linear_backward(const LinearKernel<R>& kernel, Linear<R> task, const Poll& poll);

}  // namespace fastrnn
