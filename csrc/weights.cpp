#include "weights.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "dispatch.h"
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

template <class R>
Fingerprint fingerprint(const Parameters<R>& p, Index gates) {
  constexpr std::size_t shared = 4;  // pieces that are worth waking up others
  const Index row = gates * p.H * Index(sizeof(R));
  std::vector<Piece> pieces;
  cut(p.w_ih, p.I * row, pieces);
  cut(p.w_hh, p.H * row, pieces);
  for (const R* bias : {p.b_ih, p.b_hh})
    if (bias) cut(bias, row, pieces);
  parallel(pieces.size() < shared ? 1 : max_threads(), [&](const Team& team) {
    for (std::size_t i = std::size_t(team.rank); i < pieces.size(); i += std::size_t(team.size))
      isa().stir(pieces[i].chains, pieces[i].data, pieces[i].bytes);
  });
  Fingerprint state{std::uint64_t(p.I), std::uint64_t(p.H), p.b_ih != nullptr, p.b_hh != nullptr};
  for (const Piece& piece : pieces) fold(piece.chains, state);
  return state;
}

template <class R>
struct Copy : Parameters<R> {
  Buffer<R> memory;

  Copy(const Parameters<R>& p, Index gates) : Parameters<R>(p), memory{gates * p.H, p.I + p.H + 2} {
    R* to = memory;
    const auto copy = [&](const R*& array, Index columns) {
      if (!array) return;
      const R* from = std::exchange(array, to);
      to = std::copy_n(from, gates * p.H * columns, to);
    };
    copy(this->w_ih, p.I), copy(this->w_hh, p.H), copy(this->b_ih, 1), copy(this->b_hh, 1);
  }
};

}  // namespace

template <class R>
Weights<R>::Weights(const Kernel<R>& kernel, const Parameters<R>& p, int threads)
    : kernel(&kernel), ih{p.I, padded(kernel.gates * p.H, kernel.lanes)},
      hh{p.H, padded(kernel.gates * p.H, kernel.lanes)}, bias{padded(kernel.slots * p.H, kernel.lanes)} {
  parallel(threads, [&](const Team& team) { kernel.pack(p, packed(), team); });
}

// Another thread may write to the parameters at any time, and take that back: so what is packed is a copy, and the
// fingerprint is the copy's.
template <class R>
std::shared_ptr<Weights<R>> up_to_date(std::shared_ptr<Weights<R>> kept, const Kernel<R>& kernel,
                                       const Parameters<R>& parameters, int threads) {
  if (kept && kept->kernel == &kernel && kept->fingerprint == fingerprint(parameters, kernel.gates)) return kept;
  const Copy<R> copy(parameters, kernel.gates);
  const auto weights = std::make_shared<Weights<R>>(kernel, copy, threads);
  weights->fingerprint = fingerprint<R>(copy, kernel.gates);
  return weights;
}

template struct Weights<float>;
template struct Weights<double>;
template std::shared_ptr<Weights<float>> up_to_date(std::shared_ptr<Weights<float>>, const Kernel<float>&,
                                                    const Parameters<float>&, int);
template std::shared_ptr<Weights<double>> up_to_date(std::shared_ptr<Weights<double>>, const Kernel<double>&,
                                                     const Parameters<double>&, int);

}  // namespace fastrnn
