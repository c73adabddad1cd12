#include "linear.h"

#include <algorithm>

#include "buffer.h"
#include "threads.h"

namespace fastrnn {
namespace {

template <class R>
using Pass = void (*)(const Linear<R>&, Index n0, Index n1, const Team&) noexcept;

template <class R>
void run(const LinearKernel<R>& kernel, Pass<R> pass, Linear<R>& task, double row_flops, const Poll& poll) {
  const int size = team_for(row_flops * double(task.N));
  Buffer<char> workspace{size, kernel.workspace(task)};
  task.workspace = workspace;
  const Index piece = std::max<Index>(512, Index(1e9 / std::max(row_flops, 1.0)));
  Patience patience(poll);
  for (Index n = 0; n < task.N; n += piece) {
    parallel(size, [&](const Team& team) { pass(task, n, std::min(n + piece, task.N), team); });
    patience.check();
  }
}

}  // namespace

template <class R>
void linear_forward(const LinearKernel<R>& kernel, Linear<R> task, const Poll& poll) {
  const Index Op = padded(task.O, kernel.lanes);
  Buffer<R> packed{Op, task.I}, bias{Op};
  task.packed = packed;
  task.padded_bias = bias;
  run(kernel, kernel.forward, task, 2.0 * double(task.I) * double(task.O), poll);
}

template <class R>
void linear_backward(const LinearKernel<R>& kernel, Linear<R> task, const Poll& poll) {
  const Index Op = padded(task.O, kernel.lanes);
  Buffer<R> packed{padded(task.I, kernel.lanes), Op}, bias = Buffer<R>::zeros({2, Op});
  task.packed = packed;
  task.padded_bias = bias;
  if (task.N == 0) {  // nothing is added up
    std::fill_n(task.dw, task.O * task.I, R(0));
    std::fill_n(task.db, task.O, R(0));
  }
  run(kernel, kernel.backward, task, 4.0 * double(task.I) * double(task.O), poll);
}

template void linear_forward(const LinearKernel<float>&, Linear<float>, const Poll&);
template void linear_forward(const LinearKernel<double>&, Linear<double>, const Poll&);
template void linear_backward(const LinearKernel<float>&, Linear<float>, const Poll&);
template void linear_backward(const LinearKernel<double>&, Linear<double>, const Poll&);

}  // namespace fastrnn
