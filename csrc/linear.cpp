#include "linear.h"

#include <algorithm>

#include "buffer.h"
#include "threads.h"

namespace fastrnn {
namespace {

double flops(Index N, Index I, Index O) { return 2.0 * double(N) * double(I) * double(O); }

// What members may have of their own: some rows, or some outputs.
Index parts(Index N, Index O) { return std::max(N, O) / few_rows + 1; }

// Calls fn(n0, n1, team) on all threads for pieces of N rows.
template <class F>
void each_piece(Index N, double row_flops, int size, const Poll& poll, const F& fn) {
  const Index piece = std::max<Index>(512, Index(1e9 / std::max(row_flops, 1.0)));
  Patience patience(poll);
  for (Index n = 0; n < N; n += piece) {
    parallel(size, [&](const Team& team) { fn(n, std::min(n + piece, N), team); });
    patience.check();
  }
}

}  // namespace

int linear_threads(Index N, Index I, Index O) { return team_for(flops(N, I, O), parts(N, O)); }

template <class R>
void linear_forward(const LinearKernel<R>& kernel, Linear<R> task, const Poll& poll,
                    std::shared_ptr<Weights<R>> weights) {
  const bool to_pack = !weights && task.N > few_rows;  // with the first rows: a team takes time to come together
  const Parameters<R> parameters = parameters_of(task);
  if (to_pack) weights = std::make_shared<Weights<R>>(kernel, parameters);
  if (weights) task.packed = weights->packed();
  const int size = linear_threads(task.N, task.I, task.O);
  each_piece(task.N, flops(1, task.I, task.O), size, poll, [&](Index n0, Index n1, const Team& team) {
    if (to_pack && n0 == 0) weights->pack(parameters, team);
    kernel.forward(task, n0, n1, team);
  });
}

template <class R>
void linear_backward(const LinearKernel<R>& kernel, LinearGradients<R> task, const Poll& poll) {
  const Index Op = padded(task.O, kernel.lanes);
  Buffer<R> packed{padded(task.I, kernel.lanes), Op}, dbias = Buffer<R>::zeros({2, Op});
  const double row_flops = 2 * flops(1, task.I, task.O);
  const int size = team_for(row_flops * double(task.N), parts(task.N, task.O));
  Buffer<char> workspace{kernel.workspace(task, size)};
  task.packed = packed, task.dbias = dbias, task.workspace = workspace;
  if (task.N == 0) {  // nothing is added up
    std::fill_n(task.dw, task.O * task.I, R(0));
    std::fill_n(task.db, task.O, R(0));
  }
  each_piece(task.N, row_flops, size, poll,
             [&](Index n0, Index n1, const Team& team) { kernel.backward(task, n0, n1, team); });
}

template void linear_forward(const LinearKernel<float>&, Linear<float>, const Poll&, std::shared_ptr<Weights<float>>);
template void linear_forward(const LinearKernel<double>&, Linear<double>, const Poll&, std::shared_ptr<Weights<double>>);
template void linear_backward(const LinearKernel<float>&, LinearGradients<float>, const Poll&);
template void linear_backward(const LinearKernel<double>&, LinearGradients<double>, const Poll&);

}  // namespace fastrnn
