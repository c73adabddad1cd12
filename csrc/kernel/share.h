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

inline Rows rows_of(const Steps& steps, Index group, Index groups) {
  const bool ragged = steps.length[0] != steps.length[steps.B - 1];
  return ragged ? Rows{{}, group, groups} : Rows{part(steps.B, group, groups), 0};
}

// The rows and the blocks of hidden units whose recurrence a member computes.
struct Share {
  Grid grid;
  Index active;  // rows that it was chosen for
  Rows rows;
  Range units;
  Range group;  // of members, that need each other's part of h

  void hand_over(const Team& team) const {
    if (grid.units > 1) team.wait(group.first, group.last);
  }
};

inline Share share_of(Grid grid, Index active, const Steps& steps, Index units, const Team& team) {
  if (team.rank >= grid.members()) return {grid, active, {{0, 0}, 0}, {0, units}, {0, 0}};
  const Index group = team.rank / grid.units, place = team.rank % grid.units;
  return {grid, active, rows_of(steps, group, grid.rows), part(units, place, grid.units),
          {group * grid.units, (group + 1) * grid.units}};
}

}  // namespace fastrnn::FASTRNN_ISA
