// Layers of one cell on top of each other, in one direction or in two side by side: inference through all of them.
#pragma once

#include <memory>
#include <vector>

#include "call.h"

namespace fastrnn {

// A call. Its letters L and D are those of the stack; h and c of all layers and directions are in the order of the
// parameters, and have no gaps.
template <class R>
struct StackCall {
  Index T = 0, B = 0;
  Series<const R> x;               // [T, B, I], or null and
  Series<const Index> tokens;      // [T, B]
  const R* h0 = nullptr;           // [L*D, B, P] or null
  const R* c0 = nullptr;           // [L*D, B, H] or null
  const Index* lengths = nullptr;  // [B] or null
  Series<R> y;                     // [T, B, D*P]  written to, as all below
  R* h_n = nullptr;                // [L*D, B, P]
  R* c_n = nullptr;                // [L*D, B, H] or null
  R* all_h = nullptr;              // [L*D, T, B, P] or null: h after every step
  R* all_c = nullptr;              // [L*D, T, B, H] zeros or null
};

template <class R>
using AllWeights = std::vector<std::shared_ptr<Weights<R>>>;  // by layer and direction

// `parameters` are by layer and direction, of which there are D. Weights that are null are packed for this call; if they
// are to be kept, those there are looked at, and replaced if they are not the parameters' any more.
template <class R>
void run_stack(const Kernel<R>& kernel, const std::vector<Parameters<R>>& parameters, int D, const Options& options,
               const StackCall<R>& call, AllWeights<R>& weights, bool update, const Poll& poll);

}  // namespace fastrnn
