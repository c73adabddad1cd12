// Steps of a stream from a loop in C, as a program that embeds Python has it: what Python's own loop adds is left out.
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <chrono>
#include <cstdint>
#include <ctime>

namespace {

std::int64_t now() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace

// Calls step(x, out) `count` times and notes how long each took, in nanoseconds: from its beginning or, where each is due
// `pace` nanoseconds after the one before, from when it was due. 0, or -1 and Python's exception.
extern "C" int ticks(PyObject* step, PyObject* x, PyObject* out, std::int64_t count, std::int64_t pace, std::int64_t* times) {
  PyObject* const arguments[] = {x, out};
  std::int64_t due = now();
  for (std::int64_t i = 0; i < count; ++i) {
    due += pace;
    if (!pace) due = now();
    while (now() < due) {
    }
    PyObject* const y = PyObject_Vectorcall(step, arguments, 2, nullptr);
    if (!y) return -1;
    Py_DECREF(y);
    times[i] = now() - due;
  }
  return 0;
}
