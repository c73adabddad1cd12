// The steps of one layer in one direction: where their rows stand, and which of them a member of a team computes.
#pragma once

#include "gemm.h"
#include "pack.h"
#include "workspace.h"

namespace fastrnn::FASTRNN_ISA {

// Rows that a product reads and writes.
template <class R>
struct Lists {
  const R** a;
  R** c;

  Lists(Workspace& memory, Index most) : a(memory.take<const R*>(most)), c(memory.take<R*>(most)) {}
};

template <class C, class R>
class Sequence {
 protected:
  using L = Layout<C, R>;
  static constexpr Index U = lanes<R>, G = C::gates, S = C::slots;
  static constexpr bool has_cells = C::states > 1;
  static constexpr Index no_width = Index(1) << 62;  // of a matrix that is padded to whole panels

  const Layer<R>& layer;
  const Team& team;
  const Steps& steps = layer.steps;
  const L layout{layer.H};
  const Index Hp = layout.units() * U;
  const Index weights = G * layer.H * layer.H;  // that a step multiplies with
  const Share share = share_of(steps, layout.units(), {2 * weights, weights * Index(sizeof(R))}, team);

  Sequence(const Layer<R>& layer, const Team& team) : layer(layer), team(team) {}

  Range own_units() const { return part(layout.units(), team.rank, team.size); }

  Range rows_at(Index s) const {
    const Index active = steps.active(s);
    return {share.rows.first, share.rows.last < active ? share.rows.last : active};
  }

  // ---- step s of sorted row r

  R* slots(Index s, Index r) const {
    const Index first = layer.keep == Keep::all ? steps.offset[s] : s % layer.chunk * steps.B;
    return layer.slots + (first + r) * layout.row();
  }

  R* h(Index s, Index r) const { return layer.y + steps.at(s, r) * layer.H; }
  const R* h_before(Index s, Index r) const { return s ? h(s - 1, r) : layer.h0 + steps.order[r] * layer.H; }

  // What the recurrence's product reads in the place of h.
  R* masked(Index s, Index r) const { return layer.masked + (steps.B + steps.at(s, r)) * layer.H; }
  const R* multiplied(Index s, Index r) const {
    if (!layer.mask) return h_before(s, r);
    return s ? masked(s - 1, r) : layer.masked + steps.order[r] * layer.H;
  }
  const R* mask(Index r) const { return layer.mask ? layer.mask + steps.order[r] * layer.H : nullptr; }

  R* c(Index s, Index r) const {
    Index first = 0;
    if (layer.keep == Keep::chunk) first = (s % layer.chunk + 1) * steps.B;
    if (layer.keep == Keep::all) first = steps.B + steps.offset[s];
    return layer.cells + (first + r) * Hp;
  }
  const R* c_before(Index s, Index r) const {
    const bool initial = layer.keep == Keep::chunk ? s % layer.chunk == 0 : s == 0;
    return initial ? layer.cells + r * Hp : c(s - 1, r);
  }
};

}  // namespace fastrnn::FASTRNN_ISA
