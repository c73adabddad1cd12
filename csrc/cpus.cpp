#include "cpus.h"

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <unistd.h>
#if defined(__linux__)
#include <sys/syscall.h>
#endif

#include <algorithm>
#include <array>
#include <cctype>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <string>
#include <string_view>
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
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  if (openmp_stack > 0) pthread_attr_setstacksize(&attributes, openmp_stack);
  std::vector<pthread_t> started(count);
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
