// Chains of numbers that tell whether any bit of an array has changed, at the speed at which it can be read.
#pragma once

#include "simd.h"

namespace fastrnn::FASTRNN_ISA {

// Every step is a bijection of the chain and of the word, and the rotation takes the top bits, to which multiplication
// alone would confine a change of sign, down to where it spreads.
inline void stir(Chains& chains, const void* data, Index bytes) noexcept {
  typedef std::uint64_t Words __attribute__((vector_size(vector_bytes)));
  typedef std::uint64_t Unaligned __attribute__((vector_size(vector_bytes), aligned(1), may_alias));
  constexpr std::uint64_t factor = 0x9e3779b97f4a7c15;  // odd, 2^64 over the golden ratio
  constexpr int count = int(sizeof(Chains)) / vector_bytes;
  const auto at = [](const void* p, Index i) {
    return reinterpret_cast<const Unaligned*>(static_cast<const char*>(p) + i * vector_bytes);
  };
  Words chain[count];
  const auto mix = [&](const void* block) {
#pragma GCC unroll 16
    for (int i = 0; i < count; ++i) {
      chain[i] ^= *at(block, i);
      chain[i] = (chain[i] << 29 | chain[i] >> 35) * factor;
    }
  };
  for (int i = 0; i < count; ++i) chain[i] = *at(&chains, i);
  Index done = 0;
  for (; done + Index(sizeof(Chains)) <= bytes; done += sizeof(Chains)) mix(static_cast<const char*>(data) + done);
  Chains rest{};
  __builtin_memcpy(&rest, static_cast<const char*>(data) + done, std::size_t(bytes - done));
  mix(&rest);
  __builtin_memcpy(&chains, chain, sizeof(Chains));
}

}  // namespace fastrnn::FASTRNN_ISA
