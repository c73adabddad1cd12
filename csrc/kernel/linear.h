// y = x W^T + b and its gradients: what stands before and after recurrent layers.
#pragma once

#include "outer.h"
#include "pack.h"
#include "workspace.h"

namespace fastrnn::FASTRNN_ISA {

template <class R>
class LinearForward {
  static constexpr Index U = lanes<R>;

  const Linear<R>& l;
  const Layout<OneGate, R> layout{l.O};

  explicit LinearForward(const Linear<R>& l) : l(l) {}

  void output(Range rows, Range blocks) const {
    constexpr Index most = 512;
    const R* a[most];
    R* c[most];
    const Format format = l.packed.format;
    const auto panel = [&](Index u) { return Layout<OneGate, R>::panel_at(format, l.I, u, 1); };
    const Panels<R> panels{l.packed.ih + panel(blocks.first), U, panel(1) / stored_bytes<R>(format),
                           blocks.last - blocks.first, blocks.first * U, U, l.O, l.packed.bias};
    for (Index n = rows.first; n < rows.last; n += most) {
      const Index count = rows.last - n < most ? rows.last - n : most;
      for (Index k = 0; k < count; ++k) a[k] = l.x + (n + k) * l.I, c[k] = l.y + (n + k) * l.O;
      multiply_packed<1>(format, 1, a, c, count, l.I, panels);
    }
  }

  // The same sums in the same order, of weights that are turned on the way.
  template <int rows>
  void output_few(Range blocks) const {
    if constexpr (rows > 0) {
      if (l.N != rows) return output_few<rows - 1>(blocks);
      for (Index u = blocks.first; u < blocks.last; ++u) {
        const int count = layout.width(u);
        Vec<R> bias{}, sum[rows], block[U];
        if (l.b) bias += load(l.b + u * U, count);
        for (Vec<R>& start : sum) start = bias;
        const auto add = [&](Index k, Index i) __attribute__((always_inline)) {
          for (int n = 0; n < rows; ++n) sum[n] = fma(splat(l.x[n * l.I + k + i]), block[i], sum[n]);
        };
        for (Index k = 0; k < l.I; k += U) {
          transposed_block(l.w + u * U * l.I, l.I, k, count, block);
          if (k + U <= l.I)
#pragma GCC unroll 16
            for (Index i = 0; i < U; ++i) add(k, i);
          else
            for (Index i = 0; k + i < l.I; ++i) add(k, i);
        }
        for (int n = 0; n < rows; ++n) store(l.y + n * l.O + u * U, sum[n], count);
      }
    }
  }

 public:
  static void pack(const Parameters<R>& p, const Packed<R>& packed, const Team& team) noexcept {
    const Layout<OneGate, R> layout{p.H};
    const Range own = part(layout.units(), team.rank, team.size);
    for (Index u = own.first; u < own.last; ++u) {
      layout.pack(packed.format, p.w_ih, p.I, 0, 1, u, packed.ih);
      layout.pack_bias(p.b_ih, nullptr, u, packed.bias);
    }
  }

  // Rows n0 .. n1-1 of y: each member has some of them, or where there are few, some of their outputs.
  static void forward(const Linear<R>& l, Index n0, Index n1, const Team& team) noexcept {
    const LinearForward self(l);
    const Range every{0, self.layout.units()}, some = part(every.last, team.rank, team.size);
    const Range own = part(n1 - n0, team.rank, team.size);
    if (!l.packed.ih) return self.template output_few<few_rows>(some);
    if (l.N <= few_rows) return self.output({n0, n1}, some);
    self.output({n0 + own.first, n0 + own.last}, every);
  }
};

template <class R>
class LinearBackward {
  static constexpr Index U = lanes<R>;

  struct Memory {
    const R** a;
    R** c;
    const R** rows;
    R* dy;     // [outer_blocks, outer_depth, U]
    R* x;      // [Ip, outer_depth] in wide panels, for all members
    R* zeros;  // [Ip]

    Memory(Workspace& packed, Workspace& workspace, Index I)
        : a(workspace.take<const R*>(outer_depth)), c(workspace.take<R*>(outer_depth)),
          rows(workspace.take<const R*>(outer_depth)), dy(workspace.take<R>(outer_blocks * outer_depth * U)),
          x(packed.take<R>(padded(I, U) * outer_depth)), zeros(workspace.take<R>(padded(I, U))) {}
  };

  const LinearGradients<R>& l;
  const Team& team;
  const Layout<OneGate, R> layout{l.O};
  const Range blocks;  // of outputs
  const Memory memory;

  LinearBackward(const LinearGradients<R>& l, const Team& team, Workspace packed, Workspace workspace)
      : l(l), team(team), blocks(part(layout.units(), team.rank, team.size)), memory(packed, workspace, l.I) {}

  void input_gradient(Range rows) const {
    const WidePanels<R> panels = layout.transposed(l.I);
    each(rows.first, rows.last, [&](Index n, Index count) {
      for (Index k = 0; k < count; ++k) memory.a[k] = l.dy + (n + k) * l.O, memory.c[k] = l.dx + (n + k) * l.I;
      gemm_wide(memory.a, memory.c, count, {1, l.O, 0}, l.packed, 0, panels, {0, panels.count, l.I, memory.zeros});
    });
  }

  void weight_gradient(Index first, Index last) const {
    each(first, last, [&](Index n, Index count) {
      const WidePanels<R> panels{(l.I + U - 1) / U, count};
      for (Index k = 0; k < count; ++k) memory.rows[k] = l.x + (n + k) * l.I;
      TeamWorkspace::fill(team, count, [&](Range some) { pack_columns(memory.rows, some, panels, l.I, memory.x); });
      for (Index k = 0; k < count; ++k) memory.rows[k] = l.dy + (n + k) * l.O;
      for (Range some{blocks.first, 0}; some.first < blocks.last; some.first = some.last) {
        some.last = some.first + outer_blocks < blocks.last ? some.first + outer_blocks : blocks.last;
        outer_product(some, panels, n == 0 ? memory.zeros : nullptr);
      }
    });
  }

  // dw += dy^T x for some blocks of outputs; the first rows' sums start from `bias`.
  void outer_product(Range some, const WidePanels<R>& panels, const R* bias) const {
    pack_blocks(memory.rows, panels.K, some.first * U, some.last - some.first, l.O, l.dbias + some.first * U, memory.dy);
    const Index left = l.O - some.first * U, whole = (some.last - some.first) * U, n = left < whole ? left : whole;
    for (Index j = 0; j < n; ++j) {
      memory.a[j] = memory.dy + j / U * panels.K * U + j % U;
      memory.c[j] = l.dw + (some.first * U + j) * l.I;
    }
    gemm_wide<U>(memory.a, memory.c, n, {1, panels.K, 0}, memory.x, 0, panels, {0, panels.count, l.I, bias});
  }

  template <class F>
  static void each(Index first, Index last, const F& fn) {
    for (Index n = first; n < last; n += outer_depth) fn(n, last - n < outer_depth ? last - n : outer_depth);
  }

  static TeamWorkspace sizes(const LinearGradients<R>& l) {
    Workspace packed, own;
    Memory(packed, own, l.I);
    return {packed.taken(), own.taken()};
  }

 public:
  static Index workspace(const LinearGradients<R>& l, Index members) {
    return sizes(l).all(members);
  }

  // What rows n0 .. n1-1 of dy give.
  static void backward(const LinearGradients<R>& l, Index n0, Index n1, const Team& team) noexcept {
    const TeamWorkspace memory = sizes(l);
    const LinearBackward self(l, team, memory.packed_of(l.workspace, team), memory.own_of(l.workspace, team));
    if (n0 == 0) {
      const Range inputs = part(self.layout.transposed(l.I).panels(), team.rank, team.size);
      for (Index p = inputs.first; p < inputs.last; ++p) self.layout.pack_transposed(l.w, l.I, 0, 1, p, l.packed);
      team.wait();
    }
    for (Index j = 0; j < l.I; j += U) store(self.memory.zeros + j, Vec<R>{});
    const Range own = part(n1 - n0, team.rank, team.size);
    self.input_gradient({n0 + own.first, n0 + own.last});
    self.weight_gradient(n0, n1);
    if (n1 == l.N)
      for (Index u = self.blocks.first; u < self.blocks.last; ++u)
        store(l.db + u * U, load(l.dbias + u * U), units_in<R>(u, l.O));
  }
};

}  // namespace fastrnn::FASTRNN_ISA
