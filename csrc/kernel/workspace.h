#pragma once

#include "../fastrnn.h"

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

}  // namespace fastrnn::FASTRNN_ISA
