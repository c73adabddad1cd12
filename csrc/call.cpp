#include "call.h"

#include <algorithm>
#include <atomic>
#include <optional>
#include <stdexcept>
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

// Numbers of `Layer::rows` for each row of slots.
template <class R>
Index own_row(const Kernel<R>& kernel, const Parameters<R>& p) {
  const Index Hp = padded(p.H, kernel.lanes);
  if (p.w_hr) return Hp + padded(p.P, kernel.lanes);
  return kernel.has_row ? Hp : 0;
}

Index gradient_steps(Index B) { return std::max<Index>(1, gradient_rows / std::max<Index>(1, B)); }

// What training keeps, part after part: where each begins, and where they end.
struct Parts {
  Index slots, rows, c, starts, masked, end;
};

template <class R>
Parts parts_of(const Kernel<R>& kernel, const Inputs<R>& in, bool recompute, const Room& of) {
  Index next = 0;
  const auto part = [&](Index row, Index sequence) {
    return std::exchange(next, next + Room{in_lines<R>(row), in_lines<R>(sequence)}.of(of.row, of.sequence));
  };
  const Index c = kernel.states > 1 ? padded(in.H, kernel.lanes) : 0, masked = in.mask ? in.P : 0;
  const Index blocks = (in.steps.count + gradient_steps(in.steps.B) - 1) / gradient_steps(in.steps.B);
  Parts parts{};
  if (recompute) {
    parts.starts = part(0, blocks * c);
  } else {
    parts.slots = part(kernel.row(in.H), 0);
    parts.rows = part(own_row(kernel, in), 0);
    parts.c = part(c, c);
  }
  parts.masked = part(masked, masked);
  parts.end = next;
  return parts;
}

// Of a state h [B, P] sorted rows, times the mask; of c [B, H], or null for zeros, sorted rows [B, Hp].
template <class R>
void multiply_by_mask(const Inputs<R>& in, const R* h, R* to) {
  for (Index r = 0; r < in.steps.B; ++r)
    for (Index j = 0, from = in.steps.order[r] * in.P; j < in.P; ++j) to[r * in.P + j] = h[from + j] * in.mask[from + j];
}
template <class R>
void sort_c(const Inputs<R>& in, const R* c, Index Hp, R* to) {
  std::fill_n(to, in.steps.B * Hp, R(0));
  for (Index r = 0; c && r < in.steps.B; ++r) std::copy_n(c + in.steps.order[r] * in.H, in.H, to + r * Hp);
}

// The gradients of such states, from those of sorted rows.
template <class R>
void unsort(const Steps& steps, const R* rows, Index width, Index padded, R* to) {
  for (Index r = 0; r < steps.B; ++r) std::copy_n(rows + r * padded, width, to + steps.order[r] * width);
}

}  // namespace

template <class R>
Room room_of(const Kernel<R>& kernel, const Inputs<R>& in, bool recompute) {
  return {parts_of(kernel, in, recompute, {1, 0}).end, parts_of(kernel, in, recompute, {0, 1}).end};
}

template <class R>
Call<R>::Call(const Kernel<R>& kernel, const Inputs<R>& in, R* memory, bool recompute)
    : kernel_(kernel), layer_{in}, gradient_steps_(gradient_steps(in.steps.B)), recompute_(memory && recompute) {
  const Steps& steps = layer_.steps;
  layer_.keep = memory && !recompute ? Keep::all : Keep::none;
  if (!in.h0) layer_.h0 = no_state_ = Buffer<R>::zeros({steps.B, in.P});
  if (steps.starts) take_starts();
  if (!memory) return;
  const Parts at = parts_of(kernel, in, recompute, {steps.offset[steps.count], steps.B});
  layer_.slots = memory + at.slots, layer_.rows = memory + at.rows, layer_.c = memory + at.c;
  starts_ = memory + at.starts, layer_.masked = memory + at.masked;
}

// Room for the slots and c of one block, where not all stay.
template <class R>
void Call<R>::take_block() {
  const Index B = layer_.steps.B, rows = layer_.block * B;
  layer_.slots = slots_ = Buffer<R>{rows, kernel_.row(layer_.H)};
  layer_.rows = rows_ = Buffer<R>{rows, own_row(kernel_, layer_)};
  if (kernel_.states > 1)
    layer_.c = c_ = Buffer<R>{layer_.keep == Keep::block ? B + rows : B, padded(layer_.H, kernel_.lanes)};
}

// Where rows start anew from.
template <class R>
void Call<R>::take_starts() {
  const Index B = layer_.steps.B, H = layer_.H, P = layer_.P, Hp = padded(H, kernel_.lanes);
  if (!layer_.start_h) layer_.start_h = no_start_ = Buffer<R>::zeros({B, P});
  if (layer_.mask) {
    layer_.anew_masked = anew_masked_ = Buffer<R>{B, P};
    multiply_by_mask(layer_, layer_.start_h, layer_.anew_masked);
  }
  if (kernel_.states > 1) {
    layer_.anew_c = anew_c_ = Buffer<R>{B, Hp};
    sort_c(layer_, layer_.start_c, Hp, layer_.anew_c);
  }
}

// Where the first step starts from.
template <class R>
void Call<R>::begin() {
  const Steps& steps = layer_.steps;
  const Index B = steps.B, H = layer_.H, P = layer_.P, rows = steps.offset[steps.count], Hp = padded(H, kernel_.lanes);
  const Index weights = kernel_.gates * H * layer_.I, row = kernel_.row(H), bytes = Index(sizeof(R));
  const Index together = project_rows(weights * bytes, row * bytes) / std::max<Index>(B, 1);
  layer_.block = std::clamp<Index>(together, 1, std::max<Index>(steps.count, 1));
  if (layer_.keep == Keep::all) {
    clear_gaps(layer_.slots, rows, row, row);
    clear_gaps(layer_.rows, rows, own_row(kernel_, layer_), layer_.w_hr ? H : Hp);
    if (kernel_.states > 1) clear_gaps(layer_.c, B + rows, Hp, Hp);
  } else {
    take_block();
  }
  if (layer_.mask) {
    if (!layer_.masked) layer_.masked = masked_ = Buffer<R>{B + rows, P};
    multiply_by_mask(layer_, layer_.h0, layer_.masked);
  }
  if (kernel_.states > 1) sort_c(layer_, layer_.c0, Hp, layer_.c);
}

template <class R>
double Call<R>::step_flops() const {
  const Index inputs = layer_.tokens ? 0 : layer_.I;
  return 2.0 * double(layer_.steps.B) * double(kernel_.gates * layer_.H) * double(inputs + layer_.P);
}

template <class R>
bool Call<R>::better_side_by_side() const {
  constexpr Index small = 1 << 16;  // operations: see kernel/share.h
  const Index weights = kernel_.gates * layer_.H * layer_.P;
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
  return up_to_date(std::move(kept), kernel_, static_cast<const Parameters<R>&>(layer_), forward_threads());
}

template <class R>
void Call<R>::forward(const Outputs<R>& to, const Poll& poll, std::shared_ptr<Weights<R>> weights) {
  const Steps& steps = layer_.steps;
  const Index H = layer_.H, P = layer_.P, Hp = padded(H, kernel_.lanes);
  layer_.y = to.y;
  layer_.all_c = to.all_c;
  begin();
  const int size = forward_threads();
  bool to_pack = !weights;  // with the first steps: a team takes time to come together
  if (to_pack) weights = std::make_shared<Weights<R>>(kernel_, layer_);
  Buffer<char> workspace{size, kernel_.forward_workspace(layer_)};
  const Forward<R> task{{layer_}, weights->packed(), workspace};
  const Index piece = std::max(steps_at_once(step_flops()), layer_.block);
  Patience patience(poll);
  clear_padding(to.y, P, size);
  for (Index s = 0, next; s < steps.count; s = next) {
    next = std::min(s + piece, steps.count);
    if (recompute_) next = std::min(next, s / gradient_steps_ * gradient_steps_ + gradient_steps_);
    if (recompute_ && kernel_.states > 1 && s % gradient_steps_ == 0) std::copy_n(layer_.c, steps.active(s) * Hp, start(s));
    parallel(size, [&](const Team& team) {
      if (to_pack) weights->pack(layer_, team);
      kernel_.forward(task, s, next, team);
    });
    to_pack = false;
    patience.check();
  }
  for (Index r = 0; r < steps.B; ++r) {
    const Index b = steps.order[r], last = steps.length[r] - 1;
    std::copy_n(last < 0 ? layer_.h0 + b * P : to.y.at(steps.at(last, r)), P, to.h + b * P);
    const Index row = layer_.keep == Keep::all && last >= 0 ? steps.B + steps.offset[last] + r : r;
    if (to.c) std::copy_n(layer_.c + row * Hp, H, to.c + b * H);
  }
}

template <class R>
void Call<R>::clear_padding(const Series<R>& rows, Index width, int size) const {
  const Steps& steps = layer_.steps;
  if (rows.starts || steps.offset[steps.count] == steps.T * steps.B) return;
  parallel(size, [&](const Team& team) {
    for (Index r = team.rank; r < steps.B; r += team.size)
      for (Index t = steps.length[r]; t < steps.T; ++t) std::fill_n(rows.at({t, steps.order[r], r}), width, R(0));
  });
}

template <class R>
R* Call<R>::start(Index s) {
  return starts_ + s / gradient_steps_ * layer_.steps.B * padded(layer_.H, kernel_.lanes);
}

template <class R>
void Call<R>::backward(const Series<const R>& y, const OutputGradients<R>& given, const Gradients<R>& gradients,
                       const Poll& poll, bool again) {
  const Steps& steps = layer_.steps;
  const Index H = layer_.H, P = layer_.P, B = steps.B, Hp = padded(H, kernel_.lanes), G = kernel_.gates;
  const Index own_row = fastrnn::own_row(kernel_, layer_);
  const bool has_c = kernel_.states > 1;
  const int size = threads_for(2 * step_flops() * double(steps.count));
  const Index Ip = padded(layer_.I, kernel_.lanes), Pp = padded(P, kernel_.lanes);
  Buffer<R> packed_hh{G * H, Pp}, packed_hr{layer_.w_hr ? P : 0, Hp}, packed_ih{G * H, gradients.x ? Ip : 0};
  Buffer<R> dh = Buffer<R>::zeros({B, Pp}), dc = Buffer<R>::zeros({has_c ? B : 0, Hp});
  Buffer<R> dmasked = Buffer<R>::zeros({layer_.mask ? B : 0, Pp});
  const bool starts = gradients.start_h;
  Buffer<R> start_dh = Buffer<R>::zeros({starts ? B : 0, Pp}), start_dc = Buffer<R>::zeros({starts && has_c ? B : 0, Hp});
  Buffer<R> drows{own_row ? B : 0, Hp}, dvectors = Buffer<R>::zeros({B, kernel_.sums, Hp});
  Buffer<R> dtable{layer_.tokens ? layer_.I : 0, padded(G * H, kernel_.lanes)};
  Buffer<R> dbias = Buffer<R>::zeros({2, kernel_.row(H)});
  Buffer<char> workspace{kernel_.backward_workspace(layer_, size)};
  for (Index r = 0; r < B; ++r) {
    if (given.h) std::copy_n(given.h + steps.order[r] * P, P, dh + r * Pp);
    if (given.c) std::copy_n(given.c + steps.order[r] * H, H, dc + r * Hp);
  }
  layer_.y = {const_cast<R*>(y.data), y.t, y.b, y.starts};  // which is only read
  if (recompute_) {
    layer_.keep = Keep::block;
    layer_.all_c = {};
    layer_.block = std::clamp<Index>(steps.count, 1, gradient_steps_);
    take_block();
  }
  std::optional<Weights<R>> weights;
  if (recompute_ || kernel_.own()) weights.emplace(kernel_, layer_, size);
  Buffer<char> forward_workspace{recompute_ ? size : 0, kernel_.forward_workspace(layer_)};
  const Forward<R> forward_task{{layer_}, weights ? weights->packed() : Packed<R>{}, forward_workspace};
  Backward<R> task{{layer_}};
  const Index kept = again && !recompute_ ? steps.offset[steps.count] : 0;
  Buffer<R> slots{kept, kernel_.row(H)}, rows{kept, own_row};
  if (kept) {
    std::copy_n(layer_.slots, kept * kernel_.row(H), static_cast<R*>(task.slots = slots));
    std::copy_n(layer_.rows, kept * own_row, static_cast<R*>(task.rows = rows));
  }
  task.dy = given.y, task.gradients = gradients;
  task.packed_hh = packed_hh, task.packed_ih = packed_ih, task.packed_hr = packed_hr;
  task.drows = drows, task.dvectors = dvectors, task.packed = forward_task.packed;
  task.start_dh = start_dh, task.start_dc = start_dc;
  task.dh = dh, task.dc = dc, task.dtable = dtable, task.dbias = dbias, task.workspace = workspace;
  if (layer_.mask) task.dmasked = dmasked;
  const Index piece = steps_at_once(2 * step_flops());
  Patience patience(poll);
  if (gradients.x) clear_padding(gradients.x, layer_.I, size);
  if (steps.count == 0)  // nothing is added up
    each_array(gradients.parameters, kernel_, [](R* array, Index count) { std::fill_n(array, count, R(0)); });
  for (Index end = steps.count, first; end > 0; end = first) {
    first = (end - 1) / gradient_steps_ * gradient_steps_;
    if (recompute_) {
      if (has_c) std::copy_n(start(first), steps.active(first) * Hp, layer_.c);
      parallel(size, [&](const Team& team) { kernel_.rebuild(forward_task, first, end, team); });
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
  unsort<R>(steps, dh, P, Pp, gradients.h0);
  for (Index r = 0; layer_.mask && r < B; ++r)
    for (Index j = 0, b = steps.order[r]; j < P; ++j) gradients.h0[b * P + j] += layer_.mask[b * P + j] * dmasked[r * Pp + j];
  if (gradients.c0) unsort<R>(steps, dc, H, Hp, gradients.c0);
  if (starts) unsort<R>(steps, start_dh, P, Pp, gradients.start_h);
  if (starts && has_c) unsort<R>(steps, start_dc, H, Hp, gradients.start_c);
}

void each_direction(int count, bool side_by_side, const Poll& poll, const std::function<void(int, const Poll&)>& fn) {
  if (count != 2 || !side_by_side) {
    for (int d = 0; d < count; ++d) fn(d, poll);
    return;
  }
  std::atomic<bool> ended{false};
  const Poll watch = [&] {
    if (ended) throw std::runtime_error("the other direction was ended");
    try {
      poll();
    } catch (...) {
      ended = true;
      throw;
    }
  };
  together([&] { fn(0, watch); }, [&] { fn(1, watch); });
}

template Room room_of(const Kernel<float>&, const Inputs<float>&, bool);
template Room room_of(const Kernel<double>&, const Inputs<double>&, bool);
template class Call<float>;
template class Call<double>;

}  // namespace fastrnn
