#include "threads.h"

#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <exception>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#if defined(_OPENMP)
#include <omp.h>
#if !defined(__clang__)
#define FASTRNN_LIBGOMP 1
#endif
// Missing in old versions of libgomp: without it a forked child may use one thread only.
extern "C" int omp_pause_resource_all(omp_pause_resource_t) __attribute__((weak));
#endif
#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace fastrnn {
namespace {

std::atomic<int> threads_set{0};
std::atomic<bool> one_thread_only{false};

// CPUs' worth of time that the control group grants, rounded up; a large number without a limit.
int quota() {
  constexpr int none = 1 << 20;
  double limit = -1, period = 0;
  std::string first;
  if (std::ifstream file("/sys/fs/cgroup/cpu.max"); file >> first >> period) {
    if (first != "max") limit = std::stod(first);
  } else if (std::ifstream v1("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"); v1 >> limit) {
    std::ifstream("/sys/fs/cgroup/cpu/cpu.cfs_period_us") >> period;
  }
  return limit > 0 && period > 0 ? std::max(1, int(std::ceil(limit / period))) : none;
}

// Sets the CPU to flush denormals, which cost up to a hundred cycles each, and back again.
class FlushDenormals {
#if defined(__x86_64__)
  unsigned before_ = _mm_getcsr();

 public:
  FlushDenormals() { _mm_setcsr(before_ | 0x8040); }  // FTZ | DAZ
  ~FlushDenormals() { _mm_setcsr(before_); }
#elif defined(__aarch64__)
  std::uint64_t before_;

 public:
  FlushDenormals() {
    asm volatile("mrs %0, fpcr" : "=r"(before_));
    asm volatile("msr fpcr, %0" ::"r"(before_ | (std::uint64_t(1) << 24)));  // FZ
  }
  ~FlushDenormals() { asm volatile("msr fpcr, %0" ::"r"(before_)); }
#endif
};

void pause() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

#if defined(FASTRNN_LIBGOMP)
// A forked child inherits libgomp's bookkeeping but not its threads, and would wait for them for ever. So the pool
// of the thread that forks is given up first; it comes back with the next call. (Clang's libomp sees to it itself.)
void before_fork() {
  if (!omp_in_parallel() && omp_pause_resource_all) omp_pause_resource_all(omp_pause_hard);
}

void in_child() {
  if (!omp_pause_resource_all) one_thread_only = true;
}

[[maybe_unused]] const int registered = pthread_atfork(before_fork, nullptr, in_child);
#endif

}  // namespace

using Clock = std::chrono::steady_clock;

// Each member counts its arrivals on a cache line of its own and watches those of the others: no line is written
// by two. Waiting is bounded in time, since on a busy machine the others may not be running at all.
class Barrier {
  struct alignas(128) Member {
    std::atomic<std::uint64_t> arrivals{0};
    std::atomic<int> cpu{-1};  // where it came in
    Clock::duration waited{0}, late{0};  // at barriers; in coming here after the call began
  };
  std::vector<Member> members_;

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
  // it there for milliseconds. Such a member goes to one where none of the others is, and may then be moved as before.
  void part_from_others([[maybe_unused]] int rank) const {
#if defined(__linux__)
    const auto taken = [&](int other) { return members_[other].cpu.load(std::memory_order_relaxed); };
    bool together = false;
    for (int other = 0; other < rank; ++other) together |= taken(other) == taken(rank);
    cpu_set_t allowed;
    if (!together || sched_getaffinity(0, sizeof allowed, &allowed) != 0) return;
    cpu_set_t free = allowed;
    for (std::size_t other = 0; other < members_.size(); ++other)
      if (const int cpu = taken(int(other)); cpu >= 0) CPU_CLR(cpu, &free);
    if (CPU_COUNT(&free) == 0 || sched_setaffinity(0, sizeof free, &free) != 0) return;
    sched_setaffinity(0, sizeof allowed, &allowed);
#endif
  }

  void note_cpu([[maybe_unused]] int rank) {
#if defined(__linux__)
    members_[rank].cpu = sched_getcpu();
#endif
  }

 public:
  explicit Barrier(int size) : members_(size) { note_cpu(0); }  // before a member that wakes up may take its place

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
    note_cpu(rank);
    if (rank > 0) part_from_others(rank);
  }

  Clock::duration waited(int rank) const { return members_[rank].waited; }
  Clock::duration latest() const {
    Clock::duration latest{0};
    for (const Member& member : members_) latest = std::max(latest, member.late);
    return latest;
  }
};

void Team::wait() const {
  if (size > 1) barrier->wait(rank, size);
}

int max_threads() {
  if (one_thread_only) return 1;
#if defined(_OPENMP)
  if (omp_in_parallel()) return 1;
#endif
  if (const int set = threads_set) return set;
#if defined(_OPENMP)
  static const int limit = quota();
  return std::max(1, std::min(omp_get_max_threads(), limit));
#else
  return 1;
#endif
}

int team_for(double flops) { return flops < 4e6 ? 1 : max_threads(); }

void set_threads(int count) { threads_set = count; }

int openmp_version() {
#if defined(_OPENMP)
  return _OPENMP;
#else
  return 0;
#endif
}

#if defined(_OPENMP)
namespace {

// A team whose members have to wait for a core is slower than one thread, up to a hundred times. When that shows,
// one thread works alone for twice as long as was lost, since most disturbances are over by then, and for twice as long
// again each time that it happens once more soon after, up to 32 times as long or 100 ms: to try costs little then.
// Where members may be asleep, until they have woken up does not count: being alone would only put them to sleep again.
// For the same reason, what was lost after a sleep is forgiven until it happens in the next call too.
std::atomic<Clock::rep> alone_until{0};
std::atomic<Clock::rep> forgiven{0};
std::atomic<int> failures{0};
std::atomic<Clock::rep> soon_until{0};
std::atomic<Clock::rep> team_ended{0};

void learn(int size, Clock::duration total, Clock::duration waited, bool asleep) {
  Clock::duration lost = waited - (size - 1) * (total - waited);  // against one thread doing everything
  const auto now = Clock::now();
  if (lost < std::chrono::microseconds(50)) {
    forgiven = 0;
    if (now.time_since_epoch().count() > soon_until) failures = 0;
    return;
  }
  if (asleep && forgiven == 0) {
    forgiven = lost.count();
    return;
  }
  lost += Clock::duration(forgiven.exchange(0));
  const Clock::duration pause = lost * (2 << std::min(failures++, 4));
  const auto end = now + std::min<Clock::duration>(pause, std::chrono::milliseconds(100));
  alone_until = end.time_since_epoch().count();
  soon_until = (end + std::chrono::milliseconds(100)).time_since_epoch().count();
}

bool better_alone() { return Clock::now().time_since_epoch().count() < alone_until; }

}  // namespace
#endif

void parallel(int size, const std::function<void(const Team&)>& fn) {
#if defined(_OPENMP)
  if (size > 1 && !better_alone()) {
    using namespace std::chrono_literals;
    Barrier barrier(size);
    const auto start = Clock::now();
#pragma omp parallel num_threads(size)
    {
      const FlushDenormals flush;
      const Team team{omp_get_thread_num(), omp_get_num_threads(), &barrier};
      barrier.come(team.rank, start);
      fn(team);
      team.wait();  // OpenMP would keep the core, which may be the one that another member waits for
    }
    const auto end = Clock::now();
    const bool asleep = start.time_since_epoch().count() - team_ended > Clock::duration(3ms).count();
    team_ended = end.time_since_epoch().count();
    const Clock::duration waited = barrier.waited(0), to_wake_up = asleep ? 300us : 0us;
    const Clock::duration excused = std::min({waited, barrier.latest(), to_wake_up});
    return learn(size, end - start - excused, waited - excused, asleep);
  }
#endif
  const FlushDenormals flush;
  fn(Team{});
}

void together(const std::function<void()>& first, const std::function<void()>& second) {
  std::exception_ptr errors[2];
  const auto run = [&](int which) noexcept {
    try {
      (which == 0 ? first : second)();
    } catch (...) {
      errors[which] = std::current_exception();
    }
  };
#if defined(_OPENMP)
  if (max_threads() > 1 && !better_alone()) {
#pragma omp parallel for num_threads(2) schedule(static, 1)
    for (int which = 0; which < 2; ++which) run(which);
  } else
#endif
    for (int which = 0; which < 2; ++which) run(which);
  for (const std::exception_ptr& error : errors)
    if (error) std::rethrow_exception(error);
}

}  // namespace fastrnn
