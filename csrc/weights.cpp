#include "weights.h"

#include <cstring>

namespace fastrnn {
namespace {

// Eight chains, for speed. In each, every step is a bijection of the state and of the word, and the rotation takes
// the top bits, to which multiplication alone would confine a change of sign, down to where it spreads.
void stir(Fingerprint& state, const void* data, std::size_t bytes) {
  constexpr std::uint64_t factor = 0x9e3779b97f4a7c15;  // odd, 2^64 over the golden ratio
  const auto mix = [](std::uint64_t chain, std::uint64_t word) {
    chain ^= word;
    return (chain << 29 | chain >> 35) * factor;
  };
  const char* next = static_cast<const char*>(data);
  Fingerprint chains = state;
  for (; bytes >= sizeof chains; bytes -= sizeof chains, next += sizeof chains) {
    Fingerprint words;
    std::memcpy(&words, next, sizeof words);
    for (int i = 0; i < 8; ++i) chains[i] = mix(chains[i], words[i]);
  }
  Fingerprint rest{};
  std::memcpy(&rest, next, bytes);
  for (int i = 0; i < 8; ++i) chains[i] = mix(chains[i], rest[i]);
  for (int i = 0; i < 8; ++i) state[i] = mix(chains[i], chains[(i + 1) % 8]);
}

}  // namespace

template <class R>
Fingerprint fingerprint(const Parameters<R>& p, Index gates) {
  Fingerprint state{std::uint64_t(p.I), std::uint64_t(p.H), p.b_ih != nullptr, p.b_hh != nullptr};
  const Index rows = gates * p.H;
  stir(state, p.w_ih, std::size_t(rows * p.I) * sizeof(R));
  stir(state, p.w_hh, std::size_t(rows * p.H) * sizeof(R));
  for (const R* bias : {p.b_ih, p.b_hh})
    if (bias) stir(state, bias, std::size_t(rows) * sizeof(R));
  return state;
}

template Fingerprint fingerprint(const Parameters<float>&, Index);
template Fingerprint fingerprint(const Parameters<double>&, Index);

}  // namespace fastrnn
