// Threads that wait for work: OpenMP's (pool_openmp.cpp) or, where the compiler has no OpenMP, a pool of our own
// (pool_std.cpp).
#pragma once

#include "function_ref.h"

namespace fastrnn {

// This thread and others of the pool, while one of these lives. There are fewer than asked for where the system starts no
// more, and only this one while another thread has the pool, or on one that works for a pool already.
class Workers {
  int size_ = 1;
  bool busy_ = false;

 public:
  explicit Workers(int size);
  ~Workers();
  Workers(const Workers&) = delete;
  Workers& operator=(const Workers&) = delete;

  int size() const { return size_; }
  bool busy() const { return busy_; }  // the pool is somebody else's

  // Calls fn(rank) on each of them, this one is rank 0. fn must not throw.
  void run(FunctionRef<void(int rank)> fn);

  // Wakes them up, for calls that will come soon, and does not wait until they are.
  void wake();
};

// Whether this thread works for a pool.
bool at_work();

// Threads that have worked a moment ago, and should not be asleep yet; and those that are not, as the system says.
int awake();
int spinning();

// Another library of the process may have made the pool, and those of it that spin are only known to be ours when they have
// come together once: that is done here, by each thread that calls. Whether it was.
bool meet();

// How many the process has been told to use, by OMP_NUM_THREADS or in OpenMP's other ways; else as many as there are
// processors.
int allowed_threads();

// The system is asked again for threads that it once refused.
void forget_refusals();

}  // namespace fastrnn
