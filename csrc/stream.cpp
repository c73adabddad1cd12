#include "stream.h"

#include <algorithm>
#include <utility>

#include "linear.h"
#include "parts.h"
#include "threads.h"

namespace fastrnn {
namespace {

template <class R>
double step_flops(const StreamLayer<R>& layer, Index B) {
  if (layer.table) return 0;
  if (layer.function) return Applied<R>::flops * double(B) * double(layer.H);
  if (!layer.cell) return 2.0 * double(B) * double(layer.I) * double(layer.H);
  return 2.0 * double(B) * double(layer.cell->gates * layer.H) * double(layer.I + layer.P);
}

template <class R>
void look_up(const R* table, const Index* tokens, Index count, Index width, R* rows) {
  for (Index n = 0; n < count; ++n) std::copy_n(table + tokens[n] * width, width, rows + n * width);
}

}  // namespace

template <class R>
Stream<R>::Stream(const Table<R>& kernels, const std::vector<StreamLayer<R>>& layers, Index B)
    : kernels_(kernels), order_(1, std::vector<Index>(std::size_t(B), 1)) {
  for (const StreamLayer<R>& layer : layers) flops_ += step_flops(layer, B);
  for (const StreamLayer<R>& layer : layers) {
    std::shared_ptr<Buffer<R>> table;
    std::shared_ptr<Weights<R>> weights;
    if (layer.table) {
      table = std::make_shared<Buffer<R>>(Buffer<R>{layer.I, layer.H});
      std::copy_n(layer.w_ih, layer.I * layer.H, static_cast<R*>(*table));
    } else if (!layer.function) {
      const Packing<R>& packing = layer.cell ? static_cast<const Packing<R>&>(*layer.cell) : kernels.linear;
      weights = std::make_shared<Weights<R>>(packing, layer, team_for(step_flops(layer, B), layer.H / packing.lanes));
    }
    add_level(layer, std::move(weights), std::move(table));
  }
  make_room(1);
}

template <class R>
Stream<R>::Stream(const Stream& other)
    : kernels_(other.kernels_), order_(other.order_), flops_(other.flops_) {
  for (const Level& level : other.levels_) {
    const int place = int(levels_.size());
    add_level({level.task, level.cell, false, level.task.options, level.function}, level.weights, level.table);
    if (!level.cell) continue;
    Buffer<R> h{B(), level.task.P}, c{B(), level.task.H};
    other.get_state(place, h, c);
    set_state(place, h, c);
  }
  make_room(1);
}

template <class R>
void Stream<R>::add_level(const StreamLayer<R>& layer, std::shared_ptr<Weights<R>> weights,
                          std::shared_ptr<Buffer<R>> table) {
  const Kernel<R>* const cell = layer.cell;
  const Index lanes = kernels_.linear.lanes;
  const Index B = this->B(), H = layer.H, P = layer.P, Hp = padded(H, lanes), Pp = padded(P, lanes);
  const bool apart = !levels_.empty() && (levels_.back().cell != cell || levels_.back().task.P != P ||
                                          levels_.back().task.H != H || !cell);
  Level level{cell, layer.function, std::move(weights), std::move(table), apart, {}, Buffer<R>::zeros({B, P}), {}, {}, {},
              {}, {}};
  if (cell) {
    level.h = Buffer<R>::zeros({B, P});
    level.slots = Buffer<R>{B, cell->row(H)};
    level.rows = Buffer<R>{layer.w_hr || cell->has_row ? B : 0, Hp + Pp};
    level.c = Buffer<R>::zeros({level.has_c() ? B : 0, Hp});
  }
  Forward<R>& task = level.task;
  static_cast<Parameters<R>&>(task) = layer;
  task.options = layer.options, task.steps = order_.steps(false);
  task.h0 = level.h, task.y = series<R>(level.next_h, B, P);
  task.slots = level.slots, task.rows = level.rows, task.c = level.c;
  if (level.weights) task.packed = level.weights->packed();
  levels_.push_back(std::move(level));
  parts_ = std::max(parts_, Hp / lanes * std::max<Index>(1, B / 4));
}

template <class R>
void Stream<R>::make_room(int threads) {
  if (threads <= room_) return;
  for (Level& level : levels_)
    if (level.cell)
      level.task.workspace = level.workspace = Buffer<char>{threads, level.cell->forward_workspace(level.task)};
  room_ = threads;
}

template <class R>
void Stream<R>::advance(const Team& team) noexcept {
  for (const Level& level : levels_) {
    const Forward<R>& task = level.task;
    if (level.apart) team.wait();
    if (level.cell) {
      level.cell->forward(task, 0, 1, team);
    } else if (level.function) {
      const Applied<R> applied = level.applied(B(), task.x.data, task.y.data);
      const Index parts = applied.parts();
      kernels_.apply(applied, parts * team.rank / team.size, parts * (team.rank + 1) / team.size);
    } else if (!level.table) {
      kernels_.linear.forward(
          {.N = B(), .I = task.I, .O = task.H, .x = task.x.data, .y = task.y.data, .packed = task.packed}, 0, B(), team);
    } else if (team.rank == 0) {
      look_up<R>(*level.table, task.tokens.data, B(), task.H, task.y.data);
    }
  }
}

template <class R>
void Stream<R>::step(const R* x, const Index* tokens, R* y) {
  const int threads = team_for(flops_, parts_);
  make_room(threads);
  step_on(threads, x, tokens, y);
}

template <class R>
void Stream<R>::step_on(int threads, const R* x, const Index* tokens, R* y) noexcept {
  Level& last = levels_.back();
  levels_[0].task.x = series(x, B(), I());
  levels_[0].task.tokens = series(tokens, B(), 1);
  for (std::size_t l = 1; l < levels_.size(); ++l) levels_[l].task.x = levels_[l - 1].task.y;
  if (!last.cell) last.task.y.data = y;
  parallel(threads, [&](const Team& team) { advance(team); });
  for (Level& level : levels_) {
    if (!level.cell) continue;
    level.h.swap(level.next_h);
    level.task.h0 = level.h;
    level.task.y.data = level.next_h;
  }
  if (last.cell) std::copy_n(static_cast<const R*>(last.h), B() * O(), y);
}

template <class R>
void Stream<R>::few_steps(Index T, const R* x, const Index* tokens, R* y, const Poll& poll) {
  const int threads = team_for(flops_, parts_);
  make_room(threads);
  Buffer<R> before{state_size()};
  save(before);
  for (Index t = 0; t < T; ++t)
    step_on(threads, x ? x + t * B() * I() : nullptr, tokens ? tokens + t * B() : nullptr, y + t * B() * O());
  try {
    poll();
  } catch (...) {
    restore(before);
    throw;
  }
}

template <class R>
void Stream<R>::steps(Index T, const R* x, const Index* tokens, R* y, const Poll& poll) {
  constexpr double few = 1e5, own = 3e3;  // operations: so much is gained by a whole call, and lost with each step's own
  if (double(T) * (flops_ + own) < few) return few_steps(T, x, tokens, y, poll);
  struct State {
    Buffer<R> before, h, c;  // a call reads the first to its end
  };
  const Index B = this->B();
  const Order order(T, std::vector<Index>(std::size_t(B), T));
  std::vector<State> states(levels_.size());
  Buffer<R> between;
  for (std::size_t l = 0; l < levels_.size(); ++l) {
    const Level& level = levels_[l];
    const Index I = level.task.I, H = level.task.H, P = level.task.P;
    const bool last = l + 1 == levels_.size();
    Buffer<R> made{last ? 0 : T, B, P};
    R* to = last ? y : static_cast<R*>(made);
    if (level.cell) {
      auto& [before, h, c] = states[l] = {Buffer<R>{B, P}, Buffer<R>{B, P}, Buffer<R>{level.has_c() ? B : 0, H}};
      R* c_of = level.has_c() ? static_cast<R*>(c) : nullptr;
      get_state(int(l), before, c_of);
      Inputs<R> inputs{static_cast<const Parameters<R>&>(level.task)};
      inputs.options = level.task.options;
      inputs.steps = order.steps(false);
      inputs.x = series(x, B, I), inputs.tokens = series(tokens, B, 1);
      inputs.h0 = before, inputs.c0 = c_of;
      Call<R>(*level.cell, inputs).forward({.y = series(to, B, P), .h = h, .c = c_of}, poll, level.weights);
    } else if (level.table) {
      look_up<R>(*level.table, tokens, T * B, H, to);
    } else if (level.function) {
      apply(kernels_, level.applied(T * B, x, to), poll);
    } else {
      linear_forward(kernels_.linear, {.N = T * B, .I = I, .O = H, .x = x, .y = to}, poll, level.weights);
    }
    between = std::move(made);
    x = to, tokens = nullptr;
  }
  poll();  // once more: what came in since the last time would be seen after the call, when the state has moved
  for (std::size_t l = 0; l < levels_.size(); ++l)
    if (levels_[l].cell) set_state(int(l), states[l].h, states[l].c);
}

template <class R>
void Stream<R>::get_state(int layer, R* h, R* c) const {
  const Level& level = levels_[layer];
  const Index H = level.task.H, Hp = padded(H, kernels_.linear.lanes);
  std::copy_n(static_cast<const R*>(level.h), B() * level.task.P, h);
  if (!level.has_c()) return;
  for (Index b = 0; b < B(); ++b) std::copy_n(level.c + b * Hp, H, c + b * H);
}

template <class R>
void Stream<R>::set_state(int layer, const R* h, const R* c, const std::uint8_t* rows) {
  Level& level = levels_[layer];
  const Index H = level.task.H, P = level.task.P, Hp = padded(H, kernels_.linear.lanes);
  for (Index b = 0; b < B(); ++b) {
    if (rows && !rows[b]) continue;
    std::copy_n(h + b * P, P, level.h + b * P);
    if (level.has_c()) std::copy_n(c + b * H, H, level.c + b * Hp);
  }
}

template <class R>
Index Stream<R>::state_size(const Level& level) const {
  return level.cell ? B() * (level.task.P + (level.has_c() ? level.task.H : 0)) : 0;
}

template <class R>
Index Stream<R>::state_size() const {
  Index size = 0;
  for (const Level& level : levels_) size += state_size(level);
  return size;
}

template <class R>
void Stream<R>::save(R* states) const {
  for (std::size_t l = 0; l < levels_.size(); ++l) {
    if (levels_[l].cell) get_state(int(l), states, states + B() * levels_[l].task.P);
    states += state_size(levels_[l]);
  }
}

template <class R>
void Stream<R>::restore(const R* states, const std::uint8_t* rows) {
  for (std::size_t l = 0; l < levels_.size(); ++l) {
    if (levels_[l].cell) set_state(int(l), states, states + B() * levels_[l].task.P, rows);
    states += state_size(levels_[l]);
  }
}

template class Stream<float>;
template class Stream<double>;

}  // namespace fastrnn
