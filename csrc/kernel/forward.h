// Forward through time. The input's part of a block of steps is one product, large enough to run at full speed;
// then each step adds the recurrence's part and applies the cell while its slots are near. Where y is known already,
// the recurrence's part of many steps is one product too: so what training did not keep is rebuilt.
#pragma once

#include "sequence.h"

namespace fastrnn::FASTRNN_ISA {

template <class C, class R>
class ForwardPass : Sequence<C, R> {
  using Base = Sequence<C, R>;
  using typename Base::L;
  using Base::layer, Base::team, Base::steps, Base::layout, Base::share;
  using Base::U, Base::G, Base::S, Base::has_c, Base::no_width;
  using Base::enter, Base::shared_until, Base::each_row, Base::each_dealt_row;
  using Base::slots, Base::h, Base::h_before, Base::c, Base::c_before;
  using Base::mask, Base::masked, Base::multiplied;

  using V = Vec<R>;

  // Blocks whose product and pointwise part follow each other: 32 vectors or more, in whole tiles of any height.
  static constexpr Index units_at_once = (32 / G + 3) / 4 * 4;

  const Forward<R>& f;
  const Lists<R> list;

  static Lists<R> take(Workspace& memory, const Layer<R>& layer) { return {memory, layer.block * layer.steps.B}; }

  ForwardPass(const Forward<R>& f, Index s, const Team& team, Workspace memory)
      : Base(f, s, team), f(f), list(take(memory, f)) {}

  // The pre-activations' part of the input, for a block of steps.
  void project(Index s0, Index s1) const {
    const Range units = dealt_out() ? Range{0, layout.units()} : share.units;
    Index n = 0;
    const auto add = [&](Index s, Index r) {
      list.c[n] = slots(s, r);
      if (layer.tokens)
        look_up(*layer.tokens.at(steps.at(s, r)), list.c[n]);
      else
        list.a[n] = layer.x.at(steps.at(s, r));
      // What only the recurrence feeds still starts from its bias.
      for (Index slot = G; slot < S; ++slot)
        for (Index u = units.first; u < units.last; ++u) {
          const Index at = layout.at(u, slot);
          store(list.c[n] + at, load(f.packed.bias + at, layout.width(u)), layout.width(u));
        }
      ++n;
    };
    if (dealt_out())
      each_dealt_row(s0, s1, add);
    else
      for (Index s = s0; s < s1; ++s) each_row(s, [&](Index r) { add(s, r); });
    if (!layer.tokens) multiply(n, layer.I, f.packed.ih, units, false, L::x_slot, f.packed.bias);
  }

  // Where some members have no part in the recurrence, all share the rows of a wide input: its product takes longer than
  // to fetch the slots from where they were written.
  bool dealt_out() const {
    constexpr Index wide_input = 32;
    return share.grid.members() < team.size && layer.I >= wide_input && layer.x;
  }

  // Rows of [K] times panels of blocks of units, first or last one first, into the G slots from first_slot on.
  void multiply(Index rows, Index K, const R* packed, Range units, bool backwards, Index first_slot, const R* bias) const {
    const Index whole = layout.whole_units(), panel = K * G * U;
    const Index count = (units.last < whole ? units.last : whole) - units.first;
    if (count > 0) {
      const Panels<R> panels{packed + units.first * panel, G * U, panel, count, layout.at(units.first, first_slot),
                             S * U, no_width, bias};
      gemm<G>(list.a, list.c, rows, {1, K, 0}, backwards ? panels.backwards() : panels);
    }
    if (units.last > whole) {
      const Index row = layout.panel_row(whole), at = layout.at(whole, first_slot);
      gemm_of<G>(row / U, list.a, list.c, rows, {1, K, 0},
                 {packed + whole * panel, row, 0, 1, at, 0, at + G * layout.width(whole), bias});
    }
  }

  // The product with a one-hot vector is a row of the table.
  void look_up(Index token, R* row) const {
    for (Index u = share.units.first; u < share.units.last; ++u) {
      const R* table = f.packed.ih + u * layer.I * G * U + token * layout.panel_row(u);
      const Index at = layout.at(u, L::x_slot), count = G * layout.width(u);
      for (Index j = 0; j < count; j += U)
        store(row + at + j, load(f.packed.bias + at + j, count - j) + load(table + j), count - j);
    }
  }

  static void fetch(const R* row, Index width) {
    constexpr Index line = 64 / Index(sizeof(R));
    for (Index j = 0; j < width; j += line) __builtin_prefetch(row + j);
  }

  // The recurrence's part, and the cell: one step, or several where h before each is known.
  void recur(Index s0, Index s1) const {
    Index n = 0;
    for (Index s = s0; s < s1; ++s)
      each_row(s, [&](Index r) {
        list.a[n] = multiplied(s, r);
        if (share.grid.units > 1) fetch(list.a[n], layer.H);  // others have just written most of it
        list.c[n++] = slots(s, r);
      });
    const Index turns = (share.units.last - share.units.first + units_at_once - 1) / units_at_once;
    for (Index turn = 0; turn < turns; ++turn) {
      // Back and forth: a cache that does not hold all weights has the last ones of the step before.
      const bool back = s0 % 2;
      const Index u = share.units.first + (back ? turns - 1 - turn : turn) * units_at_once;
      const Range units{u, u + units_at_once < share.units.last ? u + units_at_once : share.units.last};
      multiply(n, layer.H, f.packed.hh, units, back, L::h_slot, nullptr);
      for (Index s = s0; s < s1; ++s) each_row(s, [&](Index r) { activate(s, r, units); });
    }
  }

  void activate(Index s, Index r, Range units) const {
    R* row = slots(s, r);
    const R* h_prev = h_before(s, r);
    R* h_next = h(s, r);
    const R* c_prev = has_c ? c_before(s, r) : nullptr;
    R* c_next = has_c ? c(s, r) : nullptr;
    const bool fresh = layer.keep != Keep::block;  // or else what leaves the step is there
    const R* factors = fresh ? mask(r) : nullptr;
    R* all_c = has_c && layer.all_c ? layer.all_c.at(steps.at(s, r)) : nullptr;
    const auto block = [&](Index u, int count) __attribute__((always_inline)) {
      V a[S], prev[2], next[2];
      for (Index j = 0; j < S; ++j) a[j] = load(row + u * S * U + j * count, count);
      prev[0] = load(h_prev + u * U, count);
      if constexpr (has_c) prev[1] = load(c_prev + u * U);
      C::template forward<R>(a, prev, next);
      if (layer.keep != Keep::none)
        for (Index j = 0; j < S; ++j) store(row + u * S * U + j * count, a[j], count);
      if (fresh) store(h_next + u * U, next[0], count);
      if (factors) store(masked(s, r) + u * U, next[0] * load(factors + u * U, count), count);
      if constexpr (has_c) {
        store(c_next + u * U, next[1]);
        if (all_c) store(all_c + u * U, next[1], count);
      }
    };
    layout.each(units, block);
  }

  static ForwardPass member(const Forward<R>& f, Index s, const Team& team) {
    return {f, s, team, Workspace(f.workspace, team.rank * workspace(f))};
  }

 public:
  static Index workspace(const Layer<R>& layer) {
    Workspace memory;
    take(memory, layer);
    return memory.taken();
  }

  static void pack(const Parameters<R>& p, const Packed<R>& packed, const Team& team) noexcept {
    const L layout{p.H};
    const Range own = part(layout.units(), team.rank, team.size);
    for (Index u = own.first; u < own.last; ++u) {
      layout.pack(p.w_ih, p.I, L::x_slot, u, packed.ih + u * p.I * G * U);
      layout.pack(p.w_hh, p.H, L::h_slot, u, packed.hh + u * p.H * G * U);
      layout.pack_bias(p.b_ih, p.b_hh, u, packed.bias);
    }
  }

  static void forward(const Forward<R>& f, Index s0, Index s1, const Team& team) noexcept {
    ForwardPass pass = member(f, s0, team);
    for (Index s = s0; s < s1;) {
      pass.enter(s);
      const Index end = pass.shared_until(s, s + f.block < s1 ? s + f.block : s1);
      const bool dealt_out = pass.dealt_out();
      pass.project(s, end);
      if (dealt_out) team.wait();
      for (; s < end; ++s) {
        pass.recur(s, s + 1);
        pass.share.hand_over(team);
      }
      if (dealt_out && f.keep == Keep::none) team.wait();  // the next rows take the place of these
    }
  }

  // The slots and c of one block again, from y and the c before it; the last block first.
  static void rebuild(const Forward<R>& f, Index s0, Index s1, const Team& team) noexcept {
    const ForwardPass pass = member(f, s0, team);
    pass.project(s0, s1);
    if (pass.dealt_out()) team.wait();
    pass.recur(s0, s1);
  }
};

}  // namespace fastrnn::FASTRNN_ISA
