// The pool of OpenMP, which other libraries in the process may share.
#include <dlfcn.h>
#include <omp.h>
#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <cctype>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <new>
#include <string_view>
#include <utility>

#include "cpus.h"
#include "pool.h"
#include "spin.h"
#include "tally.h"

namespace fastrnn {
namespace {

#if !defined(__clang__)
// Missing in old versions of libgomp, such as the one that PyTorch 2.4 brings for the whole process: without it a forked
// child may use one thread only. A weak reference would not do: the loader refuses a library without its version, OMP_5.0.
const auto pause_resource_all =
    reinterpret_cast<int (*)(omp_pause_resource_t)>(dlsym(RTLD_DEFAULT, "omp_pause_resource_all"));
#endif

constexpr int no_limit = 1 << 20;
constexpr Clock::duration patience = std::chrono::milliseconds(3);  // for which OpenMP's threads spin, at the most

std::atomic<bool> at_work_now{false};  // a team of this process
std::atomic<int> most{no_limit};       // that the system has been found to start

// OpenMP has a pool for each thread that calls it: how many are in this one's, itself among them; another one of them,
// which wakes and sleeps as all do; and when they have worked.
thread_local int hired = 1, mate = 0;
thread_local bool met = false;  // since the pool is there
thread_local Clock::time_point worked{};

// The stack of OpenMP's threads, or 0 where nobody has said: a number, of kilobytes unless a letter tells.
std::size_t stack_size() {
  for (const char* name : {"OMP_STACKSIZE", "GOMP_STACKSIZE"}) {
    const char* text = std::getenv(name);
    unsigned long number = 0;
    char unit = 'k';
    if (!text || std::sscanf(text, "%lu %c", &number, &unit) < 1) continue;
    const std::size_t power = std::string_view("bkmg").find(char(std::tolower(unit)));
    if (power < 4) return number << 10 * power;
  }
  return 0;
}

const std::size_t openmp_stack = stack_size();  // now, as OpenMP does

// How many of `count` threads more the system would start now.
int startable(int count) {
  const std::unique_ptr<pthread_t[]> started(new (std::nothrow) pthread_t[std::size_t(count)]);
  if (!started) return 0;
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  if (openmp_stack > 0) pthread_attr_setstacksize(&attributes, openmp_stack);
  std::atomic<bool> done{false};
  const auto wait = [](void* done) -> void* {
    static_cast<std::atomic<bool>*>(done)->wait(false);
    return nullptr;
  };
  int found = 0;
  while (found < count && pthread_create(&started[found], &attributes, wait, &done) == 0) ++found;
  done = true;
  done.notify_all();
  for (int i = 0; i < found; ++i) pthread_join(started[i], nullptr);
  pthread_attr_destroy(&attributes);
  return found;
}

// OpenMP ends the process where the system refuses it a thread. So it is asked for before OpenMP does, and where not all
// can be had there are half as many as there might be: others may want some, too.
int hire(int size) {
  size = std::min({size, int(most), omp_get_thread_limit(), omp_get_max_active_levels() > 0 ? no_limit : 1});
  if (size <= hired) return size;
  const int missing = size - hired, found = startable(missing);
  if (found == missing) return size;
  count(Outcome::refused);
  return most = std::max(1, (hired + found) / 2);
}

// Calls fn(rank) on `size` threads. OpenMP ends threads where a team is smaller than the one before, and makes them again:
// unless many are too many, they stay, with nothing to do. Where it may choose, it might give fewer.
template <class F>
void on_each(int size, const F& fn) {
  const int threads = size > hired / 2 ? std::max(size, hired) : size, dynamic = omp_get_dynamic();
  int* const second = &mate;
  std::atomic<int> busy{size};
  omp_set_dynamic(0);
#pragma omp parallel num_threads(threads)
  {
    const int rank = omp_get_thread_num();
    if (rank == 1) *second = this_thread();
    if (rank < size) {
      fn(rank);
      busy.fetch_sub(1, std::memory_order_release);
    }
    // OpenMP would keep the core, which may be the one that another member waits for.
    wait_until([&] { return busy.load(std::memory_order_acquire) == 0; });
  }
  omp_set_dynamic(dynamic);
  hired = threads;
  worked = Clock::now();
}

#if !defined(__clang__)
// A forked child inherits libgomp's bookkeeping but not its threads, and would wait for them for ever. So the pool
// of the thread that forks is given up first; it comes back with the next call. (Clang's libomp sees to it itself.)
void before_fork() {
  if (!omp_in_parallel() && pause_resource_all) {
    pause_resource_all(omp_pause_hard);
    hired = 1, met = false;
  }
}
#else
void before_fork() {}
#endif

void in_child() {
  at_work_now = false;  // others are not there any more
#if !defined(__clang__)
  if (!pause_resource_all) most = 1;
#endif
}

[[maybe_unused]] const int registered = pthread_atfork(before_fork, nullptr, in_child);

}  // namespace

Workers::Workers(int size) {
  if (size == 1 || omp_in_parallel()) return;
  busy_ = at_work_now.exchange(true, std::memory_order_acquire);
  if (busy_) return;
  size_ = hire(size);
  if (size_ == 1) at_work_now.store(false, std::memory_order_release);
}

Workers::~Workers() {
  if (size_ > 1) at_work_now.store(false, std::memory_order_release);
}

void Workers::run(FunctionRef<void(int)> fn) {
  if (size_ == 1) return fn(0);
  on_each(size_, fn);
}

void Workers::wake() {
  if (size_ > 1) on_each(size_, [](int) {});
}

bool at_work() { return omp_in_parallel(); }

int awake() { return hired > 1 && Clock::now() - worked < patience ? hired - 1 : 0; }

int spinning() { return hired > 1 && runs(mate) ? hired - 1 : 0; }

bool meet() {
  if (hired > 1 || std::exchange(met, true)) return false;
  Workers(allowed_threads()).wake();
  return hired > 1;
}

int allowed_threads() { return omp_get_max_threads(); }

void forget_refusals() { most = no_limit; }

}  // namespace fastrnn
