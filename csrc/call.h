// One call of a cell: the memory that its kernel works in, and the steps in pieces that can be interrupted.
#pragma once

#include <algorithm>
#include <functional>
#include <memory>

#include "buffer.h"
#include "fastrnn.h"
#include "poll.h"
#include "weights.h"

namespace fastrnn {

// What forward writes.
template <class R>
struct Outputs {
  Series<R> y;       // [T, B, P]: zero where a row is padded
  Series<R> all_c;   // [T, B, H] c after every step, or null; it has to be zero where a row is padded
  R* h = nullptr;    // [B, P] after the last step
  R* c = nullptr;    // [B, H] or null
};

// The gradients of a loss with respect to them; each may be null.
template <class R>
struct OutputGradients {
  Series<const R> y;
  const R* h = nullptr;
  const R* c = nullptr;
};

// n numbers in whole cache lines.
template <class R>
Index in_lines(Index n) { return padded(n, 64 / Index(sizeof(R))); }

// What is written nowhere else of a part of what training keeps: of each row what is behind the numbers that are used, and
// of the last cache lines what is behind the rows. So two equal calls leave equal memory.
template <class R>
void clear_gaps(R* part, Index rows, Index width, Index used) {
  if (used < width)
    for (Index i = 0; i < rows; ++i) std::fill_n(part + i * width + used, width - used, R(0));
  std::fill_n(part + rows * width, rows * (in_lines<R>(width) - width), R(0));
}

// What training keeps for the way back, in numbers: so many for each row of all steps, and for each sequence.
struct Room {
  Index row = 0, sequence = 0;

  Index of(Index rows, Index sequences) const { return sum({product({row, rows}), product({sequence, sequences})}); }
};

// Only the room of recomputing, which is little more than c before each block of backward's, depends on the steps.
template <class R>
Room room_of(const Kernel<R>& kernel, const Inputs<R>& inputs, bool recompute);

template <class R>
class Call {
 public:
  // With memory, which has to be as large as `room_of` says, it is training, and what the way back needs is kept there:
  // for that, a call can be made again, and the memory be elsewhere.
  Call(const Kernel<R>& kernel, const Inputs<R>& inputs, R* memory = nullptr, bool recompute = false);

  // Weights that may be kept, maybe those that were: see up_to_date.
  std::shared_ptr<Weights<R>> weights(std::shared_ptr<Weights<R>> kept) const;

  // Without weights, the parameters are packed; with them, they are not read.
  void forward(const Outputs<R>& outputs, const Poll& poll, std::shared_ptr<Weights<R>> weights = nullptr);

  // Whether two such calls do better at the same time, on a thread each, than one after the other on all threads: where
  // a near cache holds the weights, or a step is too small to be shared.
  bool better_side_by_side() const;

  // After forward in training, whose y this is. Once, as slots become their gradients; or any number of times if it is to
  // be possible `again`, which copies them.
  void backward(const Series<const R>& y, const OutputGradients<R>& given, const Gradients<R>& gradients, const Poll& poll,
                bool again = false);

 private:
  double step_flops() const;
  int threads_for(double flops) const;
  int forward_threads() const;
  R* start(Index s);  // of starts_, for the block of step s
  void take_block();
  void take_starts();
  void begin();
  void clear_padding(const Series<R>& rows, Index width, int size) const;  // on `size` threads

  const Kernel<R>& kernel_;
  Layer<R> layer_;
  const Index gradient_steps_;  // that backward goes through before it adds their sums
  const bool recompute_;
  Buffer<R> no_state_, slots_, rows_, c_, masked_, no_start_, anew_c_, anew_masked_;
  R* starts_ = nullptr;  // [blocks, B, Hp]  c before each block of backward's, to recompute from
};

// Runs fn(direction, poll) for one direction of a layer or two, these at the same time if that is better. Ctrl-C, which only
// the thread that called sees, ends both.
void each_direction(int count, bool side_by_side, const Poll& poll, const std::function<void(int, const Poll&)>& fn);

}  // namespace fastrnn
