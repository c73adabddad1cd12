// Memory for the kernels: aligned to cache lines, large pieces on huge pages where the system has them.
#pragma once

#include <cstddef>
#include <cstring>
#include <initializer_list>
#include <new>
#include <utility>

#include "fastrnn.h"
#include "memory.h"

namespace fastrnn {

// The product, or std::bad_alloc where no memory, which may be one of 32 bits, could hold that many.
inline Index product(std::initializer_list<Index> factors) {
  std::ptrdiff_t n = 1;
  for (const Index factor : factors)
    if (__builtin_mul_overflow(n, factor, &n)) throw std::bad_alloc();
  return n;
}
inline Index sum(std::initializer_list<Index> terms) {  // likewise
  std::ptrdiff_t n = 0;
  for (const Index term : terms)
    if (__builtin_add_overflow(n, term, &n)) throw std::bad_alloc();
  return n;
}

template <class T>
class Buffer {
  std::size_t bytes_ = 0;
  T* data_ = nullptr;

 public:
  Buffer() = default;
  Buffer(std::initializer_list<Index> shape)
      : bytes_(product(shape) ? std::size_t(product({product(shape), Index(sizeof(T))})) : 1),
        data_(static_cast<T*>(take_memory(bytes_))) {}
  static Buffer zeros(std::initializer_list<Index> shape) {
    Buffer buffer(shape);
    std::memset(static_cast<void*>(buffer.data_), 0, std::size_t(product(shape)) * sizeof(T));
    return buffer;
  }
  ~Buffer() { give_memory(data_, bytes_); }
  Buffer(Buffer&& other) noexcept { swap(other); }
  Buffer& operator=(Buffer&& other) noexcept {
    swap(other);
    return *this;
  }
  void swap(Buffer& other) noexcept {
    std::swap(bytes_, other.bytes_);
    std::swap(data_, other.data_);
  }

  operator T*() { return data_; }
  operator const T*() const { return data_; }
};

}  // namespace fastrnn
