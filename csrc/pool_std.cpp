// A pool of our own, one in the process.
#include "pool.h"

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <deque>
#include <exception>
#include <mutex>
#include <thread>

#include "cpus.h"
#include "fork.h"
#include "spin.h"
#include "tally.h"

namespace fastrnn {
namespace {

constexpr Clock::duration patience = std::chrono::milliseconds(2);  // from call to call, before a thread goes to sleep

thread_local bool working = false;

class Pool {
  using Work = FunctionRef<void(int)>;

  struct alignas(128) Worker {
    std::atomic<std::uint32_t> calls{0}, done{0};
    std::thread thread;
  };

  std::deque<Worker> workers_;   // ranks 1, 2, …
  const Work* work_ = nullptr;   // or null, to end
  int size_ = 1;                 // ranks that take part
  std::atomic<int> awake_{0}, most_{no_limit};

  // Wakes the two below a rank; they wake those below them.
  void wake_below(int rank) {
    for (int next = 2 * rank + 1; next <= 2 * rank + 2 && next < size_; ++next) workers_[next - 1].calls.notify_one();
  }

  void wait_for_all(int size) const {
    for (int i = 0; i < size - 1; ++i) {
      const std::uint32_t calls = workers_[i].calls.load(std::memory_order_relaxed);
      wait_until([&] { return workers_[i].done.load(std::memory_order_acquire) == calls; });
    }
  }

  void serve(Worker& self, int rank) {
    working = true;
    ++awake_;
    for (std::uint32_t call = 0;; self.done.store(call, std::memory_order_release)) {
      const auto called = [&] { return self.calls.load(std::memory_order_acquire) != call; };
      wait_until(called, patience);
      if (!called()) {
        --awake_;
        self.calls.wait(call, std::memory_order_acquire);
        ++awake_;
      }
      ++call;
      wake_below(rank);
      if (!work_) break;
      (*work_)(rank);
    }
    --awake_;
  }

  void end_last() {
    Worker& last = workers_.back();
    wait_for_all(int(workers_.size()) + 1);
    work_ = nullptr, size_ = 1;
    ++last.calls;
    last.calls.notify_one();
    last.thread.join();
    workers_.pop_back();
  }

 public:
  static constexpr int no_limit = 1 << 20;

  std::mutex mutex;  // of whoever has the workers

  int awake() const { return awake_; }
  void limit(int most) { most_ = most; }

  // Where not all can be had there are half as many as there might be: others may want some, too.
  int hire(int size) {
    size = std::min<int>(size, most_);
    while (int(workers_.size()) + 1 < size) {
      const int rank = int(workers_.size()) + 1;
      try {
        Worker& worker = workers_.emplace_back();
        worker.thread = std::thread([this, &worker, rank] { serve(worker, rank); });
      } catch (const std::exception&) {
        if (int(workers_.size()) == rank) workers_.pop_back();
        count(Outcome::refused);
        most_ = size = (rank + 1) / 2;
        while (int(workers_.size()) + 1 > size) end_last();
      }
    }
    return size;
  }

  // Ranks 1 … size - 1 begin with fn; it has to last until they have done it.
  void start(int size, const Work& fn) {
    wait_for_all(std::max(size, size_));  // who has only been woken up
    work_ = &fn, size_ = size;
    for (int i = 0; i < size - 1; ++i) workers_[i].calls.fetch_add(1, std::memory_order_release);
    wake_below(0);
  }

  void run(int size, const Work& fn) {
    start(size, fn);
    working = true;
    fn(0);
    working = false;
    wait_for_all(size);
  }
};

// Never destroyed, as threads sleep in it. A forked child has none of them, and makes a pool of its own.
std::atomic<Pool*> the_pool{nullptr};

Pool& pool() {
  if (Pool* made = the_pool) return *made;
  Pool *mine = new Pool, *other = nullptr;
  if (the_pool.compare_exchange_strong(other, mine)) return *mine;
  delete mine;
  return *other;
}

[[maybe_unused]] const int registered = at_fork(nullptr, nullptr, [] { the_pool = nullptr; });

}  // namespace

Workers::Workers(int size) {
  if (size == 1 || working) return;
  busy_ = !pool().mutex.try_lock();
  if (busy_) return;
  size_ = pool().hire(size);
  if (size_ == 1) pool().mutex.unlock();
}

Workers::~Workers() {
  if (size_ > 1) pool().mutex.unlock();
}

void Workers::run(FunctionRef<void(int)> fn) {
  if (size_ > 1) return pool().run(size_, fn);
  fn(0);
}

void Workers::wake() {
  static constexpr auto nothing = [](int) {};
  static const FunctionRef<void(int)> work(nothing);
  if (size_ > 1) pool().start(size_, work);
}

bool at_work() { return working; }

int awake() { return pool().awake(); }

int spinning() { return awake(); }

bool meet() { return false; }

// As OpenMP's programs and many others are told: a number, or several for levels of nesting.
int allowed_threads() {
  static const int told = [] {
    const char* text = std::getenv("OMP_NUM_THREADS");
    return text ? std::atoi(text) : 0;
  }();
  return told > 0 ? told : usable_processors().processors;
}

void forget_refusals() { pool().limit(Pool::no_limit); }

}  // namespace fastrnn
