// Calls that were prepared, of any number of models.
#include <vector>

#include "prepared.h"

namespace fastrnn {
namespace {

void compute(const std::vector<Later*>& calls) {
  std::vector<Task*> tasks;
  for (Later* call : calls) tasks.push_back(call->take());
  {
    const WithoutGil release;
    compute_all(std::move(tasks), poll);
  }
  for (Later* call : calls) call->end();
}

}  // namespace

void bind_many(py::module_& module) {
  py::class_<Later>(module, "Later", "See fastrnn.reference.Later.").def("results", &Later::results);
  hold_safely<Later>();
  module.def("compute", &compute, "See fastrnn.reference.compute.", "calls"_a);
}

}  // namespace fastrnn
