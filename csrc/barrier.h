// Where the members of a team wait for each other.
#pragma once

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <thread>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "cpus.h"
#include "fastrnn.h"

namespace fastrnn {

using Clock = std::chrono::steady_clock;

// Each member counts its arrivals on a cache line of its own and watches those of the others: no line is written
// by two. Waiting is bounded in time, since on a busy machine the others may not be running at all.
class Barrier {
  struct alignas(128) Member {
    std::atomic<std::uint64_t> arrivals{0};
    Clock::duration waited{0}, late{0};  // at barriers; in coming here after the call began
  };
  std::vector<Member> members_;
  std::vector<std::atomic<int>> cpus_;  // where each came in, or -1

  static void pause() {
#if defined(__x86_64__)
    _mm_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
  }

  static bool arrived(const Member& other, std::uint64_t count) {
    return other.arrivals.load(std::memory_order_acquire) >= count;
  }

  static Clock::duration wait_long(const Member& other, std::uint64_t count) {
    using std::chrono::microseconds;
    const auto start = Clock::now();
    Clock::duration waited{0};
    while (!arrived(other, count)) {
      if (waited < microseconds(2))
        pause();
      else if (waited < microseconds(1000))
        sched_yield();
      else
        std::this_thread::sleep_for(microseconds(50));
      waited = Clock::now() - start;
    }
    return waited;
  }

  // Virtual machines let a thread wake up on the core that its waker is busy on, while an idle one is asleep, and leave
  // it there for milliseconds. Such a member goes to one where none of the others is.
  void part_from_others(int rank) const {
    const auto cpu = [&](int other) { return cpus_[other].load(std::memory_order_relaxed); };
    bool together = false;
    for (int other = 0; other < rank; ++other) together |= cpu(other) >= 0 && cpu(other) == cpu(rank);
    if (together) leave_cpus(cpus_.data(), int(cpus_.size()));
  }

 public:
  explicit Barrier(int size) : members_(size), cpus_(size) {
    for (std::atomic<int>& cpu : cpus_) cpu = -1;
    cpus_[0] = current_cpu();  // before a member that wakes up may take its place
  }

  void wait(int rank, int size) {
    Member& self = members_[rank];
    const std::uint64_t count = self.arrivals.load(std::memory_order_relaxed) + 1;
    self.arrivals.store(count, std::memory_order_release);
    for (int other = 0; other < size; ++other) {
      for (int polls = 0; polls < 8 && !arrived(members_[other], count); ++polls) pause();
      if (!arrived(members_[other], count)) self.waited += wait_long(members_[other], count);
    }
  }

  void come(int rank, Clock::time_point start) {
    members_[rank].late = Clock::now() - start;
    cpus_[rank] = current_cpu();
    if (rank > 0) part_from_others(rank);
  }

  Clock::duration waited(int rank) const { return members_[rank].waited; }
  Clock::duration latest() const {
    Clock::duration latest{0};
    for (const Member& member : members_) latest = std::max(latest, member.late);
    return latest;
  }
};

}  // namespace fastrnn
