#include "weights.h"

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "dispatch.h"
#include "threads.h"

namespace fastrnn {
namespace {

// A piece of an array, where it is copied to or null, and the chains of its own that it is stirred into: threads can
// share the pieces.
struct Piece {
  const char* data;
  char* copy;
  Index bytes;
  Chains chains;
};

void cut(const void* data, void* copy, Index bytes, std::vector<Piece>& pieces) {
  constexpr Index most = Index(1) << 18;
  for (Index first = 0; first < bytes; first += most)
    pieces.push_back({static_cast<const char*>(data) + first, copy ? static_cast<char*>(copy) + first : nullptr,
                      std::min(most, bytes - first), {}});
}

// Of each chain a bijection, too: where one word has changed, so has the fingerprint.
void fold(const Chains& chains, Fingerprint& state) {
  constexpr std::uint64_t factor = 0x9e3779b97f4a7c15;
  for (std::size_t i = 0; i < std::size(chains.of); ++i) {
    std::uint64_t& word = state[i % state.size()];
    word = ((word << 29 | word >> 35) ^ chains.of[i]) * factor;
  }
}

// Of the parameters, or where there is memory for them, of the copy that it makes there, one after the other.
template <class R>
Fingerprint fingerprint(const Parameters<R>& p, const Packing<R>& packing, R* copy = nullptr) {
  std::vector<Piece> pieces;
  double bytes = 0;  // each takes as long as two operations
  each_array(p, packing, [&](const R* array, Index count) {
    cut(array, copy, count * Index(sizeof(R)), pieces);
    if (copy) copy += count;
    bytes += double(count) * sizeof(R);
  });
  parallel(team_for(2 * bytes, Index(pieces.size())), [&](const Team& team) {
    for (std::size_t i = std::size_t(team.rank); i < pieces.size(); i += std::size_t(team.size)) {
      Piece& piece = pieces[i];
      if (piece.copy) std::memcpy(piece.copy, piece.data, std::size_t(piece.bytes));
      isa().stir(piece.chains, piece.copy ? piece.copy : piece.data, piece.bytes);
    }
  });
  Fingerprint state{std::uint64_t(p.I), std::uint64_t(p.H), std::uint64_t(p.P), p.b_ih != nullptr, p.b_hh != nullptr, p.w_hr != nullptr};
  for (const R* vector : p.vectors) state[6] = 2 * state[6] + (vector != nullptr);
  for (const Piece& piece : pieces) fold(piece.chains, state);
  return state;
}

}  // namespace

template <class R>
Weights<R>::Weights(const Packing<R>& packing, const Parameters<R>& p)
    : packing(&packing), format(p.format),
      ih{column_bytes<R>(format, p.I), padded(packing.gates * p.H, packing.lanes)},
      hh{p.w_hh ? packing.stored(p) : 0}, hr{p.w_hr ? column_bytes<R>(format, p.H) : 0, padded(p.P, packing.lanes)},
      bias{packing.row(p.H)}, vectors{packing.own(), padded(p.H, packing.lanes)},
      zeros(Buffer<R>::zeros({packing.row(p.H) + padded(p.P, packing.lanes)})) {}

template <class R>
Weights<R>::Weights(const Packing<R>& packing, const Parameters<R>& p, int threads) : Weights(packing, p) {
  parallel(threads, [&](const Team& team) { pack(p, team); });
}

// Another thread may write to the parameters at any time, and take that back: so what is packed is a copy, and the
// fingerprint is the copy's.
template <class R>
std::shared_ptr<Weights<R>> up_to_date(std::shared_ptr<Weights<R>> kept, const Packing<R>& packing,
                                       const Parameters<R>& parameters, int threads) {
  if (kept && kept->packing == &packing && kept->fingerprint == fingerprint(parameters, packing)) return kept;
  Index size = 0;
  each_array(parameters, packing, [&](const R*, Index count) { size += count; });
  Buffer<R> memory{size};
  const Fingerprint found = fingerprint<R>(parameters, packing, memory);
  Parameters<R> copy = parameters;
  R* next = memory;
  each_array(copy, packing, [&](const R*& array, Index count) { array = std::exchange(next, next + count); });
  auto weights = std::make_shared<Weights<R>>(packing, copy, threads);
  weights->fingerprint = found;
  return weights;
}

template struct Weights<float>;
template struct Weights<double>;
template std::shared_ptr<Weights<float>> up_to_date(std::shared_ptr<Weights<float>>, const Packing<float>&,
                                                    const Parameters<float>&, int);
template std::shared_ptr<Weights<double>> up_to_date(std::shared_ptr<Weights<double>>, const Packing<double>&,
                                                     const Parameters<double>&, int);

}  // namespace fastrnn
