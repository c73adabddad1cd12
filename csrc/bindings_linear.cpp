// Linear layers as Python has them, made once and then called as recurrent ones are.
#include <memory>
#include <utility>

#include "arrays.h"
#include "dispatch.h"
#include "kept.h"
#include "linear.h"
#include "records.h"

namespace fastrnn {
namespace {

struct AnyLinear {
  virtual ~AnyLinear() = default;
  virtual py::object run(const py::handle& x) = 0;
};

template <class R>
class TypedLinear : public AnyLinear {
  const Parameters<R> parameters_;
  Watch watch_;
  Shared<std::shared_ptr<Weights<R>>> weights_;

 public:
  TypedLinear(py::object owner, const py::object& record)
      : parameters_(linear_parameters_of<R>(record)), watch_(std::move(owner), arrays_of(record)) {}

  py::object run(const py::handle& object) override {
    const Index I = parameters_.I, O = parameters_.H;
    if (!is_ndarray(object)) return py::none();
    const auto x = py::reinterpret_borrow<py::array>(object);
    const py::ssize_t rank = x.ndim();
    if (rank < 1 || x.shape(rank - 1) != I || !is_plain(x) || !has_dtype<R>(x)) return py::none();
    Shape shape(x.shape(), x.shape() + rank);
    shape.back() = O;
    py::array_t<R> y = empty<R>(shape);
    const Linear<R> task{.N = x.size() / I, .I = I, .O = O, .x = static_cast<const R*>(x.data()), .y = y.mutable_data(),
                         .w = parameters_.w_ih, .b = parameters_.b_ih};
    run(task);
    return y;
  }

 private:
  void run(const Linear<R>& task) {
    const LinearKernel<R>& kernel = isa().table<R>().linear;
    const bool keeps = task.N > few_rows || parameters_.format != Format::full;  // fewer read them as they lie
    Watch::Look look;
    std::shared_ptr<Weights<R>> weights = keeps ? weights_.get() : nullptr;
    if (!keeps) watch_.require_in_place();
    const bool update = keeps && (!watch_.unchanged(look) || weights->packing != &kernel);
    {
      const WithoutGil release;
      if (update)
        weights = up_to_date(std::move(weights), kernel, parameters_, linear_threads(task.N, task.I, task.O));
      linear_forward(kernel, task, poll, weights);
    }
    if (!update) return;
    weights_.set(std::move(weights));
    watch_.note(std::move(look));
  }
};

std::unique_ptr<AnyLinear> make_linear(py::object owner, const py::object& record) {
  return by_dtype(array_field(record, "w_ih"), [&]<class R>(R) -> std::unique_ptr<AnyLinear> {
    return std::make_unique<TypedLinear<R>>(std::move(owner), record);
  });
}

}  // namespace

void bind_linear(py::module_& module) {
  py::class_<AnyLinear>(module, "Linear", "See fastrnn.reference.Linear.")
      .def(py::init(&make_linear), "owner"_a, "parameters"_a)
      .def("run", &AnyLinear::run, "x"_a);
  hold_safely<AnyLinear>();
}

}  // namespace fastrnn
