// What the system tells of its processors, and what it is told.
#pragma once

#include <atomic>

namespace fastrnn {

// CPUs' worth of time that the control group grants, rounded up; a large number without a limit.
int cpu_quota();

// Processors that this process may use, and how many cores they are: two may stand for one.
struct Usable {
  int processors, cores;
};
Usable usable_processors();

// Processors of the whole system, and how many threads of it run on one or wait for one now, this one not among them.
// Where the system does not tell, none seem to.
struct Load {
  int cpus, others;
};
Load load_now();

// A name of this thread for `runs`, which says whether one of the process's threads runs or wants to.
int this_thread();
bool runs(int thread);

// The processor that this thread is on, or -1.
int current_cpu();

// Moves this thread to a processor that is none of `taken` (of those below 0 nothing is known), if it may use one; the
// system may then move it as before.
void leave_cpus(const std::atomic<int>* taken, int count) noexcept;

}  // namespace fastrnn
