// Methods whose calls are prepared with the interpreter and computed without it: at once, or later with others'.
#pragma once

#include <memory>
#include <stdexcept>
#include <type_traits>
#include <utility>

#include "arrays.h"
#include "many.h"

namespace fastrnn {

struct Prepared : Task {
  virtual py::object results() = 0;  // with the interpreter, once they are computed
};

// As Python has it. It keeps alive what the task reads.
class Later {
  std::unique_ptr<Prepared> task_;
  py::object read_;
  enum { waiting, taken, done } now_ = waiting;

 public:
  Later(std::unique_ptr<Prepared> task, py::object read) : task_(std::move(task)), read_(std::move(read)) {}

  Task* take() {
    if (std::exchange(now_, taken) != waiting) throw std::runtime_error("a call was computed before");
    return task_.get();
  }
  void end() { now_ = done; }
  py::object results() {
    if (now_ != done) throw std::runtime_error("a call has not been computed");
    return task_->results();
  }
};

// A method that returns what it has prepared, or null where it declines: then Python gets None.
template <auto method>
struct Door;

template <class T, class... Arguments, std::unique_ptr<Prepared> (T::*method)(Arguments...)>
struct Door<method> {
  static py::object now(T& self, Arguments... arguments) {
    const std::unique_ptr<Prepared> task = (self.*method)(arguments...);
    if (!task) return py::none();
    {
      const WithoutGil release;
      task->compute(poll);
    }
    return task->results();
  }

  // Of all arguments, in their order.
  static std::unique_ptr<Prepared> with(T& self, const py::tuple& arguments) {
    if (arguments.size() != sizeof...(Arguments)) throw py::type_error("arguments: not as many as the call has");
    return unpacked(self, arguments, std::index_sequence_for<Arguments...>());
  }

 private:
  template <std::size_t... places>
  static std::unique_ptr<Prepared> unpacked(T& self, const py::tuple& arguments, std::index_sequence<places...>) {
    return (self.*method)(py::handle(PyTuple_GET_ITEM(arguments.ptr(), places)).cast<std::decay_t<Arguments>>()...);
  }
};

}  // namespace fastrnn
