// Steps one at a time through layers on top of each other, with their states kept in between and no memory taken on the
// way.
#pragma once

#include <memory>
#include <vector>

#include "call.h"
#include "order.h"

namespace fastrnn {

// What a stream is made of: a recurrent layer; without a cell, y = x W^T + b; with a table, the rows of tokens, and then
// w_ih is that table, [I, H]; or a function of what comes, and then I, H and P are its width.
template <class R>
struct StreamLayer : Parameters<R> {
  const Kernel<R>* cell = nullptr;
  bool table = false;
  Options options{};
  Function function{};
};

template <class R>
class Stream {
 public:
  // At least one layer, each as wide as the next one takes it, a table only first. Their arrays are not needed any more
  // afterwards. The states start as zeros.
  Stream(const Table<R>& kernels, const std::vector<StreamLayer<R>>& layers, Index B);
  Stream(const Stream& other);  // with the same weights and a copy of the states

  // x [B, I], or null and tokens [B]. y [B, O]. An exception, of this and the next, leaves the states as they were.
  void step(const R* x, const Index* tokens, R* y);

  // x [T, B, I], or null and tokens [T, B]. y [T, B, O].
  void steps(Index T, const R* x, const Index* tokens, R* y, const Poll& poll);

  // h and c, where there is one, of a recurrent layer as [B, H]; those of all rows or, of [B], some are set.
  void get_state(int layer, R* h, R* c) const;
  void set_state(int layer, const R* h, const R* c, const std::uint8_t* rows = nullptr);

  // Of all recurrent layers, one after the other, so many numbers.
  Index state_size() const;
  void save(R* states) const;
  void restore(const R* states, const std::uint8_t* rows = nullptr);

  Index B() const { return order_.B(); }
  Index I() const { return levels_.front().task.I; }
  Index O() const { return levels_.back().task.P; }
  Index H(int layer) const { return levels_[layer].task.H; }
  Index P(int layer) const { return levels_[layer].task.P; }
  bool has_c(int layer) const { return levels_[layer].has_c(); }
  bool takes_floats() const { return !levels_.front().table; }
  bool takes_tokens() const { return levels_.front().cell || levels_.front().table; }
  double flops() const { return flops_; }  // of a step

 private:
  struct Level {
    const Kernel<R>* cell;  // or null: a product, or where there is a table, its rows, or a function
    Function function;
    std::shared_ptr<Weights<R>> weights;
    std::shared_ptr<Buffer<R>> table;
    bool apart;  // threads share it in another way than the one before: between the two they wait for each other
    Buffer<R> h, next_h, slots, rows, c;  // of what has no state only next_h, its result
    Buffer<char> workspace;
    Forward<R> task;  // of what has no cell only letters, inputs and outputs; its parameters tell no more than they are there

    bool has_c() const { return cell && cell->states > 1; }
    Applied<R> applied(Index rows, const R* x, R* y) const { return {function, rows, task.H, x, y}; }
  };

  Index state_size(const Level& level) const;
  void add_level(const StreamLayer<R>& layer, std::shared_ptr<Weights<R>> weights, std::shared_ptr<Buffer<R>> table);
  void make_room(int threads);
  void advance(const Team& team) noexcept;
  void step_on(int threads, const R* x, const Index* tokens, R* y) noexcept;
  void few_steps(Index T, const R* x, const Index* tokens, R* y, const Poll& poll);

  const Table<R>& kernels_;
  Order order_;
  double flops_ = 0;
  Index parts_ = 0;  // of a step, for threads
  int room_ = 0;  // threads that there are workspaces for
  std::vector<Level> levels_;
};

}  // namespace fastrnn
