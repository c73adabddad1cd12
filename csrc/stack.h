// Layers of one cell on top of each other, in one direction or in two side by side: forward through them, and back.
#pragma once

#include <memory>
#include <vector>

#include "call.h"
#include "order.h"

namespace fastrnn {

template <class R>
struct Layers {
  const Kernel<R>& kernel;
  const Parameters<R>* parameters;  // by layer and direction
  Index L, D;
  Options options;
};

// Arrays of all layers and directions are in the order of the parameters, and have no gaps.
template <class R>
struct StackCall {
  Order order;
  Series<const R> x;               // [T, B, I], or null and
  Series<const Index> tokens;      // [T, B]
  const R* h0 = nullptr;           // [L*D, B, P] or null
  const R* c0 = nullptr;           // [L*D, B, H] or null
  const R* start_h = nullptr;      // as h0 and c0, where rows start anew
  const R* start_c = nullptr;
  const R* mask = nullptr;         // [L*D, B, P] or null
  bool recompute = false;          // in training
  Series<R> y;                     // [T, B, D*P]  written to, as all below
  R* h_n = nullptr;                // [L*D, B, P]
  R* c_n = nullptr;                // [L*D, B, H] or null
  R* all_h = nullptr;              // [L*D, T, B, P] zeros or null: h after every step
  R* all_c = nullptr;              // [L*D, T, B, H] zeros or null
};

// Of the matrix products of all layers, forward.
template <class R>
double flops_of(const Layers<R>& layers, const StackCall<R>& call);

template <class R>
using AllWeights = std::vector<std::shared_ptr<Weights<R>>>;  // by layer and direction

// Weights that are null are packed for this call; if they are to be kept, those there are looked at, and replaced if they
// are not the parameters' any more.
template <class R>
void run_stack(const Layers<R>& layers, const StackCall<R>& call, AllWeights<R>& weights, bool update, const Poll& poll);

// What training keeps for the way back besides arguments and results: what each layer and direction does, and the outputs
// of all layers but the last.
template <class R>
Room room_of(const Layers<R>& layers, const StackCall<R>& call);

// In memory as large as that.
template <class R>
void train_stack(const Layers<R>& layers, const StackCall<R>& call, R* memory, const Poll& poll);

template <class R>
struct StackGradients {
  Series<const R> y;                      // given, as h_n and c_n; each may be null
  const R* h_n = nullptr;
  const R* c_n = nullptr;
  Series<R> x;                            // wanted, or null
  std::vector<ParametersOf<R>> parameters;
  R* h0 = nullptr;
  R* c0 = nullptr;                        // or null
  R* start_h = nullptr;                   // as these, or null
  R* start_c = nullptr;
  R* hidden = nullptr;                    // [L*D, T, B, P] zeros, or null: the whole gradient of every h
};

// Once, as it uses the memory up; or with `again` any number of times, which copies what it would write to.
template <class R>
void back_through_stack(const Layers<R>& layers, const StackCall<R>& call, R* memory, const StackGradients<R>& gradients,
                        bool again, const Poll& poll);

}  // namespace fastrnn
