// The interpreter: let go of while kernels work, and asked now and then whether Ctrl-C was pressed.
#pragma once

#include <pybind11/pybind11.h>

#include <atomic>
#include <chrono>
#include <thread>

#include "fork.h"

namespace py = pybind11;

namespace fastrnn {

// For as long as one of these lives, Python's other threads run.
class WithoutGil {
  PyThreadState* const state_ = PyEval_SaveThread();

 public:
  WithoutGil() = default;
  WithoutGil(const WithoutGil&) = delete;
  WithoutGil& operator=(const WithoutGil&) = delete;

  // CPython before 3.14 ends a thread that comes back while the process ends, by unwinding its stack: C++ would abort the
  // process at the first function that may not throw. Such a thread sleeps here until the process is gone, as in 3.14.
  ~WithoutGil() {
    try {
      PyEval_RestoreThread(state_);
    } catch (...) {
      for (;;) std::this_thread::sleep_for(std::chrono::hours(1));
    }
  }
};

// Python's main thread: signals reach no other one. After a fork it is the thread that forked.
inline std::atomic<unsigned long> main_thread{0};

inline void find_main_thread() {
  main_thread = py::module_::import("threading").attr("main_thread")().attr("ident").cast<unsigned long>();
  at_fork(nullptr, nullptr, [] { main_thread = PyThread_get_thread_ident(); });
}

// What long calls do now and then, on whatever thread: see whether Ctrl-C was pressed. Others than the main thread would
// only wait for the interpreter.
inline void poll() {
  if (PyThread_get_thread_ident() != main_thread) return;
  const py::gil_scoped_acquire gil;
  if (PyErr_CheckSignals() != 0) throw py::error_already_set();
}

}  // namespace fastrnn
