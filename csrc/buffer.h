// Memory for the kernels: aligned to cache lines, large pieces on huge pages where the system has them.
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <initializer_list>
#include <new>

#include "fastrnn.h"

namespace fastrnn {

// The product, or std::bad_alloc where no memory could hold that many.
inline Index product(std::initializer_list<Index> factors) {
  Index n = 1;
  for (const Index factor : factors)
    if (__builtin_mul_overflow(n, factor, &n)) throw std::bad_alloc();
  return n;
}

template <class T>
class Buffer {
  T* data_ = nullptr;

 public:
  Buffer() = default;
  Buffer(std::initializer_list<Index> shape) {
    constexpr std::size_t line = 64, huge_page = std::size_t(1) << 21;
    const std::size_t bytes = product(shape) ? std::size_t(product({product(shape), Index(sizeof(T))})) : 1;
    const std::size_t alignment = bytes >= huge_page ? huge_page : line;
    const std::size_t size = (bytes + alignment - 1) / alignment * alignment;
    data_ = static_cast<T*>(std::aligned_alloc(alignment, size));
    if (!data_) throw std::bad_alloc();
#if defined(MADV_HUGEPAGE)
    if (alignment == huge_page) madvise(data_, size, MADV_HUGEPAGE);
#endif
  }
  static Buffer zeros(std::initializer_list<Index> shape) {
    Buffer buffer(shape);
    std::memset(static_cast<void*>(buffer.data_), 0, std::size_t(product(shape)) * sizeof(T));
    return buffer;
  }
  ~Buffer() { std::free(data_); }
  Buffer(Buffer&& other) noexcept : data_(other.data_) { other.data_ = nullptr; }
  Buffer& operator=(Buffer&& other) noexcept {
    std::swap(data_, other.data_);
    return *this;
  }

  operator T*() { return data_; }
  operator const T*() const { return data_; }
};

}  // namespace fastrnn
