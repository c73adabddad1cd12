// Denormal numbers, which cost up to a hundred cycles each.
#pragma once

#include <cstdint>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace fastrnn {

enum class Denormals { flush, keep };

// While this lives, the CPU flushes them to zero on this thread, if so told.
class FlushDenormals {
#if defined(__x86_64__)
  unsigned before_ = _mm_getcsr();

 public:
  explicit FlushDenormals(Denormals denormals) {
    if (denormals == Denormals::flush) _mm_setcsr(before_ | 0x8040);  // FTZ | DAZ
  }
  ~FlushDenormals() { _mm_setcsr(before_); }
#elif defined(__aarch64__)
  std::uint64_t before_;

 public:
  explicit FlushDenormals(Denormals denormals) {
    asm volatile("mrs %0, fpcr" : "=r"(before_));
    const bool flush = denormals == Denormals::flush;
    asm volatile("msr fpcr, %0" ::"r"(before_ | (std::uint64_t(flush) << 24)));  // FZ
  }
  ~FlushDenormals() { asm volatile("msr fpcr, %0" ::"r"(before_)); }
#else
 public:
  explicit FlushDenormals(Denormals) {}
#endif
};

}  // namespace fastrnn
