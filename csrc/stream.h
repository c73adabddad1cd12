// Steps one at a time through a stack of layers, with the state kept in between and no memory taken on the way.
#pragma once

#include <chrono>
#include <memory>
#include <vector>

#include "call.h"

namespace fastrnn {

template <class R>
class Stream {
 public:
  // One set of parameters for each layer, which are not needed any more afterwards. The state starts as zeros.
  Stream(const Kernel<R>& kernel, const std::vector<Parameters<R>>& layers, Index B);
  Stream(const Stream& other);  // with the same weights and a copy of the state

  // x [B, I], or null and tokens [B]. y [B, H]. An exception, of this and the next, leaves the state as it was.
  void step(const R* x, const Index* tokens, R* y);

  // x [T, B, I], or null and tokens [T, B]. y [T, B, H].
  void steps(Index T, const R* x, const Index* tokens, R* y, const Poll& poll);

  // h and c, where there is one, of a layer as [B, H].
  void get_state(int layer, R* h, R* c) const;
  void set_state(int layer, const R* h, const R* c);

  Index B() const { return steps_.B; }
  Index I() const { return levels_.front().task.I; }
  Index H() const { return levels_.front().task.H; }
  int layers() const { return int(levels_.size()); }
  bool has_cells() const { return kernel_.states > 1; }
  double flops() const { return flops_; }  // of a step

 private:
  struct Level {
    std::shared_ptr<Weights<R>> weights;
    Buffer<R> h, next_h, slots, cells;
    Buffer<char> workspace;
    Forward<R> task;
  };

  void add_level(std::shared_ptr<Weights<R>> weights, Index I, Index H);
  void make_room(int threads);
  void advance(const Team& team) noexcept;
  int team_now(int threads) const;

  const Kernel<R>& kernel_;
  std::vector<Index> order_, length_, offset_;
  Steps steps_;
  double flops_ = 0;
  int room_ = 0;  // threads that there are workspaces for
  std::chrono::steady_clock::time_point last_{};  // when a step ended
  std::vector<Level> levels_;
};

}  // namespace fastrnn
