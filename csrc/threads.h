// Threads behind one seam: how many a call may use, and running a function on them.
#pragma once

#include <cstdint>
#include <functional>

#include "denormals.h"
#include "fastrnn.h"

namespace fastrnn {

// What a call may use now: the number set, or else what OpenMP allows (processor affinity, OMP_NUM_THREADS,
// threadpoolctl) within the quota of the control group.
int max_threads();

// How many a call of so many operations should use: a small one is done before another thread is awake.
int team_for(double flops);

// 0: automatic.
void set_threads(int count);

// For tests: teams are as large as they may be, whatever else the machine is doing.
void insist_on_teams(bool insist);

// How often one thread has worked alone where more were asked for, because others had the cores.
std::int64_t times_alone();

// The version of OpenMP as a date, 0 without it.
int openmp_version();

// Runs both at the same time where two threads may be used, each then on one; else one after the other. If they throw,
// the first one's exception is thrown on.
void together(const std::function<void()>& first, const std::function<void()>& second);

// Runs fn on `size` threads, or fewer if the system gives fewer, with denormal numbers flushed to zero or kept. fn must
// not throw.
void parallel(int size, const std::function<void(const Team&)>& fn, Denormals denormals = Denormals::flush);

}  // namespace fastrnn
