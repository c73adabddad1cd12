#include "cpus.h"

#if defined(__linux__)
#include <fcntl.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <set>
#include <string>
#include <thread>

namespace fastrnn {
namespace {

#if defined(__linux__)
// What the processors on its core are called, or the processor itself where the system does not tell.
std::string core_of(std::size_t cpu) {
  const std::string path = "/sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/topology/thread_siblings_list";
  std::string siblings;
  std::ifstream(path) >> siblings;
  return siblings.empty() ? std::to_string(cpu) : siblings;
}
#endif

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

Usable usable_processors() {
#if defined(__linux__)
  if (cpu_set_t allowed; sched_getaffinity(0, sizeof allowed, &allowed) == 0) {
    std::set<std::string> cores;
    for (std::size_t cpu = 0; cpu < CPU_SETSIZE; ++cpu)
      if (CPU_ISSET(cpu, &allowed)) cores.insert(core_of(cpu));
    return {CPU_COUNT(&allowed), int(cores.size())};
  }
#endif
  const int count = std::max(1, int(std::thread::hardware_concurrency()));
  return {count, count};
}

Load load_now() {
#if defined(__linux__)
  static const int cpus = std::max(1, int(sysconf(_SC_NPROCESSORS_ONLN)));
  static const int file = open("/proc/loadavg", O_RDONLY | O_CLOEXEC);  // three means, then "runnable/all"
  char text[256] = "";
  int runnable = 1;
  if (pread(file, text, sizeof text - 1, 0) < 0 || std::sscanf(text, "%*f %*f %*f %d/", &runnable) != 1) runnable = 1;
  return {cpus, std::max(0, runnable - 1)};
#else
  return {usable_processors().processors, 0};
#endif
}

int this_thread() {
#if defined(__linux__)
  return int(syscall(SYS_gettid));
#else
  return 0;
#endif
}

bool runs([[maybe_unused]] int thread) {
#if defined(__linux__)
  char path[64], text[256] = "";  // its number, its name in brackets, its state
  std::snprintf(path, sizeof path, "/proc/self/task/%d/stat", thread);
  if (const int file = open(path, O_RDONLY | O_CLOEXEC); file >= 0) {
    if (read(file, text, sizeof text - 1) < 0) text[0] = 0;
    close(file);
  }
  const char* name_end = std::strrchr(text, ')');
  return name_end && name_end[1] == ' ' && name_end[2] == 'R';
#else
  return false;
#endif
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
