// What is to be done when the process forks, where processes do.
#pragma once

#if __has_include(<pthread.h>) && !defined(_WIN32)
#define FASTRNN_FORKS 1
#include <pthread.h>
#endif

namespace fastrnn {

// Each may be null. Before the fork, and after it in each of the two processes.
inline int at_fork([[maybe_unused]] void (*before)(), [[maybe_unused]] void (*in_parent)(),
                   [[maybe_unused]] void (*in_child)()) {
#if defined(FASTRNN_FORKS)
  return pthread_atfork(before, in_parent, in_child);
#else
  return 0;
#endif
}

}  // namespace fastrnn
