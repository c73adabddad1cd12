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
    const R** x;
    const R** dy;
    R* packed;  // [own blocks, outer_depth, U]
    R* panel;

    Memory(Workspace& workspace, Index O) {
      const Index most = O > outer_depth ? O : outer_depth;
      a = workspace.take<const R*>(most);
      c = workspace.take<R*>(most);
      x = workspace.take<const R*>(outer_depth);
      dy = workspace.take<const R*>(outer_depth);
      packed = workspace.take<R>((O + U) * outer_depth);
      panel = workspace.take<R>(outer_panel<R>);
    }
  };

  const Linear<R>& l;
  const Team& team;
  const Layout<OneGate, R> layout{l.O};
  const Range blocks = part(layout.units(), team.rank, team.size);  // of outputs
  const Memory memory;

  LinearPass(const Linear<R>& l, const Team& team, Workspace workspace)
      : l(l), team(team), memory(workspace, l.O) {}

  static LinearPass pass(const Linear<R>& l, const Team& team) {
    return {l, team, Workspace(l.workspace, team.rank * workspace(l))};
  }

  Range own_rows(Index n0, Index n1) const {
    const Range own = part(n1 - n0, team.rank, team.size);
    return {n0 + own.first, n0 + own.last};
  }

  // Rows `own` of `to` from those of `from`, which have K columns.
  void multiply(const R* from, Index K, const Panels<R>& panels, R* to, Range own) const {
    each(own.first, own.last, [&](Index n, Index count) {
      for (Index k = 0; k < count; ++k) {
        memory.a[k] = from + (n + k) * K;
        memory.c[k] = to + (n + k) * panels.width;
      }
      gemm<1>(memory.a, memory.c, count, {1, K, 0}, panels);
    });
  }

  void weight_gradient(Index first, Index last) const {
    each(first, last, [&](Index n, Index count) {
      for (Index k = 0; k < count; ++k) {
        memory.x[k] = l.x + (n + k) * l.I;
        memory.dy[k] = l.dy + (n + k) * l.O;
      }
      Index rows = 0;
      for (Index u = blocks.first; u < blocks.last; ++u) {
        R* packed = memory.packed + (u - blocks.first) * count * U;
        const int valid = units_in<R>(u, l.O);
        pack_block(memory.dy, count, u * U, valid, l.padded_bias + u * U, packed);
        for (Index lane = 0; lane < valid; ++lane, ++rows) {
          memory.a[rows] = packed + lane;
          memory.c[rows] = l.dw + (u * U + lane) * l.I;
        }
      }
      add_outer(memory.a, memory.c, rows, memory.x, count, l.I, memory.panel);
    });
  }

  template <class F>
  static void each(Index first, Index last, const F& fn) {
    for (Index n = first; n < last; n += outer_depth) fn(n, last - n < outer_depth ? last - n : outer_depth);
  }

 public:
  static Index workspace(const Linear<R>& l) {
    Workspace workspace;
    Memory(workspace, l.O);
    return workspace.taken();
  }

  // Rows n0 .. n1-1 of y.
  static void forward(const Linear<R>& l, Index n0, Index n1, const Team& team) noexcept {
    const LinearPass self = pass(l, team);
    if (n0 == 0) {
      for (Index u = self.blocks.first; u < self.blocks.last; ++u) {
        self.layout.pack(l.w, l.I, 0, u, l.packed + u * l.I * U);
        self.layout.pack_bias(l.b, nullptr, u, l.padded_bias + u * U);
      }
      team.wait();
    }
    const Panels<R> panels{l.packed, l.I * U, 0, self.layout.units(), U, l.O, l.padded_bias};
    self.multiply(l.x, l.I, panels, l.y, self.own_rows(n0, n1));
  }

  // What rows n0 .. n1-1 of dy give.
  static void backward(const Linear<R>& l, Index n0, Index n1, const Team& team) noexcept {
    const LinearPass self = pass(l, team);
    if (n0 == 0) {
      const Range inputs = part((l.I + U - 1) / U, team.rank, team.size);
      for (Index q = inputs.first; q < inputs.last; ++q)
        self.layout.pack_transposed(l.w, l.I, 0, q, l.packed + q * self.layout.row() * U);
      team.wait();
    }
    const Panels<R> panels{l.packed, self.layout.row() * U, 0, (l.I + U - 1) / U, U, l.I, nullptr};
    self.multiply(l.dy, l.O, panels, l.dx, self.own_rows(n0, n1));
    self.weight_gradient(n0, n1);
    if (n1 == l.N && l.db)
      for (Index u = self.blocks.first; u < self.blocks.last; ++u)
        store(l.db + u * U, load(l.padded_bias + u * U), units_in<R>(u, l.O));
  }
};

}  // namespace fastrnn::FASTRNN_ISA
