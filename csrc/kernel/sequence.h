// The steps of one layer in one direction: where their rows stand, and which of them a member of a team computes.
#pragma once

#include <iterator>

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
  static constexpr int parts = int(std::size(C::products)), own_vectors = vector_groups<C>();
  static constexpr bool has_row = parts > 1;
  static constexpr Index no_width = Index(1) << 62;  // of a matrix that is padded to whole panels

  const Layer<R>& layer;
  const Team& team;
  const Steps& steps = layer.steps;
  const L layout{layer.H};
  const Index Hp = layout.units() * U, Pp = padded(layer.P, U);
  const bool projects = layer.w_hr;
  const Index weights = G * layer.H * layer.P + (projects ? layer.P * layer.H : 0);  // that a step multiplies with
  Share share;

  Sequence(const Layer<R>& layer, Index s, const Team& team) : layer(layer), team(team), share(share_at(s)) {}

  Share share_at(Index s) const {
    const Index active = steps.active(s);
    Grid grid = team.size > 1 ? grid_of(active, {weights * stored_bytes<R>(layer.format), layout.units()}, team.size) : Grid{};
    // One member has whole rows, where the cell needs them.
    if (C::whole_rows && grid.units > 1) grid = {active < team.size ? active : team.size, 1};
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

  // Blocks of h of a member, as `Share::units`.
  Range outputs() const { return part(Pp / U, team.rank - share.group.first, share.grid.units); }

  // Calls fn.operator()<p>() for the parts of a step, in their order or backwards.
  template <int p = 0, class F>
  FASTRNN_INLINE static void each_part(const F& fn) {
    fn.template operator()<p>();
    if constexpr (p + 1 < parts) each_part<p + 1>(fn);
  }
  template <int p = parts - 1, class F>
  FASTRNN_INLINE static void each_part_back(const F& fn) {
    fn.template operator()<p>();
    if constexpr (p > 0) each_part_back<p - 1>(fn);
  }

  // Which of PyTorch's rows of h, or of H, a product reads.
  template <int p>
  Index depth_of() const { return C::products[p].source == Source::h ? layer.P : layer.H; }

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

  Index kept_row(Index s, Index r) const {
    return (layer.keep == Keep::all ? steps.offset[s] : s % layer.block * steps.B) + r;
  }
  R* slots(Index s, Index r) const { return layer.slots + kept_row(s, r) * layout.row(); }

  // The cell's own row; or of a projection what it reads, and behind that the gradient of h.
  R* row(Index s, Index r) const { return layer.rows + kept_row(s, r) * (projects ? Hp + Pp : Hp); }

  R* h(Index s, Index r) const { return layer.y.at(steps.at(s, r)); }
  const R* h_before(Index s, Index r) const {
    if (steps.anew(s, r)) return layer.start_h + steps.order[r] * layer.P;
    return s ? h(s - 1, r) : layer.h0 + steps.order[r] * layer.P;
  }

  // What the recurrence's product reads in the place of h.
  R* masked(Index s, Index r) const { return layer.masked + (steps.B + steps.offset[s] + r) * layer.P; }
  const R* multiplied(Index s, Index r) const {
    if (!layer.mask) return h_before(s, r);
    if (steps.anew(s, r)) return layer.anew_masked + r * layer.P;
    return s ? masked(s - 1, r) : layer.masked + r * layer.P;
  }
  const R* mask(Index r) const { return layer.mask ? layer.mask + steps.order[r] * layer.P : nullptr; }

  R* c(Index s, Index r) const {
    Index first = 0;
    if (layer.keep == Keep::block) first = (s % layer.block + 1) * steps.B;
    if (layer.keep == Keep::all) first = steps.B + steps.offset[s];
    return layer.c + (first + r) * Hp;
  }
  const R* c_before(Index s, Index r) const {
    if (steps.anew(s, r)) return layer.anew_c + r * Hp;
    const bool initial = layer.keep == Keep::block ? s % layer.block == 0 : s == 0;
    return initial ? layer.c + r * Hp : c(s - 1, r);
  }
};

}  // namespace fastrnn::FASTRNN_ISA
