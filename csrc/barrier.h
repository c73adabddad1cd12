// Where the members of a team wait for each other.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <vector>

#include "cpus.h"
#include "spin.h"

namespace fastrnn {

// Each member counts its arrivals on a cache line of its own and watches those of the others: no line is written
// by two. Members of a group watch only each other, and all members come as often.
class Barrier {
  struct alignas(128) Member {
    std::atomic<std::uint64_t> arrivals{0};
    Clock::duration late{0}, waited{0}, busy{0};  // in coming after the call began; at barriers; between, at work
  };
  std::vector<Member> members_;
  std::vector<std::atomic<int>> cpus_;  // where each came in, or -1
  const Clock::time_point start_ = Clock::now();

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

  void come(int rank) {
    members_[rank].late = Clock::now() - start_;
    cpus_[rank] = current_cpu();
    if (rank > 0) part_from_others(rank);
  }

  void wait(int rank, int first, int last) {
    Member& self = members_[rank];
    const std::uint64_t count = self.arrivals.load(std::memory_order_relaxed) + 1;
    self.arrivals.store(count, std::memory_order_release);
    for (int other = first; other < last; ++other)
      self.waited += wait_until([&] { return members_[other].arrivals.load(std::memory_order_acquire) >= count; });
  }

  void go(int rank) {
    Member& self = members_[rank];
    self.busy = Clock::now() - start_ - self.late - self.waited;
  }

  int size() const { return int(members_.size()); }
  Clock::duration late() const {  // the last one
    return std::max_element(members_.begin(), members_.end(), [](auto& a, auto& b) { return a.late < b.late; })->late;
  }
  Clock::duration busy(int rank) const { return members_[rank].busy; }
};

}  // namespace fastrnn
