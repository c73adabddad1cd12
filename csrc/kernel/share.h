// Which part of a step each member of a team does. Results do not depend on it: no sum is ever shared.
#pragma once

#include "../fastrnn.h"

namespace fastrnn::FASTRNN_ISA {

struct Range {
  Index first, last;
};

// Part `rank` of `size` of n things. Where there are fewer things than members, the first one is among those who have
// one, since it judges by how long it waits; who has none starts at none.
inline Range part(Index n, Index rank, Index size) {
  const Index first = (n * rank + size - 1) / size, last = (n * (rank + 1) + size - 1) / size;
  return first < last ? Range{first, last} : Range{0, 0};
}

// Those of the rows, sorted by length, that a member works on: the longest first, so that the ones that are still there
// in a step are the first ones. Rows of one length are taken side by side, lest two members write to one cache line;
// ragged ones are dealt back and forth, which gives all members about as many steps.
struct Rows {
  Range own;             // side by side, or
  Index rank, size = 0;  // dealt to so many

  Index at(Index i) const { return size ? i * size + place(i) : own.first + i; }

  // How many are among the first `active` of all.
  Index among(Index active) const {
    if (size) return active / size + (place(active / size) < active % size);
    const Index last = active < own.last ? active : own.last;
    return last < own.first ? 0 : last - own.first;
  }

 private:
  Index place(Index round) const { return round % 2 ? size - 1 - rank : rank; }
};

inline Rows rows_of(const Steps& steps, const Team& team) {
  const bool ragged = steps.length[0] != steps.length[steps.B - 1];
  return ragged ? Rows{{}, team.rank, team.size} : Rows{part(steps.B, team.rank, team.size), 0};
}

// How the members share a step: each has rows of its own, or blocks of hidden units, or one of them does all.
enum class Split { rows, units, none };

// The rows and the blocks of hidden units whose recurrence a member computes.
struct Share {
  Split split;
  Rows rows;
  Range units;

  void hand_over(const Team& team) const {
    if (split == Split::units) team.wait();  // the others need its part of h
  }
};

// What one step of the recurrence takes, for each row and in all.
struct StepCost {
  Index flops, weight_bytes;
};

// A split by rows needs no barrier, and pays while each member has enough rows to reuse a weight that it has
// loaded, and a cache that holds the weights. A split by units leaves each member its own part of the weights, and
// pays for its barrier once a step is half a microsecond long.
//
// One thread takes half a microsecond (Zen 4) to one (Xeon with AVX-512) for 32,768 operations on one row, and a
// barrier between two 0.06 to 0.3.
inline Split split_of(Index active, StepCost cost, Index members) {
  constexpr Index rows_to_split = 4, bytes_to_share = 3 << 20, flops_to_split = 1 << 15;
  if (active >= rows_to_split * members && cost.weight_bytes <= bytes_to_share) return Split::rows;
  return active * cost.flops >= flops_to_split ? Split::units : Split::none;
}

inline Share share_of(Split split, const Steps& steps, Index units, const Team& team) {
  const Range every{0, units};
  const Rows all{{0, steps.B}, 0}, none{{0, 0}, 0};
  if (team.size == 1) return {split, all, every};
  if (split == Split::rows) return {split, rows_of(steps, team), every};
  if (split == Split::units) return {split, all, part(units, team.rank, team.size)};
  return {split, team.rank == 0 ? all : none, every};
}

}  // namespace fastrnn::FASTRNN_ISA
