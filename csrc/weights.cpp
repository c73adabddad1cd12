#include "weights.h"

#include <algorithm>
#include <vector>

#include "threads.h"

namespace fastrnn {
namespace {

// A piece of an array, and the chains of its own that it is stirred into: threads can share the pieces.
struct Piece {
  const char* data;
  Index bytes;
  Chains chains;
};

void cut(const void* data, Index bytes, std::vector<Piece>& pieces) {
  constexpr Index most = Index(1) << 18;
  for (Index first = 0; first < bytes; first += most)
    pieces.push_back({static_cast<const char*>(data) + first, std::min(most, bytes - first), {}});
}

// Of each chain a bijection, too: where one word has changed, so has the fingerprint.
void fold(const Chains& chains, Fingerprint& state) {
  constexpr std::uint64_t factor = 0x9e3779b97f4a7c15;
  for (std::size_t i = 0; i < std::size(chains.of); ++i) {
    std::uint64_t& word = state[i % state.size()];
    word = ((word << 29 | word >> 35) ^ chains.of[i]) * factor;
  }
}

}  // namespace

template <class R>
Fingerprint fingerprint(const Isa& isa, const Parameters<R>& p, Index gates) {
  constexpr std::size_t shared = 4;  // pieces that are worth waking up others
  const Index row = gates * p.H * Index(sizeof(R));
  std::vector<Piece> pieces;
  cut(p.w_ih, p.I * row, pieces);
  cut(p.w_hh, p.H * row, pieces);
  for (const R* bias : {p.b_ih, p.b_hh})
    if (bias) cut(bias, row, pieces);
  parallel(pieces.size() < shared ? 1 : max_threads(), [&](const Team& team) {
    for (std::size_t i = std::size_t(team.rank); i < pieces.size(); i += std::size_t(team.size))
      isa.stir(pieces[i].chains, pieces[i].data, pieces[i].bytes);
  });
  Fingerprint state{std::uint64_t(p.I), std::uint64_t(p.H), p.b_ih != nullptr, p.b_hh != nullptr};
  for (const Piece& piece : pieces) fold(piece.chains, state);
  return state;
}

template Fingerprint fingerprint(const Isa&, const Parameters<float>&, Index);
template Fingerprint fingerprint(const Isa&, const Parameters<double>&, Index);

}  // namespace fastrnn
