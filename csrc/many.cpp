#include "many.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <span>
#include <stdexcept>

#include "threads.h"

namespace fastrnn {
namespace {

// Threads take one after the other, and none of them waits for another one but at the end.
void deal(std::span<Task* const> tasks, int size, const Poll& poll) {
  std::atomic<std::size_t> next{0};
  std::atomic<bool> ended{false};
  std::exception_ptr cause;  // of the first to end
  const Poll watch = [&] {
    if (ended) throw std::runtime_error("another model was ended");
    poll();
  };
  // Denormals are what they are for a caller: kernels flush them by themselves.
  const auto work = [&](const Team&) {
    Patience patience(watch);
    try {
      for (std::size_t i; (i = next++) < tasks.size();) {
        patience.check();
        tasks[i]->compute(watch);
      }
    } catch (...) {
      next = tasks.size();
      if (!ended.exchange(true)) cause = std::current_exception();
    }
  };
  parallel(size, work, Denormals::keep);
  if (cause) std::rethrow_exception(cause);
}

}  // namespace

// The largest go first, lest one is left at the end. One that would take a thread longer than its share of all that is left
// has all threads, as it has alone, and so have the last ones, where there are fewer than threads.
void compute_all(std::vector<Task*> tasks, const Poll& poll) {
  std::stable_sort(tasks.begin(), tasks.end(), [](const Task* a, const Task* b) { return a->flops() > b->flops(); });
  double left = 0;
  for (const Task* each : tasks) left += each->flops();
  const int size = team_for(left, Index(tasks.size()));
  std::span<Task* const> waiting = tasks;
  const auto alone = [&](std::size_t count) {
    for (Task* each : waiting.first(count)) {
      left -= each->flops();
      each->compute(poll);
    }
    waiting = waiting.subspan(count);
  };
  while (!waiting.empty() && size * waiting[0]->flops() > left) alone(1);
  const std::size_t rounds = waiting.size() / std::size_t(size) * std::size_t(size);
  if (rounds > 0) deal(waiting.first(rounds), size, poll);
  waiting = waiting.subspan(rounds);
  alone(waiting.size());
}

}  // namespace fastrnn
