// Chains of numbers that tell whether any bit of an array has changed, at the speed at which it can be read.
#pragma once

#include "simd.h"

namespace fastrnn::FASTRNN_ISA {

// Every step is a bijection of the chain and of the word, and the rotation takes the top bits, to which multiplication
// alone would confine a change of sign, down to where it spreads.
inline void stir(Chains& chains, const void* data, Index bytes) noexcept {
  typedef std::uint64_t Words __attribute__((vector_size(vector_bytes)));
  constexpr std::uint64_t factor = 0x9e3779b97f4a7c15;  // odd, 2^64 over the golden ratio
  constexpr int count = int(sizeof(Chains)) / vector_bytes;
  Words chain[count];
  __builtin_memcpy(chain, &chains, sizeof chain);
  const auto mix = [&](const char* block) {
#pragma GCC unroll 16
    for (int i = 0; i < count; ++i) {
      Words word;
      __builtin_memcpy(&word, block + i * vector_bytes, sizeof word);
      chain[i] ^= word;
      chain[i] = (chain[i] << 29 | chain[i] >> 35) * factor;
    }
  };
  const char* next = static_cast<const char*>(data);
  for (; bytes >= Index(sizeof chain); bytes -= sizeof chain, next += sizeof chain) mix(next);
  char rest[sizeof chain] = {};
  __builtin_memcpy(rest, next, std::size_t(bytes));
  mix(rest);
  __builtin_memcpy(&chains, chain, sizeof chain);
}

}  // namespace fastrnn::FASTRNN_ISA
