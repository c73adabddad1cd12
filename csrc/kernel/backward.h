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
  using Base::U, Base::G, Base::S, Base::has_c, Base::no_width;
  using Base::enter, Base::own_units, Base::each_row, Base::slots, Base::h, Base::h_before, Base::c, Base::c_before;
  using Base::mask, Base::multiplied;
  using V = Vec<R>;

  static constexpr Index depth = outer_depth;

  // What the sums over time are made from: rows of the slots' gradients, of x and of h, last step first.
  struct Samples {
    const R** da;
    const R** x;
    const R** h;
    Place* at;
    Index count = 0;

    explicit Samples(Workspace& memory)
        : da(memory.take<const R*>(depth)), x(memory.take<const R*>(depth)), h(memory.take<const R*>(depth)),
          at(memory.take<Place>(depth)) {}
  };

  struct Memory {
    Lists<R> list;
    Samples samples;
    R* slots;  // [outer_blocks, depth, U]
    R* h;      // [Hp, depth] in wide panels, for all members
    R* x;      // [Ip, depth] likewise
    Index width;
    R* zeros;  // [width]: what the first sums start from

    Memory(Workspace& packed, Workspace& workspace, Index B, Index Hp, Index Ip)
        : list(workspace, B > depth ? B : depth), samples(workspace),
          slots(workspace.take<R>(outer_blocks * depth * U)), h(packed.take<R>(Hp * depth)),
          x(packed.take<R>(Ip * depth)), width(Hp > Ip ? Hp : Ip), zeros(workspace.take<R>(width)) {}

    static Memory of(const Layer<R>& layer, Workspace& packed, Workspace& workspace) {
      return {packed, workspace, layer.steps.B, padded(layer.H, U), layer.x ? padded(layer.I, U) : 0};
    }
  };

  const Backward<R>& b;
  const Gradients<R>& d = b.gradients;
  const Memory memory;
  const Lists<R>& list = memory.list;
  const Range blocks;  // of slots, whose weights' gradient is a member's own

  BackwardPass(const Backward<R>& b, Index s, const Team& team, Workspace packed, Workspace workspace)
      : Base(b, s, team), b(b), memory(Memory::of(b, packed, workspace)),
        blocks(part(layout.row() / U, team.rank, team.size)) {}

  void pack() const {
    const Range own = part(layout.transposed(layer.H).panels(), team.rank, team.size);
    for (Index p = own.first; p < own.last; ++p)
      layout.pack_transposed(layer.w_hh, layer.H, L::h_slot, p, b.packed_hh);
    if (d.x) {
      const Range inputs = part(layout.transposed(layer.I).panels(), team.rank, team.size);
      for (Index p = inputs.first; p < inputs.last; ++p)
        layout.pack_transposed(layer.w_ih, layer.I, L::x_slot, p, b.packed_ih);
    }
    if (layer.tokens) clear_table();
    team.wait();
  }

  // Rows of slots, a, times the weights of the G slots from first_slot on: some of N columns of c.
  void multiply(const R** a, R** c, Index rows, Index first_slot, const R* packed, Index N, Columns<R> columns) const {
    const WidePanels<R> panels = layout.transposed(N);
    const Index whole = layout.whole_units(), left = layer.H - whole * U;
    const auto product = [&](const Runs& runs, Index from) {
      gemm_wide(a, c, rows, runs, packed, from, panels, columns);
      columns.bias = nullptr;  // what follows is added
    };
    const auto move = [&](Index columns) {
      for (Index i = 0; i < rows; ++i) a[i] += columns;
    };
    if (S == G) return product({1, G * layer.H, 0}, 0);
    move(first_slot * U);
    if (whole) product({whole, G * U, S * U}, 0);
    move(layout.at(whole, first_slot) - first_slot * U);
    if (left) product({1, G * left, 0}, whole * G * U);
  }

  void step_back(Index s) const {
    Index n = 0;
    each_row(s, [&](Index r) {
      differentiate(s, r);
      list.a[n] = slots(s, r);
      list.c[n++] = (b.dmasked ? b.dmasked : b.dh) + r * Hp;
    });
    share.hand_over(team);
    multiply(list.a, list.c, n, L::h_slot, b.packed_hh, layer.H,
             {share.units.first, share.units.last, no_width, nullptr});
  }

  void differentiate(Index s, Index r) const {
    R* row = slots(s, r);
    const R* h_prev = h_before(s, r);
    const R* h_next = h(s, r);
    const R* dy = b.dy ? b.dy.at(steps.at(s, r)) : nullptr;
    R* total = d.hidden ? d.hidden.at(steps.at(s, r)) : nullptr;
    const R* c_prev = has_c ? c_before(s, r) : nullptr;
    const R* c_next = has_c ? c(s, r) : nullptr;
    const R* factors = mask(r);
    const auto block = [&](Index u, int count) __attribute__((always_inline)) {
      R* dh = b.dh + r * Hp + u * U;
      R* dc = b.dc + r * Hp + u * U;
      V a[S], prev[2], next[2], dnext[2], dprev[2];
      for (Index j = 0; j < S; ++j) a[j] = load(row + u * S * U + j * count, count);
      prev[0] = load(h_prev + u * U, count);
      next[0] = load(h_next + u * U, count);
      dnext[0] = load(dh);
      if (factors) {
        R* dmasked = b.dmasked + r * Hp + u * U;
        dnext[0] = fma(load(factors + u * U, count), load(dmasked), dnext[0]);
        store(dmasked, V{});
      }
      if (dy) dnext[0] += load(dy + u * U, count);
      if (total) store(total + u * U, dnext[0], count);
      if constexpr (has_c) {
        prev[1] = load(c_prev + u * U);
        next[1] = load(c_next + u * U);
        dnext[1] = load(dc);
      }
      C::template backward<R>(a, prev, next, dnext, dprev);
      for (Index j = 0; j < S; ++j) store(row + u * S * U + j * count, a[j], count);
      store(dh, dprev[0]);
      if constexpr (has_c) store(dc, dprev[1]);
    };
    layout.each(share.units, block);
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
        samples.at[k] = steps.at(s, r);
        if (layer.x) samples.x[k] = layer.x.at(samples.at[k]);
      }
  }

  // Rows of x and of h as the right sides of the products.
  void pack_rows(const Samples& samples) const {
    TeamWorkspace::fill(team, samples.count, [&](Range some) {
      pack_columns(samples.h, some, h_panels(samples), layer.H, memory.h);
      if (layer.x) pack_columns(samples.x, some, x_panels(samples), layer.I, memory.x);
    });
  }

  WidePanels<R> h_panels(const Samples& samples) const { return {layout.units(), samples.count}; }
  WidePanels<R> x_panels(const Samples& samples) const { return {(layer.I + U - 1) / U, samples.count}; }

  // Own slots, some blocks at a time; their sums are the biases' gradient. The first samples' rows start from `bias`.
  void weight_gradients(const Samples& samples, const R* bias) const {
    for (Range some{blocks.first, 0}; some.first < blocks.last; some.first = some.last) {
      some.last = some.first + outer_blocks < blocks.last ? some.first + outer_blocks : blocks.last;
      pack_blocks(samples.da, samples.count, some.first * U, some.last - some.first, layout.row(),
                  b.dbias + some.first * U, memory.slots);
      outer_product(some, memory.h, h_panels(samples), {0, layout.units(), layer.H, bias}, L::h_slot, d.parameters.w_hh);
      const WidePanels<R> inputs = x_panels(samples);
      if (layer.x) outer_product(some, memory.x, inputs, {0, inputs.count, layer.I, bias}, L::x_slot, d.parameters.w_ih);
    }
  }

  // dw [G*H, width] += (slots' gradients)^T rows [K, width], for the G slots from first_slot on.
  void outer_product(Range some, const R* rows, const WidePanels<R>& panels, const Columns<R>& columns,
                     Index first_slot, R* dw) const {
    Index n = 0;
    for (Index column = some.first * U; column < some.last * U; ++column) {
      const auto [slot, unit] = layout.place(column);
      if (slot < first_slot || slot >= first_slot + G) continue;
      list.a[n] = memory.slots + (column / U - some.first) * panels.K * U + column % U;
      list.c[n++] = dw + (C::gate(int(slot)) * layer.H + unit) * columns.width;
    }
    gemm_wide<U>(list.a, list.c, n, {1, panels.K, 0}, rows, 0, panels, columns);
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
    multiply(list.a + own.first, list.c + own.first, own.last - own.first, L::x_slot, b.packed_ih, layer.I,
             {0, layout.transposed(layer.I).count, layer.I, memory.zeros});
  }

  // After the first step has been reached: from the kernels' layout to PyTorch's.
  void unpack() const {
    team.wait();
    const Range own = own_units();
    for (Index u = own.first; u < own.last; ++u) {
      if (layer.tokens) layout.unpack(table(u), layer.I, u, d.parameters.w_ih);
      const int count = units_in<R>(u, layer.H);
      for (Index slot = 0; slot < S; ++slot) {
        const V sum = load(b.dbias + layout.at(u, slot), count);
        if (d.parameters.b_ih && slot < G) store(d.parameters.b_ih + layout.weight_row(slot, u), sum, count);
        if (d.parameters.b_hh && slot >= L::h_slot) store(d.parameters.b_hh + layout.weight_row(slot, u), sum, count);
      }
    }
  }

  // Takes all rows of steps s1-1 .. s0, last step first: their order does not depend on where a call is cut.
  void sum(Index s0, Index s1) const {
    Samples samples = memory.samples;
    for (Index j = 0; j < memory.width; j += U) store(memory.zeros + j, V{});
    const R* bias = s1 == steps.count ? memory.zeros : nullptr;
    for (Index s = s1 - 1, r = 0; s >= s0; bias = nullptr) {
      take(samples, s, r, s0);
      pack_rows(samples);
      weight_gradients(samples, bias);
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
