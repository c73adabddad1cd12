// The loop over time, forward and backward (BPTT: Werbos, 1990), once for every cell.
#pragma once

#include "gemm.h"
#include "pack.h"

namespace fastrnn::FASTRNN_ISA {

template <class C, class R>
class Sequence {
  using V = Vec<R>;
  using L = Layout<C, R>;
  static constexpr Index U = lanes<R>, G = C::gates, S = C::slots;
  static constexpr Index no_width = Index(1) << 62;
  static constexpr Index units_at_once = 8;  // blocks whose product and pointwise part follow each other
  static constexpr Index depth = 128;        // rows of T*B that the weights' gradient takes at a time
  static constexpr int columns = 4;          // vectors in a panel of that product

  const Layer<R>& layer;
  const Team& team;
  const L layout{layer.H};
  const Steps& steps = layer.steps;
  const Share share = share_of(steps, layout.units(), 2 * G * layer.H * layer.H * steps.B, team);

  Sequence(const Layer<R>& layer, const Team& team) : layer(layer), team(team) {}

  // ---- where things stand

  Index first_slot_row(Index s) const {  // inference reuses the rows of one chunk
    return layer.training ? steps.offset[s] : s % layer.chunk * steps.B;
  }
  R* slots(Index s, Index r) const { return layer.slots + (first_slot_row(s) + r) * layout.row(); }
  const R* x(Index s, Index r) const { return layer.x + steps.at(s, r) * layer.I; }
  R* h(Index s, Index r) const { return layer.y + steps.at(s, r) * layer.H; }
  const R* h_before(Index s, Index r) const { return s ? h(s - 1, r) : layer.h0 + steps.order[r] * layer.H; }

  R* c_before(Index s, Index r) const {
    const Index first = layer.training && s ? steps.B + steps.offset[s - 1] : 0;
    return layer.cells + (first + r) * layout.units() * U;
  }
  R* c(Index s, Index r) const { return c_before(s + 1, r); }

  Range rows_at(Index s) const {
    const Index active = steps.active(s);
    return {share.rows.first, share.rows.last < active ? share.rows.last : active};
  }

  // Memory of one member, handed out piece by piece.
  struct Workspace {
    char* next;
    template <class T>
    T* take(Index n) {
      T* piece = reinterpret_cast<T*>(next);
      next += (n * Index(sizeof(T)) + 63) / 64 * 64;
      return piece;
    }
  };

  // Lists of rows: what a product reads and writes.
  struct Rows {
    const R** a;
    R** c;
  };

  static Index list_bytes(Index n) { return (n * Index(sizeof(void*)) + 63) / 64 * 64; }

  // ---- forward

  void pack(const Forward<R>& f) const {
    const Range own = part(layout.units(), team.rank, team.size);
    for (Index u = own.first; u < own.last; ++u) {
      layout.pack(layer.w_ih, layer.I, L::x_slot, u, f.packed_ih + u * layer.I * G * U);
      layout.pack(layer.w_hh, layer.H, L::h_slot, u, f.packed_hh + u * layer.H * G * U);
      layout.pack_bias(layer.b_ih, layer.b_hh, u, f.bias + u * S * U);
    }
    team.wait();
  }

  // The pre-activations' part of the input, for a chunk of steps.
  void project(const Forward<R>& f, Index s0, Index s1, const Rows& list) const {
    Index n = 0;
    for (Index s = s0; s < s1; ++s)
      for (Index r = rows_at(s).first; r < rows_at(s).last; ++r, ++n) {
        list.c[n] = slots(s, r);
        if (layer.tokens)
          look_up(f, layer.tokens[steps.at(s, r)], list.c[n]);
        else
          list.a[n] = x(s, r);
        // What only the recurrence feeds still starts from its bias.
        if constexpr (S > G)
          for (Index u = share.units.first; u < share.units.last; ++u)
            for (Index j = u * S + G; j < (u + 1) * S; ++j) store(list.c[n] + j * U, load(f.bias + j * U));
      }
    if (!layer.tokens)
      gemm<G>(list.a, list.c, n, {1, layer.I, 0},
              Panels<R>{f.packed_ih, layer.I * G * U, share.units.first, share.units.last, S * U, no_width, f.bias});
  }

  // The product with a one-hot vector is a row of the table.
  void look_up(const Forward<R>& f, Index token, R* row) const {
    for (Index u = share.units.first; u < share.units.last; ++u)
      for (Index g = 0; g < G; ++g)
        store(row + (u * S + g) * U,
              load(f.bias + (u * S + g) * U) + load(f.packed_ih + ((u * layer.I + token) * G + g) * U));
  }

  void step(const Forward<R>& f, Index s, const Rows& list) const {
    const Range rows = rows_at(s);
    Index n = 0;
    for (Index r = rows.first; r < rows.last; ++r, ++n) {
      list.a[n] = h_before(s, r);
      list.c[n] = slots(s, r) + L::h_slot * U;
    }
    for (Index u = share.units.first; u < share.units.last; u += units_at_once) {
      const Range units{u, u + units_at_once < share.units.last ? u + units_at_once : share.units.last};
      gemm<G>(list.a, list.c, n, {1, layer.H, 0},
              Panels<R>{f.packed_hh, layer.H * G * U, units.first, units.last, S * U, no_width, nullptr});
      for (Index r = rows.first; r < rows.last; ++r) activate(s, r, units);
    }
  }

  void activate(Index s, Index r, Range units) const {
    R* row = slots(s, r);
    const R* h_prev = h_before(s, r);
    R* h_next = h(s, r);
    const R* c_prev = C::states > 1 ? c_before(s, r) : nullptr;
    R* c_next = C::states > 1 ? c(s, r) : nullptr;
    for (Index u = units.first; u < units.last; ++u) {
      const int count = units_in<R>(u, layer.H);
      V a[S], prev[2], next[2];
      for (Index j = 0; j < S; ++j) a[j] = load(row + (u * S + j) * U);
      prev[0] = load(h_prev + u * U, count);
      if constexpr (C::states > 1) prev[1] = load(c_prev + u * U);
      C::template forward<R>(a, prev, next);
      if (layer.training)
        for (Index j = 0; j < S; ++j) store(row + (u * S + j) * U, a[j]);
      store(h_next + u * U, next[0], count);
      if constexpr (C::states > 1) store(c_next + u * U, next[1]);
    }
  }

  // ---- backward

  void pack(const Backward<R>& b) const {
    const Index panel = layout.units() * G * U * U;
    const Range own = part(layout.units(), team.rank, team.size);
    for (Index q = own.first; q < own.last; ++q)
      layout.pack_transposed(layer.w_hh, layer.H, L::h_slot, q, b.packed_hh + q * panel);
    if (b.dx) {
      const Range inputs = part((layer.I + U - 1) / U, team.rank, team.size);
      for (Index q = inputs.first; q < inputs.last; ++q)
        layout.pack_transposed(layer.w_ih, layer.I, L::x_slot, q, b.packed_ih + q * panel);
    }
    team.wait();
  }

  // Columns of a row of slots that one side feeds, as the products go through them.
  Runs slot_runs() const {
    if (S == G) return {1, layout.row(), 0};
    return {layout.units(), G * U, S * U};
  }

  void step_back(const Backward<R>& b, Index s, const Rows& list) const {
    const Range rows = rows_at(s);
    const Index Hp = layout.units() * U;
    Index n = 0;
    for (Index r = rows.first; r < rows.last; ++r, ++n) {
      differentiate(b, s, r);
      list.a[n] = slots(s, r) + L::h_slot * U;
      list.c[n] = b.dh + r * Hp;
    }
    share.hand_over(team);
    gemm<1>(list.a, list.c, n, slot_runs(),
            Panels<R>{b.packed_hh, G * Hp * U, share.units.first, share.units.last, U, no_width, nullptr});
  }

  void differentiate(const Backward<R>& b, Index s, Index r) const {
    const Index Hp = layout.units() * U;
    R* row = slots(s, r);
    const R* h_prev = h_before(s, r);
    const R* h_next = h(s, r);
    const R* dy = b.dy ? b.dy + steps.at(s, r) * layer.H : nullptr;
    const R* c_prev = C::states > 1 ? c_before(s, r) : nullptr;
    const R* c_next = C::states > 1 ? c(s, r) : nullptr;
    for (Index u = share.units.first; u < share.units.last; ++u) {
      const int count = units_in<R>(u, layer.H);
      R* dh = b.dh + r * Hp + u * U;
      R* dc = b.dc + r * Hp + u * U;
      V a[S], prev[2], next[2], dnext[2], dprev[2];
      for (Index j = 0; j < S; ++j) a[j] = load(row + (u * S + j) * U);
      prev[0] = load(h_prev + u * U, count);
      next[0] = load(h_next + u * U, count);
      dnext[0] = load(dh);
      if (dy) dnext[0] += load(dy + u * U, count);
      if constexpr (C::states > 1) {
        prev[1] = load(c_prev + u * U);
        next[1] = load(c_next + u * U);
        dnext[1] = load(dc);
      }
      C::template backward<R>(a, prev, next, dnext, dprev);
      for (Index j = 0; j < S; ++j) store(row + (u * S + j) * U, a[j]);
      store(dh, dprev[0]);
      if constexpr (C::states > 1) store(dc, dprev[1]);
    }
  }

  // What the sums over time are made from: rows of the slots' gradients, of x and of h, last step first.
  struct Samples {
    const R** da;
    const R** x;
    const R** h;
    Index* at;  // in [T, B]
    Index count;
  };

  // Takes as many rows as fit from step s, row r on downwards; moves s and r past them.
  void take(Samples& samples, Index& s, Index& r, Index s0) const {
    samples.count = 0;
    for (; s >= s0; --s, r = 0)
      for (; r < steps.active(s); ++r) {
        if (samples.count == depth) return;
        const Index k = samples.count++;
        samples.da[k] = slots(s, r);
        samples.h[k] = h_before(s, r);
        samples.at[k] = steps.at(s, r);
        if (layer.x) samples.x[k] = layer.x + samples.at[k] * layer.I;
      }
  }

  // Columns of own slots, block by block: [block, count, U]; their sums are the biases' gradient.
  void pack_slots(const Backward<R>& b, const Samples& samples, Range own, R* packed) const {
    for (Index block = own.first; block < own.last; ++block) {
      V sum = load(b.dbias + block * U);
      for (Index k = 0; k < samples.count; ++k, packed += U) {
        const V v = load(samples.da[k] + block * U);
        store(packed, v);
        sum += v;
      }
      store(b.dbias + block * U, sum);
    }
  }

  static void pack_columns(const R* const* rows, Index count, Index column, Index width, R* packed) {
    const Index whole = columns * U, valid = width - column < whole ? width - column : whole;
    for (Index k = 0; k < count; ++k, packed += whole) {
      const R* from = rows[k] + column;
      if (valid == whole) {
        for (int j = 0; j < columns; ++j) store(packed + j * U, load(from + j * U));
      } else {
        for (Index j = 0; j < whole; ++j) packed[j] = j < valid ? from[j] : R(0);
      }
    }
  }

  // dw [G*H, N] += (slots' gradients)^T rows [count, N], for the G slots from first_slot on.
  void outer_product(const Samples& samples, const R* const* rows, Index N, Index first_slot, R* dw, Range own,
                     const R* packed, R* panel, const Rows& list) const {
    Index n = 0;
    for (Index block = own.first; block < own.last; ++block) {
      const Index u = block / S, slot = block % S;
      if (slot < first_slot || slot >= first_slot + G) continue;
      for (Index lane = 0; lane < units_in<R>(u, layer.H); ++lane, ++n) {
        list.a[n] = packed + (block - own.first) * samples.count * U + lane;
        list.c[n] = dw + (layout.weight_row(slot, u) + lane) * N;
      }
    }
    constexpr Index width = columns * U;
    for (Index q = 0; q * width < N; ++q) {
      pack_columns(rows, samples.count, q * width, N, panel);
      gemm<columns, int(U)>(list.a, list.c, n, {1, samples.count, 0},
                            Panels<R>{panel, 0, q, q + 1, width, N, nullptr});
    }
  }

  // Rows of the table that own blocks of units gather from the tokens.
  void scatter(const Backward<R>& b, const Samples& samples) const {
    const Range own = part(layout.units(), team.rank, team.size);
    for (Index k = 0; k < samples.count; ++k)
      for (Index u = own.first; u < own.last; ++u)
        for (Index g = 0; g < G; ++g) {
          R* sum = b.dtable + ((u * layer.I + layer.tokens[samples.at[k]]) * G + g) * U;
          store(sum, load(sum) + load(samples.da[k] + (u * S + L::x_slot + g) * U));
        }
  }

  void input_gradient(const Backward<R>& b, const Samples& samples, const Rows& list) const {
    const Range own = part(samples.count, team.rank, team.size);
    for (Index k = own.first; k < own.last; ++k) {
      list.a[k] = samples.da[k] + L::x_slot * U;
      list.c[k] = b.dx + samples.at[k] * layer.I;
    }
    gemm<1>(list.a + own.first, list.c + own.first, own.last - own.first, slot_runs(),
            Panels<R>{b.packed_ih, layout.units() * G * U * U, 0, (layer.I + U - 1) / U, U, layer.I, nullptr});
  }

  // After the first step has been reached: from the kernels' layout to PyTorch's.
  void unpack(const Backward<R>& b) const {
    team.wait();
    const Range own = part(layout.units(), team.rank, team.size);
    for (Index u = own.first; u < own.last; ++u) {
      if (layer.tokens) layout.unpack(b.dtable + u * layer.I * G * U, layer.I, u, b.dw_ih);
      const int count = units_in<R>(u, layer.H);
      for (Index slot = 0; slot < S; ++slot) {
        const V sum = load(b.dbias + (u * S + slot) * U);
        if (b.db_ih && slot < G) store(b.db_ih + layout.weight_row(slot, u), sum, count);
        if (b.db_hh && slot >= L::h_slot) store(b.db_hh + layout.weight_row(slot, u), sum, count);
      }
    }
  }

 public:
  static Index forward_workspace(const Layer<R>& layer) {
    return 2 * list_bytes(layer.chunk * layer.steps.B);
  }

  static void forward(const Forward<R>& f, Index s0, Index s1, const Team& team) noexcept {
    const Sequence self(f, team);
    Workspace workspace{static_cast<char*>(f.workspace) + team.rank * forward_workspace(f)};
    const Index most = f.chunk * f.steps.B;
    const Rows list{workspace.template take<const R*>(most), workspace.template take<R*>(most)};
    if (s0 == 0) self.pack(f);
    for (Index s = s0; s < s1; ++s) {
      if ((s - s0) % f.chunk == 0) self.project(f, s, s + f.chunk < s1 ? s + f.chunk : s1, list);
      self.step(f, s, list);
      self.share.hand_over(team);
    }
  }

  static Index backward_workspace(const Layer<R>& layer) {
    const Index row = L{layer.H}.row(), rows = row > depth ? row : depth, most = rows > layer.steps.B ? rows : layer.steps.B;
    return 2 * list_bytes(most) + 3 * list_bytes(depth) + depth * Index(sizeof(Index)) +
           depth * (row + columns * U) * Index(sizeof(R));
  }

  static void backward(const Backward<R>& b, Index s0, Index s1, const Team& team) noexcept {
    const Sequence self(b, team);
    Workspace workspace{static_cast<char*>(b.workspace) + team.rank * backward_workspace(b)};
    const Index row = self.layout.row(), rows = row > depth ? row : depth, most = rows > b.steps.B ? rows : b.steps.B;
    const Rows list{workspace.template take<const R*>(most), workspace.template take<R*>(most)};
    Samples samples{workspace.template take<const R*>(depth), workspace.template take<const R*>(depth),
                    workspace.template take<const R*>(depth), workspace.template take<Index>(depth), 0};
    R* packed = workspace.template take<R>(depth * row);
    R* panel = workspace.template take<R>(depth * columns * U);
    if (s1 == b.steps.count) self.pack(b);
    for (Index s = s1 - 1; s >= s0; --s) self.step_back(b, s, list);
    team.wait();
    const Range own = part(self.layout.units() * S, team.rank, team.size);
    for (Index s = s1 - 1, r = 0; s >= s0;) {
      self.take(samples, s, r, s0);
      self.pack_slots(b, samples, own, packed);
      self.outer_product(samples, samples.h, b.H, L::h_slot, b.dw_hh, own, packed, panel, list);
      if (b.x)
        self.outer_product(samples, samples.x, b.I, L::x_slot, b.dw_ih, own, packed, panel, list);
      else
        self.scatter(b, samples);
      if (b.dx) self.input_gradient(b, samples, list);
    }
    if (s0 == 0) self.unpack(b);
  }
};

}  // namespace fastrnn::FASTRNN_ISA
