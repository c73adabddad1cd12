// NumPy arrays in, pointers out, the GIL released. Arguments have been checked by fastrnn.functional; what is
// checked again here is what would crash.
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "arrays.h"
#include "call.h"
#include "dispatch.h"
#include "linear.h"
#include "threads.h"

namespace fastrnn {
namespace {

struct Arguments {
  py::array x, w_ih, w_hh;
  Optional b_ih, b_hh;
  std::vector<Optional> states;
  Optional lengths;
  bool reverse;

  bool tokens() const { return x.ndim() == 2; }
};

// Packed weights that a layer keeps in a dictionary of its own: those there if they are still the parameters', or
// new ones. The caller puts them there once they are packed.
template <class R>
std::shared_ptr<Weights<R>> packed_weights(const Kernel<R>& kernel, const Parameters<R>& parameters,
                                         const py::dict& packed) {
  std::shared_ptr<Weights<R>> weights;
  if (packed.contains("native"))
    weights = std::dynamic_pointer_cast<Weights<R>>(packed["native"].cast<std::shared_ptr<AnyWeights>>());
  const py::gil_scoped_release release;
  const Fingerprint now = fingerprint(parameters, kernel.gates);
  if (weights && weights->kernel == &kernel && weights->fingerprint == now) return weights;
  weights = std::make_shared<Weights<R>>(kernel, parameters.I, parameters.H);
  weights->fingerprint = now;
  return weights;
}

// What forward leaves for backward.
struct Reserve {
  virtual ~Reserve() = default;
  virtual py::tuple backward(const Optional& dy, const std::vector<Optional>& dstates, bool input_gradient) = 0;
};

template <class R>
const Kernel<R>& kernel_of(const Cell& cell) {
  if constexpr (sizeof(R) == sizeof(float))
    return cell.f32;
  else
    return cell.f64;
}

template <class R>
class TypedCall : public Reserve {
  Arguments arguments_;  // kept alive: the call reads them
  Inputs<R> inputs_;
  Index gates_;
  bool has_cells_;
  py::array_t<R> y_;
  std::shared_ptr<Weights<R>> weights_;
  Call<R> call_;

  static Inputs<R> inputs_of(const Arguments& a, Index gates) {
    if (a.x.ndim() < 2 || a.w_ih.ndim() != 2 || a.w_hh.ndim() != 2 || a.states.empty())
      throw std::invalid_argument("x, w_ih, w_hh or states: wrong rank for the kernels");
    const Index T = a.x.shape(0), B = a.x.shape(1), I = a.w_ih.shape(1), H = a.w_hh.shape(1), rows = gates * H;
    return {{I, H, pointer<R>(a.w_ih, {rows, I}, "w_ih"), pointer<R>(a.w_hh, {rows, H}, "w_hh"),
             pointer<R>(a.b_ih, {rows}, "b_ih"), pointer<R>(a.b_hh, {rows}, "b_hh")},
            T, B,
            a.tokens() ? nullptr : pointer<R>(a.x, {T, B, I}, "x"),
            a.tokens() ? pointer<Index>(a.x, {T, B}, "x") : nullptr,
            pointer<R>(a.states[0], {B, H}, "state"),
            a.states.size() > 1 ? pointer<R>(a.states[1], {B, H}, "state") : nullptr,
            pointer<Index>(a.lengths, {B}, "lengths"),
            a.reverse};
  }

 public:
  TypedCall(const Kernel<R>& kernel, Arguments arguments, bool training, bool recompute,
            const std::optional<py::dict>& packed)
      : arguments_(std::move(arguments)), inputs_(inputs_of(arguments_, kernel.gates)), gates_(kernel.gates),
        has_cells_(kernel.states > 1), weights_(packed ? packed_weights<R>(kernel, inputs_, *packed) : nullptr),
        call_(kernel, inputs_, training, recompute, weights_) {}

  std::shared_ptr<AnyWeights> weights() const { return weights_; }

  py::tuple states(const py::array& h, const py::array& c) const {
    if (has_cells_) return py::make_tuple(h, c);
    return py::make_tuple(h);
  }

  py::tuple forward() {
    const Index T = inputs_.T, B = inputs_.B, H = inputs_.H;
    y_ = inputs_.lengths ? zeros<R>({T, B, H}) : empty<R>({T, B, H});
    py::array_t<R> h_n({B, H}), c_n({has_cells_ ? B : 0, H});
    R *y = y_.mutable_data(), *h = h_n.mutable_data(), *c = has_cells_ ? c_n.mutable_data() : nullptr;
    {
      const py::gil_scoped_release release;
      call_.forward(y, h, c, poll);
    }
    return py::make_tuple(y_, states(h_n, c_n));
  }

  py::tuple backward(const Optional& dy, const std::vector<Optional>& dstates, bool input_gradient) override {
    const Index T = inputs_.T, B = inputs_.B, I = inputs_.I, H = inputs_.H;
    const R* dy_data = pointer<R>(dy, {T, B, H}, "dy");
    const R* dh_n = pointer<R>(dstates.at(0), {B, H}, "dstate_n");
    const R* dc_n = has_cells_ ? pointer<R>(dstates.at(1), {B, H}, "dstate_n") : nullptr;
    const auto bias = [&](bool given) -> std::optional<py::array_t<R>> {
      if (!given) return std::nullopt;
      return py::array_t<R>(gates_ * H);
    };
    std::optional<py::array_t<R>> dx, db_ih = bias(inputs_.b_ih), db_hh = bias(inputs_.b_hh);
    if (inputs_.x && input_gradient) dx = zeros<R>({T, B, I});
    py::array_t<R> dw_ih = zeros<R>({gates_ * H, I}), dw_hh = zeros<R>({gates_ * H, H});
    py::array_t<R> dh({B, H}), dc({has_cells_ ? B : 0, H});
    const auto data = [](auto& array) { return array ? array->mutable_data() : nullptr; };
    for (auto* db : {&db_ih, &db_hh})
      if (*db) std::fill_n(data(*db), gates_ * H, R(0));
    const Gradients<R> gradients{data(dx), dw_ih.mutable_data(), dw_hh.mutable_data(), data(db_ih), data(db_hh),
                                 dh.mutable_data(), has_cells_ ? dc.mutable_data() : nullptr};
    {
      const py::gil_scoped_release release;
      call_.backward(dy_data, dh_n, dc_n, gradients, poll);
    }
    return py::make_tuple(dx, dw_ih, dw_hh, db_ih, db_hh, states(dh, dc));
  }
};

template <class R>
py::tuple run(const Cell& cell, Arguments arguments, bool training, bool recompute, std::optional<py::dict> packed) {
  auto call =
      std::make_shared<TypedCall<R>>(kernel_of<R>(cell), std::move(arguments), training, recompute, packed);
  const py::tuple results = call->forward();
  if (packed) (*packed)["native"] = call->weights();
  const std::shared_ptr<Reserve> reserve = training ? std::shared_ptr<Reserve>(call) : nullptr;
  return py::make_tuple(results[0], results[1], reserve);
}

py::tuple forward(const std::string& name, py::array x, py::array w_ih, py::array w_hh, Optional b_ih, Optional b_hh,
                  std::vector<Optional> states, Optional lengths, bool reverse, bool training, bool recompute,
                  std::optional<py::dict> packed) {
  const Cell& cell = find_cell(name);
  Arguments arguments{x, w_ih, w_hh, b_ih, b_hh, std::move(states), lengths, reverse};
  return is_float(w_ih) ? run<float>(cell, std::move(arguments), training, recompute, packed)
                        : run<double>(cell, std::move(arguments), training, recompute, packed);
}

template <class R>
const LinearKernel<R>& linear_kernel() {
  if constexpr (sizeof(R) == sizeof(float))
    return isa().linear_f32;
  else
    return isa().linear_f64;
}

template <class R>
Linear<R> linear_task(const py::array& x, const py::array& w, const Optional& b) {
  if (x.ndim() != 2 || w.ndim() != 2) throw std::invalid_argument("x or weight: wrong rank for the kernels");
  Linear<R> task{};
  task.N = x.shape(0), task.I = w.shape(1), task.O = w.shape(0);
  task.x = pointer<R>(x, {task.N, task.I}, "x");
  task.w = pointer<R>(w, {task.O, task.I}, "weight");
  task.b = pointer<R>(b, {task.O}, "bias");
  return task;
}

template <class R>
py::array run_linear(const py::array& x, const py::array& w, const Optional& b) {
  Linear<R> task = linear_task<R>(x, w, b);
  py::array_t<R> y = empty<R>({task.N, task.O});
  task.y = y.mutable_data();
  {
    const py::gil_scoped_release release;
    linear_forward(linear_kernel<R>(), task, poll);
  }
  return y;
}

template <class R>
py::tuple run_linear_backward(const py::array& x, const py::array& w, const py::array& dy) {
  Linear<R> task = linear_task<R>(x, w, std::nullopt);
  py::array_t<R> dx = zeros<R>({task.N, task.I}), dw = zeros<R>({task.O, task.I}), db = zeros<R>({task.O});
  task.dy = pointer<R>(dy, {task.N, task.O}, "dy");
  task.dx = dx.mutable_data(), task.dw = dw.mutable_data(), task.db = db.mutable_data();
  {
    const py::gil_scoped_release release;
    linear_backward(linear_kernel<R>(), task, poll);
  }
  return py::make_tuple(dx, dw, db);
}

py::array linear(const py::array& x, const py::array& w, const Optional& b) {
  return is_float(w) ? run_linear<float>(x, w, b) : run_linear<double>(x, w, b);
}

py::tuple linear_gradients(const py::array& x, const py::array& w, const py::array& dy) {
  return is_float(w) ? run_linear_backward<float>(x, w, dy) : run_linear_backward<double>(x, w, dy);
}

Activation activation_of(const std::string& name) {
  if (name == "sigmoid") return Activation::sigmoid;
  if (name == "tanh") return Activation::tanh;
  if (name == "relu") return Activation::relu;
  if (name == "exp") return Activation::exp;
  throw std::invalid_argument("unknown activation '" + name + "'");
}

template <class R, class Activate>
py::array activate(Activate* activate, const std::string& name, const py::array& x) {
  py::array_t<R> y(x.size());
  activate(activation_of(name), pointer<R>(x, {x.size()}, "x"), y.mutable_data(), x.size());
  return y;
}

py::array activation(const std::string& name, const py::array& x) {
  if (is_float(x)) return activate<float>(isa().activate_f32, name, x);
  return activate<double>(isa().activate_f64, name, x);
}

std::vector<std::string> cells() {
  std::vector<std::string> names;
  for (int i = 0; i < isa().cell_count; ++i) names.push_back(isa().cells[i].name);
  return names;
}

py::dict config() {
  return py::dict("isa"_a = isa().name, "isas"_a = available_isas(), "compiler"_a = FASTRNN_COMPILER,
                  "openmp"_a = openmp_version());
}

}  // namespace
}  // namespace fastrnn

PYBIND11_MODULE(_core, module) {
  using namespace fastrnn;
  module.doc() = "The kernels. Private: fastrnn.functional is the checked door to them.";
  isa();  // an unusable FASTRNN_ISA is an error here, at import

  py::class_<Reserve, std::shared_ptr<Reserve>>(module, "Reserve", "What forward leaves for backward.");
  py::class_<AnyWeights, std::shared_ptr<AnyWeights>>(module, "Weights", "Packed weights.");
  module.def("forward", &forward, "See fastrnn.functional.lstm.", "cell"_a, "x"_a.noconvert(), "w_ih"_a.noconvert(),
             "w_hh"_a.noconvert(), "b_ih"_a.noconvert(), "b_hh"_a.noconvert(), "states"_a, "lengths"_a.noconvert(),
             "reverse"_a, "training"_a, "recompute"_a = false, "packed"_a = py::none());
  module.def(
      "backward",
      [](Reserve& reserve, const Optional& dy, const std::vector<Optional>& dstates, bool input_gradient) {
        return reserve.backward(dy, dstates, input_gradient);
      },
      "See fastrnn.functional.lstm_backward. A reserve serves once.", "reserve"_a, "dy"_a.noconvert(), "dstates"_a,
      "input_gradient"_a = true);
  module.def("linear", &linear, "See fastrnn.functional.linear.", "x"_a.noconvert(), "weight"_a.noconvert(),
             "bias"_a.noconvert());
  module.def("linear_backward", &linear_gradients, "See fastrnn.functional.linear_backward.", "x"_a.noconvert(),
             "weight"_a.noconvert(), "dy"_a.noconvert());
  bind_step(module);
  bind_stream(module);
  module.def("activation", &activation, "An activation of the kernels, for tests.", "name"_a, "x"_a.noconvert());
  module.def("cells", &cells, "The names of the cells.");
  module.def("set_isa", &set_isa, "Choose the kernels' ISA, for tests.", "name"_a);
  module.def("config", &config, "The build and the machine: see fastrnn.show_config.");
  module.def("set_num_threads", &set_threads, "See fastrnn.set_num_threads.", "count"_a);
  module.def("get_num_threads", &max_threads, "See fastrnn.get_num_threads.");
}
