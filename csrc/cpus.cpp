#include "cpus.h"

#include <fcntl.h>
#include <sched.h>
#include <unistd.h>
#if defined(__linux__)
#include <sys/syscall.h>
#endif

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

namespace fastrnn {
namespace {

using Text = std::array<char, 256>;

// The start of a small file, or nothing.
Text read_text(const char* path) {
  Text text{};
  if (const int file = open(path, O_RDONLY | O_CLOEXEC); file >= 0) {
    const ssize_t size = read(file, text.data(), text.size() - 1);
    text[std::size_t(std::max<ssize_t>(size, 0))] = 0;
    close(file);
  }
  return text;
}

}  // namespace

int cpu_quota() {
  double limit = -1, period = 0;
  std::string first;
  if (std::ifstream file("/sys/fs/cgroup/cpu.max"); file >> first >> period) {
    limit = std::strtod(first.c_str(), nullptr);  // "max" is no number
  } else if (std::ifstream v1("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"); v1 >> limit) {
    std::ifstream("/sys/fs/cgroup/cpu/cpu.cfs_period_us") >> period;
  }
  return limit > 0 && period > 0 ? std::max(1, int(std::ceil(limit / period))) : 1 << 20;
}

Load load_now() {
  static const int cpus = std::max(1, int(sysconf(_SC_NPROCESSORS_ONLN)));
  int runnable = 1;
  const Text text = read_text("/proc/loadavg");  // three means, then "runnable/all"
  if (std::sscanf(text.data(), "%*f %*f %*f %d/", &runnable) != 1) runnable = 1;
  return {cpus, std::max(0, runnable - 1)};
}

int this_thread() {
#if defined(__linux__)
  return int(syscall(SYS_gettid));
#else
  return 0;
#endif
}

bool runs(int thread) {
  char path[64];
  std::snprintf(path, sizeof path, "/proc/self/task/%d/stat", thread);
  const Text text = read_text(path);  // its number, its name in brackets, its state
  const char* name_end = std::strrchr(text.data(), ')');
  return name_end && name_end[1] == ' ' && name_end[2] == 'R';
}

int startable_threads(int count) {
  std::vector<std::thread> started;
  std::atomic<bool> done{false};
  try {
    started.reserve(count);
    while (int(started.size()) < count) started.emplace_back([&] { done.wait(false); });
  } catch (const std::system_error&) {
  }
  done = true;
  done.notify_all();
  for (std::thread& thread : started) thread.join();
  return int(started.size());
}

int current_cpu() {
#if defined(__linux__)
  return sched_getcpu();
#else
  return -1;
#endif
}

void leave_cpus([[maybe_unused]] const std::atomic<int>* taken, [[maybe_unused]] int count) noexcept {
#if defined(__linux__)
  cpu_set_t allowed, now;
  if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) return;
  cpu_set_t free = allowed;
  for (int i = 0; i < count; ++i)
    if (const int cpu = taken[i].load(std::memory_order_relaxed); cpu >= 0) CPU_CLR(cpu, &free);
  if (CPU_COUNT(&free) == 0 || sched_setaffinity(0, sizeof free, &free) != 0) return;
  // Somebody else may have chosen other processors meanwhile, or have taken some away.
  if (sched_getaffinity(0, sizeof now, &now) != 0 || !CPU_EQUAL(&now, &free)) return;
  if (sched_setaffinity(0, sizeof allowed, &allowed) == 0) return;
  for (std::size_t cpu = 0; cpu < CPU_SETSIZE; ++cpu) CPU_SET(cpu, &allowed);
  sched_setaffinity(0, sizeof allowed, &allowed);
#endif
}

}  // namespace fastrnn
