// A layer's weights as forward reads them. Packed once, they serve until the originals change.
#pragma once

#include <array>
#include <cstdint>

#include "buffer.h"
#include "fastrnn.h"

namespace fastrnn {

// A layer's parameters in PyTorch's layout.
template <class R>
struct Parameters {
  Index I, H;
  const R* w_ih;  // [G*H, I]
  const R* w_hh;  // [G*H, H]
  const R* b_ih;  // [G*H] or null
  const R* b_hh;  // [G*H] or null
};

// Differs if any bit differs, but for a chance of 1 in 2^64.
using Fingerprint = std::array<std::uint64_t, 8>;

template <class R>
Fingerprint fingerprint(const Isa& isa, const Parameters<R>& parameters, Index gates);

struct AnyWeights {
  virtual ~AnyWeights() = default;
};

template <class R>
struct Weights : AnyWeights {
  const Kernel<R>* kernel;
  Fingerprint fingerprint{};
  Buffer<R> ih;    // [I, GHp]  for the layout see fastrnn.h
  Buffer<R> hh;    // [H, GHp]
  Buffer<R> bias;  // [SHp]
  bool packed = false;

  Weights(const Kernel<R>& kernel, Index I, Index H)
      : kernel(&kernel), ih{I, padded(kernel.gates * H, kernel.lanes)}, hh{H, padded(kernel.gates * H, kernel.lanes)},
        bias{padded(kernel.slots * H, kernel.lanes)} {}
};

}  // namespace fastrnn
