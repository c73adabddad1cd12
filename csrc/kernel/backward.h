// Back-propagation through time (Werbos, 1990). Each step writes the gradients of its slots over what forward
// left in them; then sums over many steps at once make those of the weights, of the biases and of the input.
#pragma once

#include "outer.h"
#include "sequence.h"

namespace fastrnn::FASTRNN_ISA {

template <class C, class R>
class BackwardPass : Sequence<C, R> {
  using Base = Sequence<C, R>;
  using typename Base::L;
  using Base::layer, Base::team, Base::steps, Base::layout, Base::share, Base::Hp;
  using Base::U, Base::G, Base::S, Base::has_c, Base::no_width, Base::parts, Base::has_row, Base::own_vectors;
  using Base::Pp, Base::projects, Base::outputs, Base::each_part_back, Base::row;
  using Base::enter, Base::own_units, Base::each_row, Base::slots, Base::h, Base::h_before, Base::c, Base::c_before;
  using Base::mask, Base::multiplied;
  using V = Vec<R>;

  static constexpr Index depth = outer_depth;
  static constexpr int sums = own_vectors + (C::whole_rows ? int(S) : 0);  // of each row: see Backward::dvectors

  // What the sums over time are made from: rows of the slots' gradients, of x, of h and of the cell's own, last step
  // first.
  struct Samples {
    const R** da;
    const R** x;
    const R** h;
    const R** own;
    Place* at;
    Index count = 0;

    explicit Samples(Workspace& memory)
        : da(memory.take<const R*>(depth)), x(memory.take<const R*>(depth)), h(memory.take<const R*>(depth)),
          own(memory.take<const R*>(depth)), at(memory.take<Place>(depth)) {}
  };

  struct Memory {
    Lists<R> list;
    Samples samples;
    R* slots;  // [outer_blocks, depth, U]
    R* h;      // [Pp, depth] in wide panels, for all members
    R* own;    // [Hp, depth] likewise, where there are such rows
    R* x;      // [Ip, depth] likewise
    Index width;
    R* zeros;  // [width]: what the first sums start from
    R* scratch;  // [S + 1, Hp] for a cell of whole rows
    R* spare;  // [2, Pp]: sums that nobody wants

    Memory(Workspace& packed, Workspace& workspace, Index B, Index Hp, Index Pp, Index Ip, bool has_own)
        : list(workspace, B > depth ? B : depth), samples(workspace),
          slots(workspace.take<R>(outer_blocks * depth * U)), h(packed.take<R>(Pp * depth)),
          own(packed.take<R>(has_own ? Hp * depth : 0)), x(packed.take<R>(Ip * depth)), width(Hp + Pp + Ip),
          zeros(workspace.take<R>(width)), scratch(workspace.take<R>(C::whole_rows ? (S + 1) * Hp : 0)),
          spare(workspace.take<R>(has_own ? 2 * Pp : 0)) {}

    static Memory of(const Layer<R>& layer, Workspace& packed, Workspace& workspace) {
      return {packed, workspace, layer.steps.B, padded(layer.H, U), padded(layer.P, U), layer.x ? padded(layer.I, U) : 0,
              has_row || layer.w_hr};
    }
  };

  const Backward<R>& b;
  const Gradients<R>& d = b.gradients;
  const Memory memory;
  const Lists<R>& list = memory.list;
  const Range blocks;  // of slots, whose weights' gradient is a member's own

  BackwardPass(const Backward<R>& b, Index s, const Team& team, Workspace packed, Workspace workspace)
      : Base(b, s, team), b(b), memory(Memory::of(b, packed, workspace)),
        blocks(part(layout.row() / U, team.rank, team.size)) {
    for (Index j = 0; j < memory.width; j += U) store(memory.zeros + j, V{});
  }

  void pack() const {
    R* packed = b.packed_hh;
    for (const Product& product : C::products) {
      const WidePanels<R> panels = layout.transposed(layer.P, product.count);
      const Range own = part(panels.panels(), team.rank, team.size);
      for (Index p = own.first; p < own.last; ++p)
        layout.pack_transposed(layer.w_hh, layer.P, product.first, product.count, p, packed);
      packed += panels.K * Pp;
    }
    if (projects) {
      const Layout<OneGate, R> narrow{layer.P};
      const Range own = part(narrow.transposed(layer.H).panels(), team.rank, team.size);
      for (Index p = own.first; p < own.last; ++p) narrow.pack_transposed(layer.w_hr, layer.H, 0, 1, p, b.packed_hr);
    }
    if (d.x) {
      const Range inputs = part(layout.transposed(layer.I).panels(), team.rank, team.size);
      for (Index p = inputs.first; p < inputs.last; ++p)
        layout.pack_transposed(layer.w_ih, layer.I, L::x_slot, G, p, b.packed_ih);
    }
    if (layer.tokens) clear_table();
    team.wait();
  }

  // Rows of slots, a, times the weights of `slots` slots from first_slot on: some of N columns of c.
  void multiply(const R** a, R** c, Index rows, Index first_slot, Index slots, const R* packed, Index N,
                Columns<R> columns) const {
    const WidePanels<R> panels = layout.transposed(N, slots);
    const Index whole = layout.whole_units(), left = layer.H - whole * U;
    const auto product = [&](const Runs& runs, Index from) {
      gemm_wide(a, c, rows, runs, packed, from, panels, columns);
      columns.bias = nullptr;  // what follows is added
    };
    const auto move = [&](Index columns) {
      for (Index i = 0; i < rows; ++i) a[i] += columns;
    };
    if (S == slots) return product({1, slots * layer.H, 0}, 0);
    move(first_slot * U);
    if (whole) product({whole, slots * U, S * U}, 0);
    move(layout.at(whole, first_slot) - first_slot * U);
    if (left) product({1, slots * left, 0}, whole * slots * U);
  }

  void step_back(Index s) const {
    if (projects) unproject_h(s);
    const R* packed = b.packed_hh + G * layer.H * Pp;
    each_part_back([&]<int part>() __attribute__((always_inline)) {
      constexpr Product product = C::products[part];
      constexpr bool from_h = product.source == Source::h;
      Index n = 0;
      each_row(s, [&](Index r) {
        differentiate<part>(s, r);
        list.a[n] = slots(s, r);
        list.c[n++] = from_h ? (b.dmasked ? b.dmasked : b.dh) + r * Pp : b.drows + r * Hp;
      });
      share.hand_over(team);
      packed -= product.count * layer.H * Pp;
      const Range own = outputs();
      multiply(list.a, list.c, n, product.first, product.count, packed, layer.P,
               {own.first, own.last, no_width, from_h ? nullptr : memory.zeros});
    });
    if (steps.starts) each_row(s, [&](Index r) { stop(s, r); });
  }

  // What has come to where a row starts anew goes to the state that it starts from, and no further.
  void stop(Index s, Index r) const {
    if (!steps.anew(s, r)) return;
    const Range own = outputs();
    const R* const factors = mask(r);
    for (Index q = own.first; q < own.last; ++q) {
      const Index at = r * Pp + q * U;
      V dh = load(b.dh + at);
      if (factors) {
        dh += load(factors + q * U, units_in<R>(q, layer.P)) * load(b.dmasked + at);
        store(b.dmasked + at, V{});
      }
      store(b.start_dh + at, load(b.start_dh + at) + dh);
      store(b.dh + at, V{});
    }
    for (Index u = share.units.first; has_c && u < share.units.last; ++u) {
      const Index at = r * Hp + u * U;
      store(b.start_dc + at, load(b.start_dc + at) + load(b.dc + at));
      store(b.dc + at, V{});
    }
  }

  // What the gradient of one row's h after a step is made of.
  struct Arrivals {
    R* dh;
    R* dmasked = nullptr;
    const R* factors = nullptr;
    const R* dy = nullptr;
    R* total = nullptr;
  };
  Arrivals arrivals(Index s, Index r) const {
    return {b.dh + r * Pp, b.dmasked ? b.dmasked + r * Pp : nullptr, mask(r), b.dy ? b.dy.at(steps.at(s, r)) : nullptr,
            d.hidden ? d.hidden.at(steps.at(s, r)) : nullptr};
  }
  static FASTRNN_INLINE V arrive(const Arrivals& from, Index u, int count) {
    V dh = load(from.dh + u * U);
    if (from.factors) {
      dh = fma(load(from.factors + u * U, count), load(from.dmasked + u * U), dh);
      store(from.dmasked + u * U, V{});
    }
    if (from.dy) dh += load(from.dy + u * U, count);
    if (from.total) store(from.total + u * U, dh, count);
    return dh;
  }

  // From the gradient of a projection to that of what it reads.
  void unproject_h(Index s) const {
    const Range own = outputs();
    Index n = 0;
    each_row(s, [&](Index r) {
      const Arrivals from = arrivals(s, r);
      R* dh = row(s, r) + Hp;
      for (Index q = own.first; q < own.last; ++q) {
        store(dh + q * U, arrive(from, q, units_in<R>(q, layer.P)));
        store(from.dh + q * U, V{});
      }
      list.a[n] = dh;
      list.c[n++] = b.drows + r * Hp;
    });
    share.hand_over(team);
    gemm_wide(list.a, list.c, n, {1, layer.P, 0}, b.packed_hr, 0, {layout.units(), layer.P},
              {share.units.first, share.units.last, no_width, memory.zeros});
  }

  template <int part>
  void differentiate(Index s, Index r) const {
    constexpr bool last = part + 1 == parts;
    R* slot = slots(s, r);
    const R* h_prev = h_before(s, r);
    const R* read = multiplied(s, r);
    const R* h_next = projects ? row(s, r) : h(s, r);
    R* drow = has_row || projects ? b.drows + r * Hp : nullptr;
    const Arrivals from = projects ? Arrivals{drow} : arrivals(s, r);
    const R* c_prev = has_c ? c_before(s, r) : nullptr;
    const R* c_next = has_c ? c(s, r) : nullptr;
    R* dvectors = sums ? b.dvectors + r * sums * Hp : nullptr;
    if constexpr (C::whole_rows) {
      layout.each(share.units, [&](Index u, int count) { store(from.dh + u * U, arrive(from, u, count)); });
      C::backward(layout, WholeRow<R>{.slots = slot, .bias = b.packed.bias, .vectors = b.packed.vectors, .Hp = Hp,
                                      .h = h_prev, .c = c_prev, .next_h = nullptr, .next_c = const_cast<R*>(c_next),
                                      .dh = from.dh, .dc = b.dc + r * Hp, .dvectors = dvectors,
                                      .scratch = memory.scratch});
    } else {
      const auto block = [&](Index u, int count) __attribute__((always_inline)) {
        R* dc = b.dc + r * Hp + u * U;
        Point<R> p;
        p.options = &layer.options, p.given = layer.vectors[0];
        for (Index j = 0; j < S; ++j) p.a[j] = load(slot + u * S * U + j * count, count);
        if constexpr (C::reads_h) p.h = load(h_prev + u * U, count);
        if constexpr (has_row) p.multiplied = load(read + u * U, count);
        if constexpr (last) {
          p.next_h = load(h_next + u * U, count);
          p.dh = arrive(from, u, count);
          if constexpr (has_c) {
            p.c = load(c_prev + u * U);
            p.next_c = load(c_next + u * U);
            p.dc = load(dc);
          }
        } else {
          p.drow = load(drow + u * U);
        }
        for (int k = 0; k < own_vectors; ++k) p.vectors[k] = load(b.packed.vectors + k * Hp + u * U);
        C::template backward<part, R>(p);
        for (Index j = 0; j < S; ++j) store(slot + u * S * U + j * count, p.a[j], count);
        for (int k = 0; k < own_vectors; ++k) {
          R* sum = dvectors + k * Hp + u * U;
          store(sum, load(sum) + p.dvectors[k]);
        }
        if constexpr (last) {
          store(from.dh + u * U, p.dh);
          if constexpr (has_c) store(dc, p.dc);
        } else {
          R* to = (from.dmasked ? from.dmasked : from.dh) + u * U;
          store(to, load(to) + p.dmultiplied);
        }
      };
      layout.each(share.units, block);
    }
  }

  // Takes as many rows as fit from step s, row r on downwards; moves s and r past them.
  void take(Samples& samples, Index& s, Index& r, Index s0) const {
    samples.count = 0;
    for (; s >= s0; --s, r = 0)
      for (; r < steps.active(s); ++r) {
        if (samples.count == depth) return;
        const Index k = samples.count++;
        samples.da[k] = slots(s, r);
        samples.h[k] = multiplied(s, r);
        if (has_row || projects) samples.own[k] = row(s, r);
        samples.at[k] = steps.at(s, r);
        if (layer.x) samples.x[k] = layer.x.at(samples.at[k]);
      }
  }

  // Rows of x and of h as the right sides of the products.
  void pack_rows(const Samples& samples) const {
    TeamWorkspace::fill(team, samples.count, [&](Range some) {
      pack_columns(samples.h, some, h_panels(samples), layer.P, memory.h);
      if (has_row || projects) pack_columns(samples.own, some, own_panels(samples), layer.H, memory.own);
      if (layer.x) pack_columns(samples.x, some, x_panels(samples), layer.I, memory.x);
    });
  }

  WidePanels<R> h_panels(const Samples& samples) const { return {Pp / U, samples.count}; }
  WidePanels<R> own_panels(const Samples& samples) const { return {layout.units(), samples.count}; }
  WidePanels<R> x_panels(const Samples& samples) const { return {(layer.I + U - 1) / U, samples.count}; }

  // Own slots, some blocks at a time; their sums are the biases' gradient. The first samples' rows start from `bias`.
  void weight_gradients(const Samples& samples, const R* bias) const {
    for (Range some{blocks.first, 0}; some.first < blocks.last; some.first = some.last) {
      some.last = some.first + outer_blocks < blocks.last ? some.first + outer_blocks : blocks.last;
      pack_blocks(samples.da, samples.count, some.first * U, some.last - some.first, layout.row(),
                  b.dbias + some.first * U, memory.slots);
      for (const Product& product : C::products) {
        const bool from_h = product.source == Source::h;
        outer_product(some, from_h ? memory.h : memory.own, h_panels(samples), {0, Pp / U, layer.P, bias},
                      product.first, product.count, d.parameters.w_hh);
      }
      const WidePanels<R> inputs = x_panels(samples);
      if (layer.x) outer_product(some, memory.x, inputs, {0, inputs.count, layer.I, bias}, L::x_slot, G, d.parameters.w_ih);
    }
  }

  // dw [G*H, width] += (slots' gradients)^T rows [K, width], for `slots` slots from first_slot on.
  void outer_product(Range some, const R* rows, const WidePanels<R>& panels, const Columns<R>& columns,
                     Index first_slot, Index slots, R* dw) const {
    Index n = 0;
    for (Index column = some.first * U; column < some.last * U; ++column) {
      const auto [slot, unit] = layout.place(column);
      if (slot < first_slot || slot >= first_slot + slots) continue;
      list.a[n] = memory.slots + (column / U - some.first) * panels.K * U + column % U;
      list.c[n++] = dw + (C::gate(int(slot)) * layer.H + unit) * columns.width;
    }
    gemm_wide<U>(list.a, list.c, n, {1, panels.K, 0}, rows, 0, panels, columns);
  }

  // dw_hr [P, H], as the slots' are.
  void projection_gradient(const Samples& samples, const R* bias) const {
    const WidePanels<R> panels = own_panels(samples);
    const Range own = part(Pp / U, team.rank, team.size);
    const R** const dh = samples.own;  // which lies behind what has been packed
    for (Index k = 0; k < samples.count; ++k) dh[k] += Hp;
    for (Range some{own.first, 0}; some.first < own.last; some.first = some.last) {
      some.last = some.first + outer_blocks < own.last ? some.first + outer_blocks : own.last;
      pack_blocks(dh, samples.count, some.first * U, some.last - some.first, layer.P, memory.spare + some.first * U,
                  memory.slots);
      Index n = 0;
      for (Index column = some.first * U; column < some.last * U && column < layer.P; ++column) {
        list.a[n] = memory.slots + (column / U - some.first) * panels.K * U + column % U;
        list.c[n++] = d.parameters.w_hr + column * layer.H;
      }
      gemm_wide<U>(list.a, list.c, n, {1, panels.K, 0}, memory.own, 0, panels, {0, panels.count, layer.H, bias});
    }
  }

  R* table(Index u) const { return b.dtable + u * layer.I * G * U; }

  void clear_table() const {
    const Range own = own_units();
    for (Index u = own.first; u < own.last; ++u)
      for (Index j = 0; j < layer.I * layout.panel_row(u); j += U) store(table(u) + j, V{});
  }

  // Rows of the table that own blocks of units gather from the tokens.
  void scatter(const Samples& samples) const {
    const Range own = own_units();
    for (Index k = 0; k < samples.count; ++k)
      for (Index u = own.first; u < own.last; ++u) {
        const Index row = layout.panel_row(u);
        R* sum = table(u) + *layer.tokens.at(samples.at[k]) * row;
        const R* da = samples.da[k] + layout.at(u, L::x_slot);
        for (Index j = 0; j < row; j += U) store(sum + j, load(sum + j) + load(da + j));
      }
  }

  void input_gradient(const Samples& samples) const {
    const Range own = part(samples.count, team.rank, team.size);
    for (Index k = own.first; k < own.last; ++k) {
      list.a[k] = samples.da[k];
      list.c[k] = d.x.at(samples.at[k]);
    }
    multiply(list.a + own.first, list.c + own.first, own.last - own.first, L::x_slot, G, b.packed_ih, layer.I,
             {0, layout.transposed(layer.I).count, layer.I, memory.zeros});
  }

  // The gradient of the cell's own vector k: each row has its sum, so that it does not matter who added to it.
  V over_rows(Index k, Index u) const {
    V sum{};
    for (Index r = 0; r < steps.B; ++r) sum += load(b.dvectors + (r * sums + k) * Hp + u * U);
    return sum;
  }

  // After the first step has been reached: from the kernels' layout to PyTorch's.
  void unpack() const {
    team.wait();
    const Range own = own_units();
    for (Index u = own.first; u < own.last; ++u) {
      if (layer.tokens) layout.unpack(table(u), layer.I, u, d.parameters.w_ih);
      const int count = units_in<R>(u, layer.H);
      for (Index slot = 0; slot < S; ++slot) {
        const V sum = C::whole_rows ? over_rows(own_vectors + slot, u) : load(b.dbias + layout.at(u, slot), count);
        if (d.parameters.b_ih && slot < G) store(d.parameters.b_ih + layout.weight_row(slot, u), sum, count);
        if (d.parameters.b_hh && slot >= L::h_slot) store(d.parameters.b_hh + layout.weight_row(slot, u), sum, count);
      }
      for (int v = 0, first = 0; v < most_vectors; first += C::vectors.of[v++])
        for (int k = 0; d.parameters.vectors[v] && k < C::vectors.of[v]; ++k)
          store(d.parameters.vectors[v] + k * layer.H + u * U, over_rows(first + k, u), count);
    }
  }

  // Takes all rows of steps s1-1 .. s0, last step first: their order does not depend on where a call is cut.
  void sum(Index s0, Index s1) const {
    Samples samples = memory.samples;
    const R* bias = s1 == steps.count ? memory.zeros : nullptr;
    for (Index s = s1 - 1, r = 0; s >= s0; bias = nullptr) {
      take(samples, s, r, s0);
      pack_rows(samples);
      weight_gradients(samples, bias);
      if (projects) projection_gradient(samples, bias);
      if (layer.tokens) scatter(samples);
      if (d.x) input_gradient(samples);
    }
  }

  static TeamWorkspace sizes(const Layer<R>& layer) {
    Workspace packed, own;
    Memory::of(layer, packed, own);
    return {packed.taken(), own.taken()};
  }

  static BackwardPass pass(const Backward<R>& b, Index s, const Team& team) {
    const TeamWorkspace memory = sizes(b);
    return {b, s, team, memory.packed_of(b.workspace, team), memory.own_of(b.workspace, team)};
  }

 public:
  static Index workspace(const Layer<R>& layer, Index members) { return sizes(layer).all(members); }

  static void backward(const Backward<R>& b, Index s0, Index s1, const Team& team) noexcept {
    BackwardPass self = pass(b, s1 - 1, team);
    if (s1 == b.steps.count) self.pack();
    for (Index s = s1 - 1; s >= s0; --s) {
      self.enter(s);
      self.step_back(s);
    }
  }

  static void gradients(const Backward<R>& b, Index s0, Index s1, const Team& team) noexcept {
    const BackwardPass self = pass(b, s0, team);
    self.sum(s0, s1);
    if (s0 == 0) self.unpack();
  }
};

}  // namespace fastrnn::FASTRNN_ISA
