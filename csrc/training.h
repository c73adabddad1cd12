// What a training step does besides products, on all threads.
#pragma once

#include "fastrnn.h"
#include "poll.h"

namespace fastrnn {

// The mean of the losses, added up in the order of the rows. `task` is set but for its count and memory for losses;
// std::invalid_argument if a target is not below V.
template <class R>
double softmax_cross_entropy(const TrainingKernel<R>& kernel, CrossEntropy<R> task, const Poll& poll);

// Of blocks of fixed size, added up in their order.
template <class R>
double sum_of_squares(const TrainingKernel<R>& kernel, const R* x, Index n, const Poll& poll);

}  // namespace fastrnn
