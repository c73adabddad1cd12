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
  using Base::U, Base::G, Base::S, Base::has_c, Base::no_width, Base::parts, Base::has_row, Base::own_vectors;
  using Base::Hp, Base::Pp, Base::projects, Base::outputs, Base::each_part, Base::row;
  using Base::enter, Base::shared_until, Base::each_row, Base::each_dealt_row;
  using Base::slots, Base::h, Base::h_before, Base::c, Base::c_before;
  using Base::mask, Base::masked, Base::multiplied;

  using V = Vec<R>;

  // Blocks whose product of so many slots and pointwise part follow each other: 32 vectors or more, in whole tiles of
  // any height.
  static constexpr Index units_at_once(Index count) { return (32 / count + 3) / 4 * 4; }

  const Forward<R>& f;
  const Lists<R> list;
  const R* const start = C::whole_rows ? f.packed.zeros : f.packed.bias;  // of a row of slots

  static Lists<R> take(Workspace& memory, const Layer<R>& layer) { return {memory, layer.block * layer.steps.B}; }

  ForwardPass(const Forward<R>& f, Index s, const Team& team, Workspace memory)
      : Base(f, s, team), f(f), list(take(memory, f)) {}

  // The pre-activations' part of the input, for a block of steps.
  void project(Index s0, Index s1) const {
    const Range units = dealt_out() ? Range{0, layout.units()} : share.units;
    // Behind the slots of the last units: so that what is kept does not depend on what was in its memory.
    const bool gap = layer.keep == Keep::all && units.last == layout.units() && layout.row() > S * layer.H;
    Index n = 0;
    const auto add = [&](Index s, Index r) {
      list.c[n] = slots(s, r);
      if (gap) store(list.c[n] + layout.row() - U, V{});
      if (layer.tokens)
        look_up(*layer.tokens.at(steps.at(s, r)), list.c[n]);
      else
        list.a[n] = layer.x.at(steps.at(s, r));
      // What only the recurrence feeds still starts from its bias.
      for (Index slot = G; slot < S; ++slot)
        for (Index u = units.first; u < units.last; ++u) {
          const Index at = layout.at(u, slot);
          store(list.c[n] + at, load(start + at, layout.width(u)), layout.width(u));
        }
      ++n;
    };
    if (dealt_out())
      each_dealt_row(s0, s1, add);
    else
      for (Index s = s0; s < s1; ++s) each_row(s, [&](Index r) { add(s, r); });
    if (!layer.tokens) multiply<G>(n, layer.I, f.packed.ih, units, false, L::x_slot, start);
  }

  // Where some members have no part in the recurrence, all share the rows of a wide input: its product takes longer than
  // to fetch the slots from where they were written.
  bool dealt_out() const {
    constexpr Index wide_input = 32;
    return share.grid.members() < team.size && layer.I >= wide_input && layer.x;
  }

  // Rows of [K] times panels of blocks of units, first or last one first, into `count` slots
  // from first_slot on.
  template <int count>
  void multiply(Index rows, Index K, const char* packed, Range units, bool backwards, Index first_slot, const R* bias) const {
    const Format format = f.packed.format;
    const Index whole = layout.whole_units(), bytes = stored_bytes<R>(format);
    const Index blocks = (units.last < whole ? units.last : whole) - units.first;
    const auto panel = [&](Index u) { return L::panel_at(format, K, u, count); };
    if (blocks > 0) {
      const Panels<R> panels{packed + panel(units.first), count * U, panel(1) / bytes, blocks,
                             layout.at(units.first, first_slot), S * U, no_width, bias};
      multiply_packed<count>(format, count, list.a, list.c, rows, K, backwards ? panels.backwards(bytes) : panels);
    }
    if (units.last > whole) {
      const Index row = layout.panel_row(whole, count), at = layout.at(whole, first_slot);
      multiply_packed<count>(format, row / U, list.a, list.c, rows, K,
                             {packed + panel(whole), row, 0, 1, at, 0, at + count * layout.width(whole), bias});
    }
  }

  // The product with a one-hot vector is a row of the table.
  void look_up(Index token, R* row) const {
    for (Index u = share.units.first; u < share.units.last; ++u) {
      const char* table = f.packed.ih + L::panel_at(f.packed.format, layer.I, u, G);
      const Index at = layout.at(u, L::x_slot), count = G * layout.width(u), table_row = layout.panel_row(u);
      for (Index j = 0; j < count; j += U)
        store(row + at + j, load(start + at + j, count - j) +
              stored_row<R>(f.packed.format, table, layer.I, table_row, token, j), count - j);
    }
  }

  static void fetch(const R* row, Index width) {
    constexpr Index line = 64 / Index(sizeof(R));
    for (Index j = 0; j < width; j += line) __builtin_prefetch(row + j);
  }

  // The recurrence's products, each with a part of the cell: one step, or several where h before each is known.
  void recur(Index s0, Index s1) const {
    const char* packed = f.packed.hh;
    each_part([&]<int part>() __attribute__((always_inline)) {
      constexpr Product product = C::products[part];
      constexpr Index count = product.count;
      // Of quantized rows all, as each product makes them integers again.
      const Index at_once = C::whole_rows || quantized(f.packed.format) ? no_width : units_at_once(count);
      const Index K = Base::template depth_of<part>();
      if constexpr (part > 0) this->share.hand_over(this->team);
      Index n = 0;
      for (Index s = s0; s < s1; ++s)
        each_row(s, [&](Index r) {
          list.a[n] = product.source == Source::h ? multiplied(s, r) : row(s, r);
          if (this->share.grid.units > 1) fetch(list.a[n], K);  // others have just written most of it
          list.c[n++] = slots(s, r);
        });
      const Index turns = (share.units.last - share.units.first + at_once - 1) / at_once;
      for (Index turn = 0; turn < turns; ++turn) {
        // Back and forth: a cache that does not hold all weights has the last ones of the step before.
        const bool back = s0 % 2;
        const Index u = share.units.first + (back ? turns - 1 - turn : turn) * at_once;
        const Range units{u, u + at_once < share.units.last ? u + at_once : share.units.last};
        multiply<count>(n, K, packed, units, back, product.first, nullptr);
        for (Index s = s0; s < s1; ++s) each_row(s, [&](Index r) { activate<part>(s, r, units); });
      }
      packed += padded(count * layer.H, U) * column_bytes<R>(f.packed.format, K);
    });
  }

  template <int part>
  void activate(Index s, Index r, Range units) const {
    constexpr bool last = part + 1 == parts;
    R* slot = slots(s, r);
    const R* h_prev = h_before(s, r);
    const R* read = multiplied(s, r);
    const bool fresh = layer.keep != Keep::block;  // or else what leaves the step is there
    R* own = has_row || projects ? row(s, r) : nullptr;
    R* h_next = projects ? own : h(s, r);
    const R* c_prev = has_c ? c_before(s, r) : nullptr;
    R* c_next = has_c ? c(s, r) : nullptr;
    const R* factors = fresh && !projects ? mask(r) : nullptr;
    R* all_c = has_c && layer.all_c ? layer.all_c.at(steps.at(s, r)) : nullptr;
    if constexpr (C::whole_rows) {
      C::forward(layout, WholeRow<R>{slot, f.packed.bias, f.packed.vectors, Hp, h_prev, c_prev,
                                     fresh || projects ? h_next : nullptr, c_next});
      layout.each(units, [&](Index u, int count) {
        if (factors) store(masked(s, r) + u * U, load(h_next + u * U, count) * load(factors + u * U, count), count);
        if (all_c) store(all_c + u * U, load(c_next + u * U), count);
      });
      return;
    } else {
      const auto block = [&](Index u, int count) __attribute__((always_inline)) {
        Point<R> p;
        p.options = &layer.options, p.given = layer.vectors[0];
        for (Index j = 0; j < S; ++j) p.a[j] = load(slot + u * S * U + j * count, count);
        if constexpr (C::reads_h) p.h = load(h_prev + u * U, count);
        if constexpr (has_c) p.c = load(c_prev + u * U);
        if constexpr (has_row) p.multiplied = load(read + u * U, count);
        for (int k = 0; k < own_vectors; ++k) p.vectors[k] = load(f.packed.vectors + k * Hp + u * U);
        C::template forward<part, R>(p);
        if (layer.keep != Keep::none || !last)
          for (Index j = 0; j < S; ++j) store(slot + u * S * U + j * count, p.a[j], count);
        if constexpr (!last) {
          store(own + u * U, p.row);
        } else {
          if (fresh || projects) store(h_next + u * U, p.next_h, count);
          if (factors) store(masked(s, r) + u * U, p.next_h * load(factors + u * U, count), count);
          if constexpr (has_c) {
            store(c_next + u * U, p.next_c);
            if (all_c) store(all_c + u * U, p.next_c, count);
          }
        }
      };
      layout.each(units, block);
    }
  }

  // h of one step, the projection of what the cell has made.
  void project_h(Index s) const {
    const Range own = outputs();
    share.hand_over(team);
    Index n = 0;
    each_row(s, [&](Index r) {
      list.a[n] = row(s, r);
      list.c[n++] = h(s, r);
    });
    const Format format = f.packed.format;
    const auto panel = [&](Index q) { return L::panel_at(format, layer.H, q, 1); };
    multiply_packed<1>(format, 1, list.a, list.c, n, layer.H,
                       {f.packed.hr + panel(own.first), U, panel(1) / stored_bytes<R>(format), own.last - own.first,
                        own.first * U, U, layer.P, f.packed.zeros});
    if (!layer.mask) return;
    each_row(s, [&](Index r) {
      for (Index q = own.first; q < own.last; ++q) {
        const int count = units_in<R>(q, layer.P);
        store(masked(s, r) + q * U, load(h(s, r) + q * U, count) * load(mask(r) + q * U, count), count);
      }
    });
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
      layout.pack(packed.format, p.w_ih, p.I, L::x_slot, G, u, packed.ih);
      char* hh = packed.hh;
      for (const Product& product : C::products) {
        const Index K = product.source == Source::h ? p.P : p.H;
        layout.pack(packed.format, p.w_hh, K, product.first, product.count, u, hh);
        hh += padded(product.count * p.H, U) * column_bytes<R>(packed.format, K);
      }
      layout.pack_bias(p.b_ih, p.b_hh, u, packed.bias);
      R* to = packed.vectors + u * U;
      for (int v = 0; v < most_vectors; ++v)
        for (int k = 0; k < C::vectors.of[v]; ++k, to += layout.units() * U)
          store(to, p.vectors[v] ? load(p.vectors[v] + k * p.H + u * U, layout.width(u)) : V{});
    }
    if (!p.w_hr) return;
    const Layout<OneGate, R> outputs{p.P};
    const Range some = part(outputs.units(), team.rank, team.size);
    for (Index u = some.first; u < some.last; ++u) outputs.pack(packed.format, p.w_hr, p.H, 0, 1, u, packed.hr);
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
        if (pass.projects) pass.project_h(s);
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
