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
  static constexpr bool has_c = C::states > 1;
  static constexpr Index no_width = Index(1) << 62;  // of a matrix that is padded to whole panels

  const Layer<R>& layer;
  const Team& team;
  const Steps& steps = layer.steps;
  const L layout{layer.H};
  const Index Hp = layout.units() * U;
  const Index weights = G * layer.H * layer.H;  // that a step multiplies with
  Share share;

  Sequence(const Layer<R>& layer, Index s, const Team& team) : layer(layer), team(team), share(share_at(s)) {}

  Share share_at(Index s) const {
    const Index active = steps.active(s);
    const Grid grid = team.size > 1 ? grid_of(active, {weights * Index(sizeof(R)), layout.units()}, team.size) : Grid{};
    return share_of(grid, active, steps, layout.units(), team);
  }
  bool shared_alike(Index s) const { return steps.active(s) == share.active || share_at(s).grid == share.grid; }

  // Before step s: as rows end, or begin on the way back, another grid may suit those that are left.
  void enter(Index s) {
    if (shared_alike(s)) return;
    team.wait();
    share = share_at(s);
  }

  // The first step from s on, up to `end`, that is shared in another way.
  Index shared_until(Index s, Index end) const {
    while (s < end && shared_alike(s)) ++s;
    return s;
  }

  Range own_units() const { return part(layout.units(), team.rank, team.size); }

  // Calls fn(r) for own rows in step s.
  template <class F>
  FASTRNN_INLINE void each_row(Index s, const F& fn) const {
    const Index count = share.rows.among(steps.active(s));
    for (Index i = 0; i < count; ++i) fn(share.rows.at(i));
  }

  // Calls fn(s, r) for part of the rows of steps s0 .. s1-1, dealt out to all members.
  template <class F>
  FASTRNN_INLINE void each_dealt_row(Index s0, Index s1, const F& fn) const {
    const Range own = part(steps.offset[s1] - steps.offset[s0], team.rank, team.size);
    for (Index s = s0; s < s1; ++s) {
      const Index before = steps.offset[s] - steps.offset[s0], last = own.last - before;
      for (Index r = own.first > before ? own.first - before : 0; r < last && r < steps.active(s); ++r) fn(s, r);
    }
  }

  // ---- step s of sorted row r

  R* slots(Index s, Index r) const {
    const Index first = layer.keep == Keep::all ? steps.offset[s] : s % layer.block * steps.B;
    return layer.slots + (first + r) * layout.row();
  }

  R* h(Index s, Index r) const { return layer.y.at(steps.at(s, r)); }
  const R* h_before(Index s, Index r) const { return s ? h(s - 1, r) : layer.h0 + steps.order[r] * layer.H; }

  // What the recurrence's product reads in the place of h.
  R* masked(Index s, Index r) const {
    const Place place = steps.at(s, r);
    return layer.masked + ((place.t + 1) * steps.B + place.b) * layer.H;
  }
  const R* multiplied(Index s, Index r) const {
    if (!layer.mask) return h_before(s, r);
    return s ? masked(s - 1, r) : layer.masked + steps.order[r] * layer.H;
  }
  const R* mask(Index r) const { return layer.mask ? layer.mask + steps.order[r] * layer.H : nullptr; }

  R* c(Index s, Index r) const {
    Index first = 0;
    if (layer.keep == Keep::block) first = (s % layer.block + 1) * steps.B;
    if (layer.keep == Keep::all) first = steps.B + steps.offset[s];
    return layer.c + (first + r) * Hp;
  }
  const R* c_before(Index s, Index r) const {
    const bool initial = layer.keep == Keep::block ? s % layer.block == 0 : s == 0;
    return initial ? layer.c + r * Hp : c(s - 1, r);
  }
};

}  // namespace fastrnn::FASTRNN_ISA
