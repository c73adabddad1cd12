#include "stack.h"

#include <algorithm>
#include <optional>
#include <utility>

namespace fastrnn {
namespace {

// The part of a direction in rows of both.
template <class T>
Series<T> side(Series<T> both, Index d, Index width) {
  if (both) both.data += d * width;
  return both;
}

// An array's part for a layer and direction, or null.
template <class T>
T* part(T* all, Index place, Index size) {
  return all ? all + place * size : nullptr;
}

template <class R>
Inputs<R> inputs_of(const Layers<R>& layers, const StackCall<R>& call, Index place, const Series<const R>& x) {
  const Parameters<R>& parameters = layers.parameters[place];
  const Index B = call.order.B();
  Inputs<R> in{parameters};
  in.steps = call.order.steps(place % layers.D == 1);
  in.x = x;
  if (place < layers.D) in.tokens = call.tokens;
  in.h0 = part(call.h0, place, B * parameters.P);
  in.c0 = part(call.c0, place, B * parameters.H);
  in.start_h = part(call.start_h, place, B * parameters.P);
  in.start_c = part(call.start_c, place, B * parameters.H);
  in.mask = part(call.mask, place, B * parameters.P);
  in.options = layers.options;
  return in;
}

// Calls fn(place) for all rows of all steps.
template <class F>
void each_row(const Order& order, const F& fn) {
  const Steps steps = order.steps(false);
  for (Index s = 0; s < steps.count; ++s)
    for (Index r = 0; r < steps.active(s); ++r) fn(steps.at(s, r));
}

template <class R>
void copy_rows(const Order& order, const Series<R>& from, Index width, const Series<R>& to) {
  each_row(order, [&](Place place) { std::copy_n(from.at(place), width, to.at(place)); });
}

template <class R>
void add_rows(const Order& order, const Series<R>& from, Index width, const Series<R>& to) {
  each_row(order, [&](Place place) {
    const R* more = from.at(place);
    R* sum = to.at(place);
    for (Index i = 0; i < width; ++i) sum[i] += more[i];
  });
}

// The parts of what training keeps: of every layer and direction what it keeps itself, then the outputs.
template <class R>
struct Parts {
  R* memory = nullptr;
  Room call, output;

  Parts() = default;
  Parts(const Layers<R>& layers, const StackCall<R>& call, R* memory)
      : memory(memory), call(room_of(layers.kernel, inputs_of(layers, call, 0, call.x), call.recompute)),
        output{in_lines<R>(layers.D * layers.parameters[0].P), 0} {}

  R* of_call(const Order& order, Index place) const { return part(memory, place, call.of(order.rows(), order.B())); }
  R* of_output(const Order& order, Index places, Index layer) const {
    return of_call(order, places) + layer * output.of(order.rows(), 0);
  }
};

// Forward through all layers, with memory in training.
template <class R>
void forward(const Layers<R>& layers, const StackCall<R>& call, R* memory, AllWeights<R>& weights, bool update,
             const Poll& poll) {
  const Order& order = call.order;
  const Index B = order.B(), D = layers.D, P = layers.parameters[0].P, H = layers.parameters[0].H;
  const Parts<R> parts = memory ? Parts<R>(layers, call, memory) : Parts<R>();
  Series<const R> x = call.x;
  Buffer<R> below;
  for (Index layer = 0; layer < layers.L; ++layer) {
    const bool last = layer + 1 == layers.L;
    Buffer<R> made{last || memory ? 0 : order.rows(), D * P};
    R* const output = memory ? parts.of_output(order, layers.L * D, layer) : static_cast<R*>(made);
    const Series<R> y = last ? call.y : order.packed(output, D * P);
    std::optional<Call<R>> calls[2];
    for (Index d = 0; d < D; ++d) {
      const Index place = layer * D + d;
      calls[d].emplace(layers.kernel, inputs_of(layers, call, place, x), parts.of_call(order, place), call.recompute);
    }
    each_direction(int(D), calls[0]->better_side_by_side(), poll, [&](int d, const Poll& watch) {
      const Index place = layer * D + d;
      std::shared_ptr<Weights<R>>& packed = weights[std::size_t(place)];
      if (update) packed = calls[d]->weights(std::move(packed));
      Outputs<R> to{.y = side(y, d, P), .all_c = {}, .h = part(call.h_n, place, B * P)};
      if (call.all_c) to.all_c = series(part(call.all_c, place, order.T() * B * H), B, H);
      to.c = part(call.c_n, place, B * H);
      calls[d]->forward(to, watch, packed);
      if (call.all_h) copy_rows(order, to.y, P, series(part(call.all_h, place, order.T() * B * P), B, P));
    });
    if (memory && !last) clear_gaps(output, order.rows(), D * P, D * P);
    x = y;
    below = std::move(made);
  }
}

}  // namespace

template <class R>
double flops_of(const Layers<R>& layers, const StackCall<R>& call) {
  double columns = 0;
  for (Index place = 0; place < layers.L * layers.D; ++place) {
    const Parameters<R>& each = layers.parameters[place];
    columns += double(layers.kernel.gates * each.H) * double(each.P + (call.tokens && place < layers.D ? 0 : each.I));
  }
  return 2 * double(call.order.rows()) * columns;
}

template <class R>
void run_stack(const Layers<R>& layers, const StackCall<R>& call, AllWeights<R>& weights, bool update, const Poll& poll) {
  forward<R>(layers, call, nullptr, weights, update, poll);
}

template <class R>
Room room_of(const Layers<R>& layers, const StackCall<R>& call) {
  const Parts<R> parts(layers, call, nullptr);
  const Index places = layers.L * layers.D;
  return {places * parts.call.row + (layers.L - 1) * parts.output.row, places * parts.call.sequence};
}

template <class R>
void train_stack(const Layers<R>& layers, const StackCall<R>& call, R* memory, const Poll& poll) {
  AllWeights<R> weights(std::size_t(layers.L * layers.D));
  forward(layers, call, memory, weights, false, poll);
}

template <class R>
void back_through_stack(const Layers<R>& layers, const StackCall<R>& call, R* memory, const StackGradients<R>& gradients,
                        bool again, const Poll& poll) {
  const Order& order = call.order;
  const Index T = order.T(), B = order.B(), D = layers.D, P = layers.parameters[0].P, H = layers.parameters[0].H;
  const Parts<R> parts(layers, call, memory);
  const auto output = [&](Index layer) { return order.packed(parts.of_output(order, layers.L * D, layer), D * P); };
  Series<const R> dy = gradients.y;
  Buffer<R> above;
  for (Index layer = layers.L; layer-- > 0;) {
    const Index I = layers.parameters[layer * D].I;
    const bool wanted = layer > 0 || gradients.x;
    Buffer<R> made{layer > 0 ? order.rows() : 0, I}, other{wanted && D == 2 ? order.rows() : 0, I};
    const Series<R> dx = layer > 0 ? order.packed(static_cast<R*>(made), I) : gradients.x;
    const Series<R> second = order.packed(static_cast<R*>(other), I);
    const Series<const R> x = layer > 0 ? Series<const R>(output(layer - 1)) : call.x;
    const Series<R> y = layer + 1 < layers.L ? output(layer) : call.y;
    std::optional<Call<R>> calls[2];
    for (Index d = 0; d < D; ++d) {
      const Index place = layer * D + d;
      calls[d].emplace(layers.kernel, inputs_of(layers, call, place, x), parts.of_call(order, place), call.recompute);
    }
    each_direction(int(D), calls[0]->better_side_by_side(), poll, [&](int d, const Poll& watch) {
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
      to.start_h = part(gradients.start_h, place, B * P);
      to.start_c = part(gradients.start_c, place, B * H);
      calls[d]->backward(side(y, d, P), given, to, watch, again);
    });
    if (wanted && D == 2) add_rows(order, second, I, dx);
    above = std::move(made);
    dy = dx;
  }
}

#define FASTRNN_STACK(R)                                                                                       \
  template double flops_of(const Layers<R>&, const StackCall<R>&);                                             \
  template void run_stack(const Layers<R>&, const StackCall<R>&, AllWeights<R>&, bool, const Poll&);           \
  template Room room_of(const Layers<R>&, const StackCall<R>&);                                                \
  template void train_stack(const Layers<R>&, const StackCall<R>&, R*, const Poll&);                           \
  template void back_through_stack(const Layers<R>&, const StackCall<R>&, R*, const StackGradients<R>&, bool, \
                                   const Poll&);
FASTRNN_STACK(float)
FASTRNN_STACK(double)

}  // namespace fastrnn
