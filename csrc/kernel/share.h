// Which part of a step each member of a team does. Results do not depend on it: no sum is ever shared.
#pragma once

#include "../fastrnn.h"

namespace fastrnn::FASTRNN_ISA {

struct Range {
  Index first, last;
};

// Part `rank` of `size` of n things.
inline Range part(Index n, Index rank, Index size) { return {n * rank / size, n * (rank + 1) / size}; }

// Rows with about the same number of steps in each part.
inline Range rows_part(const Steps& steps, Index rank, Index size) {
  const Index total = steps.offset[steps.count];
  Range rows{0, steps.B};
  Index before = 0;
  for (Index r = 0; r < steps.B; before += steps.length[r++]) {
    if (before * size < total * rank) rows.first = r + 1;
    if (before * size < total * (rank + 1)) rows.last = r + 1;
  }
  return rows;
}

// The rows and the blocks of hidden units whose recurrence a member computes.
struct Share {
  Range rows, units;
  bool shared_rows;  // others work on the same rows: h must be handed over after each step

  void hand_over(const Team& team) const {
    if (shared_rows) team.wait();
  }
};

// What one step of the recurrence takes, for each row and in all.
struct StepCost {
  Index flops, weight_bytes;
};

// A split by rows needs no barrier, and pays while each member has enough rows to reuse a weight that it has
// loaded, and a cache that holds the weights. A split by units leaves each member its own part of the weights, and
// pays for its barrier once a step is some microseconds long.
//
// On two cores of a Xeon with AVX-512 a barrier takes 0.1 to 0.3 microseconds, and one thread 65,536 operations in one
// to two: below that a second thread gains nothing.
inline Share share_of(const Steps& steps, Index units, StepCost cost, const Team& team) {
  constexpr Index rows_to_split = 4, bytes_to_share = 3 << 20, flops_to_split = 1 << 15;
  const Range all{0, steps.B}, every{0, units};
  if (team.size == 1) return {all, every, false};
  const bool by_rows = steps.B >= rows_to_split * team.size;
  if (by_rows && cost.weight_bytes <= bytes_to_share) return {rows_part(steps, team.rank, team.size), every, false};
  if (steps.B * cost.flops >= flops_to_split) return {all, part(units, team.rank, team.size), true};
  return {team.rank == 0 ? all : Range{0, 0}, every, false};
}

}  // namespace fastrnn::FASTRNN_ISA
