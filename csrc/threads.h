// Threads behind one seam: how many a call may use, and running a function on them.
#pragma once

#include "denormals.h"
#include "fastrnn.h"
#include "function_ref.h"

namespace fastrnn {

// What a call may use: the number set, or else OMP_NUM_THREADS or as many as there are cores that this process may use,
// within the quota of the control group.
int max_threads();

// How many a call of so many operations should use, that can be shared by `parts`: a small one is done before another
// thread has come, or woken up.
int team_for(double flops, Index parts);

// 0: automatic. Returns what was set.
int set_threads(int count);

// Whether this thread's calls go without others, as it is itself one of as many as there are cores; and whether they did.
bool work_alone(bool alone);

// For tests: teams are as large as a call is worth, whatever else the machine is doing.
void insist_on_teams(bool insist);

// The version of OpenMP as a date, 0 without it.
int openmp_version();

// Runs both at the same time where two threads may be used, each then on one; else one after the other. If they throw,
// the first one's exception is thrown on.
void together(FunctionRef<void()> first, FunctionRef<void()> second);

// Runs fn on `size` threads, or fewer where others have the cores or the system gives fewer, or no memory for a team, with
// denormal numbers flushed to zero or kept. fn must not throw; then nothing does.
void parallel(int size, FunctionRef<void(const Team&)> fn, Denormals denormals = Denormals::flush);

}  // namespace fastrnn
