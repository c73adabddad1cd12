// How a thread waits for another one that should be there in a moment, and on a busy machine may not even be running.
#pragma once

#include <chrono>
#include <thread>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace fastrnn {

using Clock = std::chrono::steady_clock;

inline void pause_briefly() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Until there() is true, or for `most`. How long that was, where it was long enough to ask the clock.
template <class F>
Clock::duration wait_until(const F& there, Clock::duration most = Clock::duration::max()) {
  using std::chrono::microseconds;
  for (int polls = 0; polls < 8; ++polls) {
    if (there()) return {};
    pause_briefly();
  }
  const auto start = Clock::now();
  Clock::duration waited{0};
  while (!there() && waited < most) {
    if (waited < microseconds(2))
      pause_briefly();
    else if (waited < microseconds(2000))
      std::this_thread::yield();
    else
      std::this_thread::sleep_for(microseconds(50));
    waited = Clock::now() - start;
  }
  return waited;
}

}  // namespace fastrnn
