// A layer's weights as forward reads them. Packed once, they serve until the originals change.
#pragma once

#include <array>
#include <cstdint>
#include <memory>

#include "buffer.h"
#include "fastrnn.h"

namespace fastrnn {

// Calls fn(array, count) for each that is there.
template <class P, class K, class F>
void each_array(P& p, const K& packing, const F& fn) {
  const Index rows = packing.gates * p.H;
  fn(p.w_ih, rows * p.I);
  if (p.w_hh) fn(p.w_hh, rows * p.P);
  if (p.b_ih) fn(p.b_ih, rows);
  if (p.b_hh) fn(p.b_hh, rows);
  if (p.w_hr) fn(p.w_hr, p.P * p.H);
  for (int v = 0; v < most_vectors; ++v)
    if (p.vectors[v]) fn(p.vectors[v], packing.vectors[v] * p.H);
}

// Differs if any bit differs, but for a chance of 1 in 2^64.
using Fingerprint = std::array<std::uint64_t, 8>;

template <class R>
struct Weights {
  const Packing<R>* packing;
  Fingerprint fingerprint{};  // of the parameters, where they are kept for other calls
  Format format;
  Buffer<char> ih, hh, hr;  // see Packed
  Buffer<R> bias, vectors, zeros;

  Weights(const Packing<R>& packing, const Parameters<R>& parameters);  // room for them
  Weights(const Packing<R>& packing, const Parameters<R>& parameters, int threads);

  Packed<R> packed() {
    return {.ih = ih, .hh = hh, .hr = hr, .format = format, .bias = bias, .vectors = vectors, .zeros = zeros};
  }

  // Packs them, each member its part; then all may read them.
  void pack(const Parameters<R>& parameters, const Team& team) {
    packing->pack(parameters, packed(), team);
    team.wait();
  }
};

// `kept` if they are the parameters' still, or else, as where they are null, new ones that may be kept.
template <class R>
std::shared_ptr<Weights<R>> up_to_date(std::shared_ptr<Weights<R>> kept, const Packing<R>& packing,
                                       const Parameters<R>& parameters, int threads);

}  // namespace fastrnn
