#include "threads.h"

#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <exception>

#if defined(_OPENMP)
#include <omp.h>
#if !defined(__clang__)
#define FASTRNN_LIBGOMP 1
#endif
// Missing in old versions of libgomp: without it a forked child may use one thread only.
extern "C" int omp_pause_resource_all(omp_pause_resource_t) __attribute__((weak));
#endif

#include "barrier.h"
#include "cpus.h"
#include "lessons.h"

namespace fastrnn {
namespace {

constexpr int most_threads = 1024;  // see config.py

std::atomic<int> threads_set{0};
std::atomic<int> most_given{most_threads};  // that the system has been found to start
std::atomic<bool> one_thread_only{false};
std::atomic<bool> always_teams{false};
std::atomic<std::int64_t> alone{0};

#if defined(_OPENMP)
// Threads that OpenMP has for this one, itself among them; and another one of them, which wakes and sleeps as all do.
thread_local int pool = 1, mate = 0;

// OpenMP ends the process where the system refuses it a thread. So it is asked for before OpenMP does, and where not all
// can be had the team is half as large as it might be: others may want some, too.
int given(int size) {
  if (size > pool) {
    const int missing = size - pool, found = startable_threads(missing);
    if (found < missing) most_given = size = std::max(1, (pool + found) / 2);
  }
  return size;
}
#endif

#if defined(FASTRNN_LIBGOMP)
// A forked child inherits libgomp's bookkeeping but not its threads, and would wait for them for ever. So the pool
// of the thread that forks is given up first; it comes back with the next call. (Clang's libomp sees to it itself.)
void before_fork() {
  if (!omp_in_parallel() && omp_pause_resource_all) {
    omp_pause_resource_all(omp_pause_hard);
    pool = 1;
  }
}

void in_child() {
  if (!omp_pause_resource_all) one_thread_only = true;
}

[[maybe_unused]] const int registered = pthread_atfork(before_fork, nullptr, in_child);
#endif

}  // namespace

void Team::wait() const {
  if (size > 1) barrier->wait(rank, size);
}

int max_threads() {
  if (one_thread_only) return 1;
#if defined(_OPENMP)
  if (omp_in_parallel()) return 1;
#endif
  if (const int set = threads_set) return std::min<int>(set, most_given);
#if defined(_OPENMP)
  static const int limit = cpu_quota();
  return std::max(1, std::min({omp_get_max_threads(), limit, int(most_given)}));
#else
  return 1;
#endif
}

int team_for(double flops) { return flops < 4e6 ? 1 : max_threads(); }

void set_threads(int count) {
  threads_set = count;
  most_given = most_threads;
}

void insist_on_teams(bool insist) { always_teams = insist; }

std::int64_t times_alone() { return alone; }

int openmp_version() {
#if defined(_OPENMP)
  return _OPENMP;
#else
  return 0;
#endif
}

#if defined(_OPENMP)
namespace {

std::atomic<Clock::rep> team_ended{0};

// Another library's pool that spins on after a call, or another program, takes turns of milliseconds with a member, while
// all the others wait for it. So cores that others have are left to them. A look takes some microseconds, and what it sees
// may be gone in a moment, as who has just handed work over: so the next one follows soon, and a team that is at work, and
// looks more rarely, does not break up for the first.
std::atomic<Clock::rep> looked{0};
std::atomic<int> seen{0};   // looks in a row that found others
std::atomic<int> taken{0};  // cores, by others

bool recently(Clock::rep time, Clock::rep now, Clock::duration period) { return now - time < period.count(); }

// How many of the cores that `size` threads need others have now.
int look(int size) {
  const Load load = load_now();
  const int left_over = std::max(0, load.cpus - size);
  int others = load.others;
  if (others > left_over && pool > 1 && runs(mate)) others -= pool - 1;  // who spin, too, after a call
  return std::max(0, others - left_over);
}

// How many of `size` threads could have a core each.
int that_can_run(int size) {
  using namespace std::chrono_literals;
  const Clock::time_point start = Clock::now();
  const Clock::rep now = start.time_since_epoch().count();
  if (better_alone(start)) return 1;
  const bool at_work = seen == 0 && recently(team_ended, now, 3ms);
  if (!recently(looked, now, seen == 1 ? 100us : at_work ? 4ms : 1ms)) {
    int found = look(size);
    if (found && seen == 0 && !at_work) {
      sched_yield();  // who has just handed work over may be waiting for this very core, to go to sleep
      found = look(size);
    }
    seen = found ? std::min(seen + 1, 2) : 0;
    taken = at_work ? 0 : found;
    looked = now;
  }
  return std::max(1, size - taken);
}

// Of `size` threads, those to work with now.
int team_now(int size) {
  if (size == 1) return 1;
  const int now = given(always_teams ? size : that_can_run(size));
  alone += now == 1;
  return now;
}

}  // namespace
#endif

void parallel(int size, const std::function<void(const Team&)>& fn, Denormals denormals) {
#if defined(_OPENMP)
  size = team_now(size);
  if (size > 1) {
    using namespace std::chrono_literals;
    Barrier barrier(size);
    int* const second = &mate;
    const auto start = Clock::now();
#pragma omp parallel num_threads(size)
    {
      const FlushDenormals flush(denormals);
      const Team team{omp_get_thread_num(), omp_get_num_threads(), &barrier};
      barrier.come(team.rank, start);
      if (team.rank == 1) *second = this_thread();
      fn(team);
      team.wait();  // OpenMP would keep the core, which may be the one that another member waits for
    }
    const auto end = Clock::now();
    const bool asleep = !recently(team_ended, start.time_since_epoch().count(), 3ms);
    team_ended = end.time_since_epoch().count();
    pool = size;
    const Clock::duration waited = barrier.waited(0), to_wake_up = asleep ? 300us : 0us;
    const Clock::duration excused = std::min({waited, barrier.latest(), to_wake_up});
    return learn(size, end - start - excused, waited - excused, asleep);
  }
#endif
  const FlushDenormals flush(denormals);
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
  if (max_threads() > 1 && team_now(2) == 2) {
    pool = 2;
#pragma omp parallel for num_threads(2) schedule(static, 1)
    for (int which = 0; which < 2; ++which) run(which);
  } else
#endif
    for (int which = 0; which < 2; ++which) run(which);
  for (const std::exception_ptr& error : errors)
    if (error) std::rethrow_exception(error);
}

}  // namespace fastrnn
