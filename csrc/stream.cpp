#include "stream.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "threads.h"

namespace fastrnn {

template <class R>
Stream<R>::Stream(const Kernel<R>& kernel, const std::vector<Parameters<R>>& layers, Index B)
    : kernel_(kernel), order_(B), length_(B, 1), offset_{0, B} {
  std::iota(order_.begin(), order_.end(), Index(0));
  steps_ = {1, B, 1, order_.data(), length_.data(), offset_.data(), false};
  for (const Parameters<R>& p : layers)
    flops_ += 2.0 * double(B) * double(kernel.gates * p.H) * double(p.I + p.H);
  for (const Parameters<R>& p : layers)
    add_level(std::make_shared<Weights<R>>(kernel, p, team_for(flops_ * 8)), p.I, p.H);
}

template <class R>
Stream<R>::Stream(const Stream& other)
    : kernel_(other.kernel_), order_(other.order_), length_(other.length_), offset_(other.offset_),
      steps_(other.steps_), flops_(other.flops_) {
  steps_.order = order_.data(), steps_.length = length_.data(), steps_.offset = offset_.data();
  Buffer<R> h{B(), other.H()}, c{B(), other.H()};
  for (int l = 0; l < other.layers(); ++l) {
    const Level& level = other.levels_[l];
    add_level(level.weights, level.task.I, level.task.H);
    other.get_state(l, h, c);
    set_state(l, h, c);
  }
}

template <class R>
void Stream<R>::add_level(std::shared_ptr<Weights<R>> weights, Index I, Index H) {
  const Index Hp = padded(H, kernel_.lanes), row = padded(kernel_.slots * H, kernel_.lanes), B = this->B();
  Level level{std::move(weights), Buffer<R>::zeros({B, H}), Buffer<R>::zeros({B, H}),
              Buffer<R>{B, row}, Buffer<R>::zeros({has_cells() ? B : 0, Hp}), {}, {}};
  const Layer<R> layer{steps_, I, H, nullptr, nullptr, nullptr, nullptr,
                       level.h, level.next_h, level.slots, level.cells, Keep::none, 1, nullptr, nullptr, nullptr};
  level.task = {layer, level.weights->packed(), nullptr};
  levels_.push_back(std::move(level));
}

template <class R>
void Stream<R>::make_room(int threads) {
  if (threads <= room_) return;
  for (Level& level : levels_)
    level.task.workspace = level.workspace = Buffer<char>{threads, kernel_.forward_workspace(level.task)};
  room_ = threads;
}

template <class R>
void Stream<R>::advance(const Team& team) noexcept {
  for (const Level& level : levels_) kernel_.forward(level.task, 0, 1, team);
}

// Threads that have just worked are still awake. Where steps are far apart, as in audio, waking one up would take
// longer than a step.
template <class R>
int Stream<R>::team_now(int threads) const {
  if (threads == 1) return 1;
  return std::chrono::steady_clock::now() - last_ < std::chrono::milliseconds(4) ? threads : 1;
}

template <class R>
void Stream<R>::step(const R* x, const Index* tokens, R* y) {
  const int threads = team_for(flops_ * 8);
  make_room(threads);
  levels_[0].task.x = x;
  levels_[0].task.tokens = tokens;
  for (std::size_t l = 1; l < levels_.size(); ++l) levels_[l].task.x = levels_[l - 1].next_h;
  parallel(team_now(threads), [&](const Team& team) { advance(team); });
  if (threads > 1) last_ = std::chrono::steady_clock::now();
  for (Level& level : levels_) {
    level.h.swap(level.next_h);
    level.task.h0 = level.h;
    level.task.y = level.next_h;
  }
  std::copy_n(static_cast<const R*>(levels_.back().h), B() * H(), y);
}

template <class R>
void Stream<R>::steps(Index T, const R* x, const Index* tokens, R* y, const Poll& poll) {
  const Index B = this->B(), H = this->H(), L = layers(), C = has_cells() ? L : 0;
  Buffer<R> between{L > 1 ? T : 0, B, H}, h{2, L, B, H}, c{C, B, H};  // h before and after: a call reads the first to its end
  for (Index l = 0; l < L; ++l) {
    const Level& level = levels_[l];
    R *before = h + l * B * H, *after = before + L * B * H, *cells = C ? c + l * B * H : nullptr;
    get_state(int(l), before, cells);
    const Inputs<R> inputs{{level.task.I, H, nullptr, nullptr, nullptr, nullptr}, T, B, x, tokens, before, cells, nullptr,
                           false, nullptr};
    // Layers take turns with two arrays, so that the last one ends in y.
    R* to = (L - l) % 2 ? y : static_cast<R*>(between);
    Call<R>(kernel_, inputs, false).forward(to, nullptr, after, cells, poll, level.weights);
    x = to, tokens = nullptr;
  }
  poll();  // once more: what came in since the last time would be seen after the call, when the state has moved
  for (Index l = 0; l < L; ++l) set_state(int(l), h + (L + l) * B * H, C ? c + l * B * H : nullptr);
}

template <class R>
void Stream<R>::get_state(int layer, R* h, R* c) const {
  const Level& level = levels_[layer];
  std::copy_n(static_cast<const R*>(level.h), B() * H(), h);
  if (!has_cells()) return;
  const Index Hp = padded(H(), kernel_.lanes);
  for (Index b = 0; b < B(); ++b) std::copy_n(level.cells + b * Hp, H(), c + b * H());
}

template <class R>
void Stream<R>::set_state(int layer, const R* h, const R* c) {
  Level& level = levels_[layer];
  std::copy_n(h, B() * H(), static_cast<R*>(level.h));
  if (!has_cells()) return;
  const Index Hp = padded(H(), kernel_.lanes);
  for (Index b = 0; b < B(); ++b) std::copy_n(c + b * H(), H(), level.cells + b * Hp);
}

template class Stream<float>;
template class Stream<double>;

}  // namespace fastrnn
