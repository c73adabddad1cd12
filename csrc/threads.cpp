#include "threads.h"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <exception>
#include <new>
#include <optional>
#include <utility>

#include "barrier.h"
#include "cpus.h"
#include "crowd.h"
#include "lessons.h"
#include "pool.h"
#include "tally.h"

namespace fastrnn {
namespace {

constexpr int most_threads = 1024;  // see config.py

std::atomic<int> threads_set{0};
std::atomic<bool> always_teams{false};
thread_local bool alone = false;

// Nobody has said how many: one for each core.
const bool unasked = std::getenv("OMP_NUM_THREADS") == nullptr;

int automatic_threads() {
  static const int cores = usable_processors().cores, quota = cpu_quota();
  return std::min({allowed_threads(), unasked ? cores : most_threads, quota, most_threads});
}

// Waking a thread takes longer than a small call. So it is done beside such calls, once they have come one after the other
// and had so many operations that it would have paid.
constexpr double worth = 2e6, worth_waking = 1.5e7;  // operations for each thread that joins, awake or asleep
std::atomic<double> missed{0};
std::atomic<Clock::rep> missed_at{0};

// Of `size` threads, those to work with now.
int team_now(int size) {
  if (size == 1 || always_teams) return size;
  if (better_alone()) {
    count(Outcome::lost);
    return 1;
  }
  const int now = that_can_run(size);
  if (now == 1) count(Outcome::others);
  return now;
}

// Whether there was memory for what it makes.
bool have_memory(FunctionRef<void()> make) {
  try {
    make();
    return true;
  } catch (const std::bad_alloc&) {
    return false;
  }
}

void wake_later(int size, double flops) {
  const Clock::rep now = Clock::now().time_since_epoch().count(), before = missed_at.exchange(now);
  const bool in_a_row = now - before < Clock::duration(std::chrono::milliseconds(1)).count();
  missed = in_a_row ? missed + flops : flops;
  if (missed < worth_waking) return;
  missed = 0;
  Workers(team_now(size)).wake();
}

}  // namespace

void Team::wait() const {
  if (size > 1) barrier->wait(rank, 0, size);
}

void Team::wait(Index first, Index last) const { barrier->wait(rank, int(first), int(last)); }

int max_threads() {
  if (alone || at_work()) return 1;
  const int set = threads_set;
  return set ? set : automatic_threads();
}

int team_for(double flops, Index parts) {
  const int most = int(std::clamp<Index>(parts, 1, max_threads()));
  const auto joined_by = [&](double each) { return 1 + int(std::min(flops / each, double(most - 1))); };
  const int wanted = joined_by(worth);
  if (always_teams) return wanted;
  const int team = wanted == 1 ? 1 : std::max(joined_by(worth_waking), std::min(wanted, 1 + awake()));
  if (most > 1 && team == 1) count(Outcome::small);
  if (team < wanted) wake_later(wanted, flops);
  return team;
}

int openmp_version() {
#if defined(_OPENMP)
  return _OPENMP;
#else
  return 0;
#endif
}

int set_threads(int count) {
  forget_refusals();
  return threads_set.exchange(count);
}

bool work_alone(bool now) { return std::exchange(alone, now); }

void insist_on_teams(bool insist) { always_teams = insist; }

void parallel(int size, FunctionRef<void(const Team&)> fn, Denormals denormals) {
  Workers workers(team_now(size));
  if (workers.busy()) count(Outcome::busy);
  std::optional<Barrier> barrier;
  if (workers.size() == 1 || !have_memory([&] { barrier.emplace(workers.size()); })) {
    const FlushDenormals flush(denormals);
    return fn(Team{});
  }
  count(Outcome::team);
  const bool asleep = awake() < workers.size() - 1;
  const auto start = Clock::now();
  workers.run([&](int rank) {
    const FlushDenormals flush(denormals);
    barrier->come(rank);
    fn(Team{rank, workers.size(), &*barrier});
    barrier->go(rank);
  });
  learn(*barrier, start, asleep);
}

void together(FunctionRef<void()> first, FunctionRef<void()> second) {
  std::exception_ptr errors[2];
  const auto run = [&](int which) noexcept {
    try {
      (which == 0 ? first : second)();
    } catch (...) {
      errors[which] = std::current_exception();
    }
  };
  Workers workers(team_now(std::min(max_threads(), 2)));
  workers.run(run);
  if (workers.size() == 1) run(1);
  for (const std::exception_ptr& error : errors)
    if (error) std::rethrow_exception(error);
}

}  // namespace fastrnn
