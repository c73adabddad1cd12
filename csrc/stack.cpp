#include "stack.h"

#include <algorithm>
#include <utility>

namespace fastrnn {
namespace {

// The part of a direction in rows of both.
template <class T>
Series<T> side(const Series<T>& both, Index d, Index width) {
  return both ? Series<T>{both.data + d * width, both.t, both.b} : both;
}

// An array's part for a layer and direction, or null.
template <class T>
T* part(T* all, Index place, Index size) {
  return all ? all + place * size : nullptr;
}

template <class R>
Inputs<R> inputs_of(const Layers<R>& layers, const StackCall<R>& call, Index place, const Series<const R>& x) {
  const Parameters<R>& parameters = layers.parameters[place];
  Inputs<R> in{parameters};
  in.T = call.T, in.B = call.B;
  in.x = x;
  if (place < layers.D) in.tokens = call.tokens;
  in.h0 = part(call.h0, place, call.B * parameters.P);
  in.c0 = part(call.c0, place, call.B * parameters.H);
  in.lengths = call.lengths;
  in.reverse = place % layers.D == 1;
  in.mask = part(call.mask, place, call.B * parameters.P);
  in.options = layers.options;
  return in;
}

template <class R>
void copy_rows(const Series<R>& from, Index T, Index B, Index width, R* to) {
  for (Index t = 0; t < T; ++t)
    for (Index b = 0; b < B; ++b, to += width) std::copy_n(from.at({t, b}), width, to);
}

template <class R>
void add_rows(const Series<R>& from, Index T, Index B, Index width, const Series<R>& to) {
  for (Index t = 0; t < T; ++t)
    for (Index b = 0; b < B; ++b) {
      const R* more = from.at({t, b});
      R* sum = to.at({t, b});
      for (Index i = 0; i < width; ++i) sum[i] += more[i];
    }
}

// Forward through all layers; what the calls of a layer leave and its output go to `leave(calls, output)`.
template <class R, class F>
void forward(const Layers<R>& layers, const StackCall<R>& call, bool training, AllWeights<R>& weights, bool update,
             const Poll& poll, const F& leave) {
  const Index T = call.T, B = call.B, D = layers.D, P = layers.parameters[0].P, H = layers.parameters[0].H;
  Series<const R> x = call.x;
  for (Index layer = 0; layer < layers.L; ++layer) {
    const bool last = layer + 1 == layers.L;
    Buffer<R> made{last ? 0 : T, B, D * P};
    const Series<R> y = last ? call.y : series(static_cast<R*>(made), B, D * P);
    std::vector<std::unique_ptr<Call<R>>> calls;
    for (Index d = 0; d < D; ++d) {
      const Inputs<R> in = inputs_of(layers, call, layer * D + d, x);
      calls.push_back(std::make_unique<Call<R>>(layers.kernel, in, training, call.recompute));
    }
    each_direction(int(D), calls[0]->better_side_by_side(), poll, [&](int d, const Poll& watch) {
      const Index place = layer * D + d;
      std::shared_ptr<Weights<R>>& packed = weights[std::size_t(place)];
      if (update) packed = calls[std::size_t(d)]->weights(std::move(packed));
      Outputs<R> to{.y = side(y, d, P), .all_c = {}, .h = part(call.h_n, place, B * P)};
      if (call.all_c) to.all_c = series(part(call.all_c, place, T * B * H), B, H);
      to.c = part(call.c_n, place, B * H);
      calls[std::size_t(d)]->forward(to, watch, packed);
      if (call.all_h) copy_rows(to.y, T, B, P, part(call.all_h, place, T * B * P));
    });
    x = y;
    leave(std::move(calls), std::move(made));
  }
}

}  // namespace

template <class R>
void run_stack(const Layers<R>& layers, const StackCall<R>& call, AllWeights<R>& weights, bool update, const Poll& poll) {
  Buffer<R> below;
  forward(layers, call, false, weights, update, poll, [&](auto&&, Buffer<R>&& made) { below = std::move(made); });
}

template <class R>
Trace<R> train_stack(const Layers<R>& layers, const StackCall<R>& call, const Poll& poll) {
  Trace<R> trace;
  AllWeights<R> weights(std::size_t(layers.L * layers.D));
  forward(layers, call, true, weights, false, poll, [&](auto&& calls, Buffer<R>&& made) {
    for (auto& each : calls) trace.calls.push_back(std::move(each));
    trace.outputs.push_back(std::move(made));
  });
  return trace;
}

template <class R>
void back_through_stack(const Layers<R>& layers, const StackCall<R>& call, Trace<R>& trace, const StackGradients<R>& gradients,
                        bool again, const Poll& poll) {
  const Index T = call.T, B = call.B, D = layers.D, P = layers.parameters[0].P, H = layers.parameters[0].H;
  Series<const R> dy = gradients.y;
  Buffer<R> above;
  for (Index layer = layers.L; layer-- > 0;) {
    const Index I = layers.parameters[layer * D].I;
    const bool wanted = layer > 0 || gradients.x;
    Buffer<R> made{layer > 0 ? T : 0, B, I}, other{wanted && D == 2 ? T : 0, B, I};
    const Series<R> dx = layer > 0 ? series(static_cast<R*>(made), B, I) : gradients.x;
    const Series<R> second = series(static_cast<R*>(other), B, I);
    const auto& first = trace.calls[std::size_t(layer * D)];
    each_direction(int(D), first->better_side_by_side(), poll, [&](int d, const Poll& watch) {
      const Index place = layer * D + d;
      const OutputGradients<R> given{.y = side(dy, d, P),
                                     .h = part(gradients.h_n, place, B * P),
                                     .c = part(gradients.c_n, place, B * H)};
      Gradients<R> to;
      if (wanted) to.x = d ? second : dx;
      if (gradients.hidden) to.hidden = series(part(gradients.hidden, place, T * B * P), B, P);
      to.parameters = gradients.parameters[std::size_t(place)];
      to.h0 = part(gradients.h0, place, B * P);
      to.c0 = part(gradients.c0, place, B * H);
      trace.calls[std::size_t(place)]->backward(given, to, watch, again);
    });
    if (wanted && D == 2) add_rows(second, T, B, I, dx);
    above = std::move(made);
    dy = dx;
  }
}

#define FASTRNN_STACK(R)                                                                                          \
  template void run_stack(const Layers<R>&, const StackCall<R>&, AllWeights<R>&, bool, const Poll&);              \
  template Trace<R> train_stack(const Layers<R>&, const StackCall<R>&, const Poll&);                              \
  template void back_through_stack(const Layers<R>&, const StackCall<R>&, Trace<R>&, const StackGradients<R>&, bool, \
                                   const Poll&);
FASTRNN_STACK(float)
FASTRNN_STACK(double)

}  // namespace fastrnn
