#include "stack.h"

#include <algorithm>
#include <utility>

namespace fastrnn {
namespace {

template <class R>
void copy_rows(const Series<R>& from, Index T, Index B, Index width, R* to) {
  for (Index t = 0; t < T; ++t)
    for (Index b = 0; b < B; ++b, to += width) std::copy_n(from.at({t, b}), width, to);
}

}  // namespace

template <class R>
void run_stack(const Kernel<R>& kernel, const std::vector<Parameters<R>>& parameters, int D, const Options& options,
               const StackCall<R>& call, AllWeights<R>& weights, bool update, const Poll& poll) {
  const Index T = call.T, B = call.B;
  const std::size_t places = parameters.size();
  Buffer<R> below;
  Series<const R> x = call.x;
  for (std::size_t first = 0; first < places; first += std::size_t(D)) {
    const Index P = parameters[first].P, H = parameters[first].H;
    const bool last = first + std::size_t(D) == places;
    Buffer<R> made{last ? 0 : T, B, D * P};
    const Series<R> y = last ? call.y : series(static_cast<R*>(made), B, D * P);
    std::vector<Call<R>> calls;
    calls.reserve(std::size_t(D));
    for (int d = 0; d < D; ++d) {
      const Index place = Index(first) + d;
      Inputs<R> in{parameters[std::size_t(place)]};
      in.T = T, in.B = B;
      in.x = x;
      if (first == 0) in.tokens = call.tokens;
      if (call.h0) in.h0 = call.h0 + place * B * P;
      if (call.c0) in.c0 = call.c0 + place * B * H;
      in.lengths = call.lengths;
      in.reverse = d == 1;
      in.options = options;
      calls.emplace_back(kernel, in, false);
    }
    each_direction(D, calls[0].better_side_by_side(), poll, [&](int d, const Poll& watch) {
      const Index place = Index(first) + d;
      std::shared_ptr<Weights<R>>& packed = weights[std::size_t(place)];
      if (update) packed = calls[std::size_t(d)].weights(std::move(packed));
      Outputs<R> to{.y = {y.data + d * P, y.t, y.b}, .all_c = {}, .h = call.h_n + place * B * P};
      if (call.all_c) to.all_c = series(call.all_c + place * T * B * H, B, H);
      if (call.c_n) to.c = call.c_n + place * B * H;
      calls[std::size_t(d)].forward(to, watch, packed);
      if (call.all_h) copy_rows(to.y, T, B, P, call.all_h + place * T * B * P);
    });
    below = std::move(made);
    x = y;
  }
}

template void run_stack(const Kernel<float>&, const std::vector<Parameters<float>>&, int, const Options&,
                        const StackCall<float>&, AllWeights<float>&, bool, const Poll&);
template void run_stack(const Kernel<double>&, const std::vector<Parameters<double>>&, int, const Options&,
                        const StackCall<double>&, AllWeights<double>&, bool, const Poll&);

}  // namespace fastrnn
