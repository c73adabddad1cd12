// y = x W^T + b and its gradients: what stands before and after recurrent layers.
#pragma once

#include "outer.h"
#include "pack.h"
#include "workspace.h"

namespace fastrnn::FASTRNN_ISA {

template <class R>
class LinearPass {
  struct OneGate {
    static constexpr int gates = 1, slots = 1;
    static constexpr int gate(int) { return 0; }
  };
  static constexpr Index U = lanes<R>;

  struct Memory {
    const R** a;
    R** c;
    const R** rows;
    R* dy;     // [outer_blocks, outer_depth, U]
    R* x;      // [Ip, outer_depth] in wide panels
    R* zeros;  // [Ip]

    Memory(Workspace& workspace, Index I)
        : a(workspace.take<const R*>(outer_depth)), c(workspace.take<R*>(outer_depth)),
          rows(workspace.take<const R*>(outer_depth)), dy(workspace.take<R>(outer_blocks * outer_depth * U)),
          x(workspace.take<R>(padded(I, U) * outer_depth)), zeros(workspace.take<R>(padded(I, U))) {}
  };

  const Linear<R>& l;
  const Team& team;
  const Layout<OneGate, R> layout{l.O};
  const Range blocks = part(layout.units(), team.rank, team.size);  // of outputs
  const Memory memory;

  LinearPass(const Linear<R>& l, const Team& team, Workspace workspace)
      : l(l), team(team), memory(workspace, l.I) {}

  static LinearPass pass(const Linear<R>& l, const Team& team) {
    return {l, team, Workspace(l.workspace, team.rank * workspace(l))};
  }

  Range own_rows(Index n0, Index n1) const {
    const Range own = part(n1 - n0, team.rank, team.size);
    return {n0 + own.first, n0 + own.last};
  }

  // For some of the rows n0 .. n1-1 at a time: lists of their starts in a matrix of K columns and in one of N.
  template <class F>
  void lists(Range rows, const R* from, Index K, R* to, Index N, const F& multiply) const {
    each(rows.first, rows.last, [&](Index n, Index count) {
      for (Index k = 0; k < count; ++k) {
        memory.a[k] = from + (n + k) * K;
        memory.c[k] = to + (n + k) * N;
      }
      multiply(count);
    });
  }

  void output(Range rows) const {
    const Panels<R> panels{l.packed, U, l.I * U, layout.units(), 0, U, l.O, l.padded_bias};
    lists(rows, l.x, l.I, l.y, l.O, [&](Index count) { gemm<1>(memory.a, memory.c, count, {1, l.I, 0}, panels); });
  }

  // All rows, where there are few: own blocks of outputs, their weights turned on the way, which takes less time than to
  // pack them. The same sums in the same order as in `output`.
  template <int rows>
  void output_few() const {
    if constexpr (rows > 0) {
      if (l.N != rows) return output_few<rows - 1>();
      for (Index u = blocks.first; u < blocks.last; ++u) {
        const int count = layout.width(u);
        Vec<R> bias{}, sum[rows], block[U];
        if (l.b) bias += load(l.b + u * U, count);
        for (Vec<R>& start : sum) start = bias;
        const auto add = [&](Index k, Index i) __attribute__((always_inline)) {
          for (int n = 0; n < rows; ++n) sum[n] = fma(splat(l.x[n * l.I + k + i]), block[i], sum[n]);
        };
        for (Index k = 0; k < l.I; k += U) {
          layout.transposed_block(l.w + u * U * l.I, l.I, k, count, block);
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

  void input_gradient(Range rows) const {
    const WidePanels<R> panels = layout.transposed(l.I);
    lists(rows, l.dy, l.O, l.dx, l.I, [&](Index count) {
      gemm_wide(memory.a, memory.c, count, {1, l.O, 0}, l.packed, 0, panels, {0, panels.count, l.I, memory.zeros});
    });
  }

  void weight_gradient(Index first, Index last) const {
    each(first, last, [&](Index n, Index count) {
      const WidePanels<R> panels{(l.I + U - 1) / U, count};
      for (Index k = 0; k < count; ++k) memory.rows[k] = l.x + (n + k) * l.I;
      pack_columns(memory.rows, panels, l.I, memory.x);
      for (Index k = 0; k < count; ++k) memory.rows[k] = l.dy + (n + k) * l.O;
      for (Range some{blocks.first, 0}; some.first < blocks.last; some.first = some.last) {
        some.last = some.first + outer_blocks < blocks.last ? some.first + outer_blocks : blocks.last;
        outer_product(some, panels, n == 0 ? memory.zeros : nullptr);
      }
    });
  }

  // dw += dy^T x for some blocks of outputs; the first rows' sums start from `bias`.
  void outer_product(Range some, const WidePanels<R>& panels, const R* bias) const {
    pack_blocks(memory.rows, panels.K, some.first * U, some.last - some.first, l.O, l.padded_bias + some.first * U,
                memory.dy);
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

 public:
  static Index workspace(const Linear<R>& l) {
    Workspace workspace;
    Memory(workspace, l.I);
    return workspace.taken();
  }

  // Rows n0 .. n1-1 of y.
  static void forward(const Linear<R>& l, Index n0, Index n1, const Team& team) noexcept {
    constexpr int few = 4;
    const LinearPass self = pass(l, team);
    if (l.N <= few) return self.template output_few<few>();
    if (n0 == 0) {
      for (Index u = self.blocks.first; u < self.blocks.last; ++u) {
        self.layout.pack(l.w, l.I, 0, u, l.packed + u * l.I * U);
        self.layout.pack_bias(l.b, nullptr, u, l.padded_bias);
      }
      team.wait();
    }
    self.output(self.own_rows(n0, n1));
  }

  // What rows n0 .. n1-1 of dy give.
  static void backward(const Linear<R>& l, Index n0, Index n1, const Team& team) noexcept {
    const LinearPass self = pass(l, team);
    if (n0 == 0) {
      const Range inputs = part(self.layout.transposed(l.I).panels(), team.rank, team.size);
      for (Index p = inputs.first; p < inputs.last; ++p) self.layout.pack_transposed(l.w, l.I, 0, p, l.packed);
      team.wait();
    }
    for (Index j = 0; j < l.I; j += U) store(self.memory.zeros + j, Vec<R>{});
    self.input_gradient(self.own_rows(n0, n1));
    self.weight_gradient(n0, n1);
    if (n1 == l.N && l.db)
      for (Index u = self.blocks.first; u < self.blocks.last; ++u)
        store(l.db + u * U, load(l.padded_bias + u * U), units_in<R>(u, l.O));
  }
};

}  // namespace fastrnn::FASTRNN_ISA
