#pragma once

#include "share.h"

namespace fastrnn::FASTRNN_ISA {

// Memory of one member, handed out in whole cache lines. Taken from address 0, the pieces tell how much it is.
class Workspace {
  std::uintptr_t next_;

 public:
  explicit Workspace(void* start = nullptr, Index offset = 0) : next_(std::uintptr_t(start) + offset) {}

  template <class T>
  T* take(Index n) {
    T* piece = reinterpret_cast<T*>(next_);
    next_ += (n * sizeof(T) + 63) / 64 * 64;
    return piece;
  }
  Index taken() const { return Index(next_); }
};

// A workspace for the members of a team: what is packed for all of them, each a part of it, and what each has for itself. Two
// members pack for themselves, as they would wait longer for each other.
struct TeamWorkspace {
  Index packed, own;  // bytes

  // Calls pack(some) for the rows that a member packs.
  template <class F>
  static void fill(const Team& team, Index rows, const F& pack) {
    if (!shared(team)) return pack(Range{0, rows});
    team.wait();  // until nobody reads those before
    pack(part(rows, team.rank, team.size));
    team.wait();
  }

  Index all(Index members) const { return start(members); }
  Workspace packed_of(void* memory, const Team& team) const {
    return Workspace(memory, shared(team) || team.rank == 0 ? 0 : packed + own);
  }
  Workspace own_of(void* memory, const Team& team) const { return Workspace(memory, start(team.rank)); }

 private:
  static bool shared(const Team& team) { return team.size > 2; }
  Index start(Index rank) const { return (rank == 0 ? packed : 2 * packed) + rank * own; }
};

}  // namespace fastrnn::FASTRNN_ISA
