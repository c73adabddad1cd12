#include "many.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <span>
#include <stdexcept>
#include <utility>
#include <vector>

#include "spin.h"
#include "threads.h"

namespace fastrnn {
namespace {

constexpr double small = 2e6;  // operations: those of fewer are not worth a second thread, see threads.cpp

// Tasks that the members of a team take one after the other, while more may come.
class Queue {
  std::vector<Task*> tasks_;
  std::atomic<std::size_t> next_{0}, there_{0};
  std::atomic<bool> closed_{false}, ended_{false};
  std::exception_ptr cause_;  // of the first to end

  void end() noexcept {
    if (!ended_.exchange(true)) cause_ = std::current_exception();
  }

  // The next one; null when there is none and none will come.
  Task* take() {
    for (;;) {
      wait_until([&] { return next_ < there_ || closed_ || ended_; });
      std::size_t place = next_;
      if (ended_ || (place == there_ && closed_)) return nullptr;
      if (place < there_ && next_.compare_exchange_strong(place, place + 1)) return tasks_[place];
    }
  }

 public:
  explicit Queue(std::size_t most) : tasks_(most) {}

  void add(Task* task) {
    tasks_[there_] = task;
    ++there_;
  }
  void close() { closed_ = true; }

  // On `size` threads, the first of which calls `fill` before it takes some, too. Denormals are what they are for the
  // caller: kernels flush them by themselves.
  template <class F>
  void compute(int size, const Poll& poll, const F& fill) {
    const Poll watch = [&] {
      if (ended_) throw std::runtime_error("another model was ended");
      poll();
    };
    const auto work = [&](const Team& team) {
      try {
        if (team.rank == 0) fill();
        Patience patience(watch);
        while (Task* task = take()) {
          patience.check();
          task->compute(watch);
        }
      } catch (...) {
        end();
      }
    };
    parallel(size, work, Denormals::keep);
    if (cause_) std::rethrow_exception(cause_);
  }
};

// The largest go first, lest one is left at the end. One that would take a thread longer than its share of all that is left
// has all threads, as it has alone, and so have the last ones, where there are fewer than threads.
void compute_sorted(std::vector<Task*>& tasks, const Poll& poll) {
  std::stable_sort(tasks.begin(), tasks.end(), [](const Task* a, const Task* b) { return a->flops() > b->flops(); });
  double left = 0;
  for (const Task* each : tasks) left += each->flops();
  const int size = team_for(left, Index(tasks.size()));
  std::span<Task* const> waiting = tasks;
  const auto take = [&](std::size_t count) {
    return std::exchange(waiting, waiting.subspan(count)).first(count);
  };
  while (!waiting.empty() && size * waiting[0]->flops() > left) {
    left -= waiting[0]->flops();
    take(1)[0]->compute(poll);
  }
  const std::span<Task* const> dealt = take(waiting.size() - waiting.size() % std::size_t(size));
  Queue queue{dealt.size()};
  for (Task* each : dealt) queue.add(each);
  queue.close();
  if (!dealt.empty()) queue.compute(size, poll, [] {});
  for (Task* each : waiting) each->compute(poll);
}

}  // namespace

// To get a small one ready takes as long as a good part of its work: so others are at work on those that are there meanwhile.
void compute_all(const std::function<Task*()>& next, Index most, const Poll& poll) {
  std::vector<Task*> large;
  large.reserve(std::size_t(most));
  Task* task = next();
  const bool is_small = task && task->flops() < small;
  const int size = is_small ? team_for(task->flops() * double(most), most) : 1;
  if (size > 1) {
    Queue queue{std::size_t(most)};
    queue.compute(size, poll, [&] {
      for (; task; task = next())
        if (task->flops() < small)
          queue.add(task);
        else
          large.push_back(task);
      queue.close();
    });
  }
  for (; task; task = next()) large.push_back(task);
  compute_sorted(large, poll);
}

}  // namespace fastrnn
