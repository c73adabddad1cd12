// One call of a cell: the memory that its kernel works in, and the steps in pieces that can be interrupted.
#pragma once

#include <memory>
#include <vector>

#include "buffer.h"
#include "fastrnn.h"
#include "poll.h"
#include "weights.h"

namespace fastrnn {

// The letters of a call, and the arrays that it reads. All are C-contiguous; pointers may be null where said.
template <class R>
struct Inputs : Parameters<R> {
  Index T, B;
  const R* x;            // [T, B, I], or null and
  const Index* tokens;   // [T, B]
  const R* h0;           // [B, H] or null
  const R* c0;           // [B, H] or null
  const Index* lengths;  // [B] or null
  bool reverse;
  const R* mask;         // [B, H] or null: see Layer
};

template <class R>
struct Gradients {
  R* x;               // [T, B, I] or null
  R* hidden;          // [T, B, H] zeros, or null
  R *w_ih, *w_hh;     // like the weights
  R *b_ih, *b_hh;     // like the biases, or null
  R *h0, *c0;         // [B, H]; c0 may be null
};

template <class R>
class Call {
 public:
  // In training all that backward needs is kept; to recompute, y and the cells before each of its blocks.
  Call(const Kernel<R>& kernel, const Inputs<R>& inputs, bool training, bool recompute = false);

  // Weights that may be kept, maybe those that were: see up_to_date.
  std::shared_ptr<Weights<R>> weights(std::shared_ptr<Weights<R>> kept) const;

  // y [T, B, H] becomes zero where a row is padded; all_c, c after every step, has to be zero there. h_n and c_n are
  // [B, H]. Those of c may be null. Without weights, the parameters are packed; with them, they are not read.
  void forward(R* y, R* all_c, R* h_n, R* c_n, const Poll& poll, std::shared_ptr<Weights<R>> weights = nullptr);

  // Whether two such calls do better at the same time, on a thread each, than one after the other on all threads: where
  // a near cache holds the weights, or a step is too small to be shared.
  bool better_side_by_side() const;

  // Once, after forward in training. dy [T, B, H], dh_n and dc_n [B, H] may be null.
  void backward(const R* dy, const R* dh_n, const R* dc_n, const Gradients<R>& gradients, const Poll& poll);

 private:
  void sort_rows(const Index* lengths);
  double step_flops() const;
  int threads_for(double flops) const;
  int forward_threads() const;
  R* start(Index s);  // of starts_, for the block of step s
  void keep_block();
  void clear_padding(R* rows, Index width, int size) const;  // of an array [T, B, width], on `size` threads

  const Kernel<R>& kernel_;
  const Parameters<R> parameters_;
  const R* c0_;
  std::vector<Index> order_, length_, offset_;
  Buffer<R> no_state_, slots_, cells_, masked_;
  Layer<R> layer_;
  const Index block_;  // steps that backward goes through before it adds their sums
  const bool recompute_;
  Buffer<R> starts_;  // [blocks, B, Hp]  cells before each block, to recompute from
};

}  // namespace fastrnn
