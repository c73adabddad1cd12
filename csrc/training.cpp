#include "training.h"

#include <algorithm>
#include <numeric>
#include <stdexcept>

#include "buffer.h"
#include "parts.h"

namespace fastrnn {

template <class R>
double softmax_cross_entropy(const TrainingKernel<R>& kernel, CrossEntropy<R> task, const Poll& poll) {
  Index counted = 0;
  for (Index n = 0; n < task.N; ++n) {
    if (task.targets[n] >= task.V) throw std::invalid_argument("targets: a class out of range for the kernels");
    counted += task.targets[n] >= 0;
  }
  const Index count = std::max<Index>(counted, 1);
  Buffer<double> losses{task.N};
  task.count = R(count);
  task.losses = losses;
  in_parts(task.N, 30.0 * double(task.V), poll, [&](Index n0, Index n1) { kernel.cross_entropy(task, n0, n1); });
  return std::accumulate(task.losses, task.losses + task.N, 0.0) / double(count);
}

template <class R>
double sum_of_squares(const TrainingKernel<R>& kernel, const R* x, Index n, const Poll& poll) {
  constexpr Index block = 4096;
  const Index blocks = (n + block - 1) / block;
  Buffer<double> sums{blocks};
  double* sum = sums;
  in_parts(blocks, 8.0 * block, poll, [&](Index first, Index last) {
    for (Index k = first; k < last; ++k) sum[k] = kernel.sum_of_squares(x, k * block, std::min((k + 1) * block, n));
  });
  return std::accumulate(sum, sum + blocks, 0.0);
}

template double softmax_cross_entropy(const TrainingKernel<float>&, CrossEntropy<float>, const Poll&);
template double softmax_cross_entropy(const TrainingKernel<double>&, CrossEntropy<double>, const Poll&);
template double sum_of_squares(const TrainingKernel<float>&, const float*, Index, const Poll&);
template double sum_of_squares(const TrainingKernel<double>&, const double*, Index, const Poll&);

}  // namespace fastrnn
