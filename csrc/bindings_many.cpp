// Calls that were prepared, of any number of models.
#include <optional>
#include <vector>

#include "prepared.h"

namespace fastrnn {
namespace {

void compute(const py::iterator& calls, Index most) {
  std::vector<py::object> taken;
  taken.reserve(std::size_t(most));
  std::optional<WithoutGil> release;
  const auto next = [&]() -> Task* {
    PyObject* const found = taken.size() < std::size_t(most) ? PyIter_Next(calls.ptr()) : nullptr;
    if (!found && PyErr_Occurred()) throw py::error_already_set();
    if (found) return taken.emplace_back(py::reinterpret_steal<py::object>(found)).cast<Later&>().take();
    release.emplace();
    return nullptr;
  };
  compute_all(next, most, poll);
  release.reset();
  for (const py::object& call : taken) call.cast<Later&>().end();
}

}  // namespace

void bind_many(py::module_& module) {
  py::class_<Later>(module, "Later", "See fastrnn.reference.Later.").def("results", &Later::results);
  hold_safely<Later>();
  module.def("compute", &compute, "See fastrnn.reference.compute.", "calls"_a, "most"_a);
}

}  // namespace fastrnn
