#include "call.h"

#include <algorithm>
#include <numeric>
#include <optional>
#include <utility>

#include "threads.h"

namespace fastrnn {
namespace {

// Rows whose slots the input's product writes before the steps read them: enough for full speed or, where the weights
// do not stay near, as many as do.
Index project_rows(Index weight_bytes, Index row_bytes) {
  constexpr Index enough = 64;
  const Index near = caches().second;
  return weight_bytes <= near / 2 ? enough : std::clamp<Index>(near / row_bytes, enough, 8 * enough);
}

constexpr Index gradient_rows = 512;  // whose gradients become those of weights while they are near

// Steps between two looks at signals and at how busy the machine is: long enough that starting a team does not
// count, short enough that a team that must wait for a core is soon given up.
Index steps_at_once(double step_flops) {
  step_flops = std::max(step_flops, 1.0);  // no rows, no operations
  const double few = std::max(32.0, 1e7 / step_flops);
  return Index(std::clamp(1e9 / step_flops, 1.0, few));
}

// Where no row has a step, nothing is added up.
template <class R>
void clear_weights(const Gradients<R>& gradients, Index rows, Index I, Index H) {
  std::fill_n(gradients.w_ih, rows * I, R(0));
  std::fill_n(gradients.w_hh, rows * H, R(0));
  if (gradients.b_ih) std::fill_n(gradients.b_ih, rows, R(0));
  if (gradients.b_hh) std::fill_n(gradients.b_hh, rows, R(0));
}

}  // namespace

template <class R>
Call<R>::Call(const Kernel<R>& kernel, const Inputs<R>& in, bool training, bool recompute)
    : kernel_(kernel), parameters_(in), c0_(in.c0), length_(in.B, in.T),
      block_(std::max<Index>(1, gradient_rows / std::max<Index>(1, in.B))), recompute_(training && recompute) {
  const bool all = training && !recompute;
  layer_ = {{in.T, in.B, 0, nullptr, nullptr, nullptr, in.reverse},
            in.I, in.H, in.x, in.tokens, in.w_ih, in.w_hh, in.h0,
            nullptr, nullptr, nullptr, all ? Keep::all : Keep::none, 1, nullptr, in.mask, nullptr};
  sort_rows(in.lengths);
  const Index B = in.B, rows = offset_.back(), Hp = padded(in.H, kernel.lanes);
  const Index row = padded(kernel.slots * in.H, kernel.lanes), bytes = Index(sizeof(R));
  const Index together = project_rows(kernel.gates * in.H * in.I * bytes, row * bytes) / std::max<Index>(B, 1);
  layer_.chunk = std::clamp<Index>(together, 1, std::max<Index>(layer_.steps.count, 1));
  if (!in.h0) layer_.h0 = no_state_ = Buffer<R>::zeros({B, in.H});
  if (in.mask) {
    layer_.masked = masked_ = Buffer<R>{in.T + 1, B, in.H};
    for (Index i = 0; i < B * in.H; ++i) layer_.masked[i] = layer_.h0[i] * in.mask[i];
  }
  layer_.slots = slots_ = Buffer<R>{all ? rows : layer_.chunk * B, row};
  if (kernel.states > 1) {
    layer_.cells = cells_ = Buffer<R>{all ? B + rows : B, Hp};
    if (recompute_) starts_ = Buffer<R>{(layer_.steps.count + block_ - 1) / block_, B, Hp};
    std::fill_n(layer_.cells, B * Hp, R(0));
    if (c0_)
      for (Index r = 0; r < B; ++r) std::copy_n(c0_ + order_[r] * in.H, in.H, layer_.cells + r * Hp);
  }
}

template <class R>
void Call<R>::sort_rows(const Index* lengths) {
  Steps& steps = layer_.steps;
  order_.resize(steps.B);
  std::iota(order_.begin(), order_.end(), Index(0));
  if (lengths) {
    std::stable_sort(order_.begin(), order_.end(), [&](Index a, Index b) { return lengths[a] > lengths[b]; });
    for (Index r = 0; r < steps.B; ++r) length_[r] = lengths[order_[r]];
  }
  steps.count = steps.B ? length_[0] : 0;
  offset_.assign(steps.count + 1, 0);
  for (Index s = 0, active = steps.B; s < steps.count; ++s) {
    while (length_[active - 1] <= s) --active;
    offset_[s + 1] = offset_[s] + active;
  }
  steps.order = order_.data();
  steps.length = length_.data();
  steps.offset = offset_.data();
}

template <class R>
double Call<R>::step_flops() const {
  const Index inputs = layer_.tokens ? 0 : layer_.I;
  return 2.0 * double(layer_.steps.B) * double(kernel_.gates * layer_.H) * double(inputs + layer_.H);
}

template <class R>
bool Call<R>::better_side_by_side() const {
  constexpr Index small = 1 << 16;  // operations: see kernel/share.h
  const Index weights = kernel_.gates * layer_.H * layer_.H;
  if (max_threads() == 2) return weights * Index(sizeof(R)) <= caches().second;
  return layer_.steps.B < 4 && 2 * layer_.steps.B * weights < small;
}

template <class R>
int Call<R>::threads_for(double flops) const {
  const Index units = padded(layer_.H, kernel_.lanes) / kernel_.lanes;
  return team_for(flops, std::max<Index>(1, layer_.steps.B / 4) * units);
}

template <class R>
int Call<R>::forward_threads() const {
  return threads_for(step_flops() * double(layer_.steps.count));
}

template <class R>
std::shared_ptr<Weights<R>> Call<R>::weights(std::shared_ptr<Weights<R>> kept) const {
  return up_to_date(std::move(kept), kernel_, parameters_, forward_threads());
}

template <class R>
void Call<R>::forward(R* y, R* all_c, R* h_n, R* c_n, const Poll& poll, std::shared_ptr<Weights<R>> weights) {
  const Steps& steps = layer_.steps;
  const Index H = layer_.H, Hp = padded(H, kernel_.lanes);
  layer_.y = y;
  layer_.all_c = all_c;
  const int size = forward_threads();
  bool to_pack = !weights;  // with the first steps: a team takes time to come together
  if (to_pack) weights = std::make_shared<Weights<R>>(kernel_, parameters_);
  Buffer<char> workspace{size, kernel_.forward_workspace(layer_)};
  const Forward<R> task{layer_, weights->packed(), workspace};
  const Index piece = std::max(steps_at_once(step_flops()), layer_.chunk);
  Patience patience(poll);
  clear_padding(y, H, size);
  for (Index s = 0, next; s < steps.count; s = next) {
    next = std::min(s + piece, steps.count);
    if (recompute_) next = std::min(next, s / block_ * block_ + block_);
    if (starts_ && s % block_ == 0) std::copy_n(layer_.cells, steps.active(s) * Hp, start(s));
    parallel(size, [&](const Team& team) {
      if (to_pack) weights->pack(parameters_, team);
      kernel_.forward(task, s, next, team);
    });
    to_pack = false;
    patience.check();
  }
  for (Index r = 0; r < steps.B; ++r) {
    const Index b = steps.order[r], last = steps.length[r] - 1;
    std::copy_n(last < 0 ? layer_.h0 + b * H : y + steps.at(last, r) * H, H, h_n + b * H);
    const Index row = layer_.keep == Keep::all && last >= 0 ? steps.B + steps.offset[last] + r : r;
    if (c_n) std::copy_n(layer_.cells + row * Hp, H, c_n + b * H);
  }
}

template <class R>
void Call<R>::clear_padding(R* rows, Index width, int size) const {
  const Steps& steps = layer_.steps;
  if (steps.offset[steps.count] == steps.T * steps.B) return;
  parallel(size, [&](const Team& team) {
    for (Index r = team.rank; r < steps.B; r += team.size)
      for (Index t = steps.length[r]; t < steps.T; ++t)
        std::fill_n(rows + (t * steps.B + steps.order[r]) * width, width, R(0));
  });
}

template <class R>
R* Call<R>::start(Index s) {
  return starts_ + s / block_ * layer_.steps.B * padded(layer_.H, kernel_.lanes);
}

// From now on, slots and cells are those of one block of backward.
template <class R>
void Call<R>::keep_block() {
  const Index B = layer_.steps.B, Hp = padded(layer_.H, kernel_.lanes);
  const Index row = padded(kernel_.slots * layer_.H, kernel_.lanes);
  layer_.keep = Keep::chunk;
  layer_.all_c = nullptr;
  layer_.chunk = std::clamp<Index>(layer_.steps.count, 1, block_);
  layer_.slots = slots_ = Buffer<R>{layer_.chunk * B, row};
  if (kernel_.states > 1) layer_.cells = cells_ = Buffer<R>{B + layer_.chunk * B, Hp};
}

template <class R>
void Call<R>::backward(const R* dy, const R* dh_n, const R* dc_n, const Gradients<R>& gradients, const Poll& poll) {
  const Steps& steps = layer_.steps;
  const Index H = layer_.H, B = steps.B, Hp = padded(H, kernel_.lanes), G = kernel_.gates;
  const bool has_cells = kernel_.states > 1;
  const int size = threads_for(2 * step_flops() * double(steps.count));
  const Index Ip = padded(layer_.I, kernel_.lanes);
  Buffer<R> packed_hh{G * H, Hp}, packed_ih{G * H, gradients.x ? Ip : 0};
  Buffer<R> dh = Buffer<R>::zeros({B, Hp}), dc = Buffer<R>::zeros({has_cells ? B : 0, Hp});
  Buffer<R> dmasked = Buffer<R>::zeros({layer_.mask ? B : 0, Hp});
  Buffer<R> dtable{layer_.tokens ? layer_.I : 0, padded(G * H, kernel_.lanes)};
  Buffer<R> dbias = Buffer<R>::zeros({2, padded(kernel_.slots * H, kernel_.lanes)});
  Buffer<char> workspace{size, kernel_.backward_workspace(layer_)};
  for (Index r = 0; r < B; ++r) {
    if (dh_n) std::copy_n(dh_n + steps.order[r] * H, H, dh + r * Hp);
    if (dc_n) std::copy_n(dc_n + steps.order[r] * H, H, dc + r * Hp);
  }
  if (recompute_) keep_block();
  std::optional<Weights<R>> weights;
  if (recompute_) weights.emplace(kernel_, parameters_, size);
  Buffer<char> forward_workspace{recompute_ ? size : 0, kernel_.forward_workspace(layer_)};
  const Forward<R> again{layer_, weights ? weights->packed() : Packed<R>{}, forward_workspace};
  R* to_masked = layer_.mask ? static_cast<R*>(dmasked) : nullptr;
  const Backward<R> task{layer_, dy, packed_hh, packed_ih, dh, dc, to_masked, gradients.x, gradients.hidden,
                         gradients.w_ih, gradients.w_hh, gradients.b_ih, gradients.b_hh, dtable, dbias, workspace};
  const Index piece = steps_at_once(2 * step_flops());
  Patience patience(poll);
  if (gradients.x) clear_padding(gradients.x, layer_.I, size);
  if (steps.count == 0) clear_weights(gradients, G * H, layer_.I, H);
  for (Index end = steps.count, first; end > 0; end = first) {
    first = (end - 1) / block_ * block_;
    if (recompute_) {
      if (starts_) std::copy_n(start(first), steps.active(first) * Hp, layer_.cells);
      parallel(size, [&](const Team& team) { kernel_.rebuild(again, first, end, team); });
      patience.check();
    }
    for (Index s1 = end, s0; s1 > first; s1 = s0) {
      s0 = std::max(first, s1 - piece);
      parallel(size, [&](const Team& team) { kernel_.backward(task, s0, s1, team); });
      patience.check();
    }
    parallel(size, [&](const Team& team) { kernel_.gradients(task, first, end, team); });
    patience.check();
  }
  for (Index r = 0; r < B; ++r) {
    const Index b = steps.order[r];
    std::copy_n(dh + r * Hp, H, gradients.h0 + b * H);
    for (Index j = 0; layer_.mask && j < H; ++j) gradients.h0[b * H + j] += layer_.mask[b * H + j] * dmasked[r * Hp + j];
    if (gradients.c0) std::copy_n(dc + r * Hp, H, gradients.c0 + b * H);
  }
}

template class Call<float>;
template class Call<double>;

}  // namespace fastrnn
