// NumPy arrays in, pointers out, the GIL released. Arguments have been checked by fastrnn.functional; what is
// checked again here is what would crash.
#include <atomic>
#include <memory>
#include <stdexcept>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "arrays.h"
#include "call.h"
#include "dispatch.h"
#include "linear.h"
#include "order.h"
#include "parts.h"
#include "records.h"
#include "tally.h"
#include "threads.h"

namespace fastrnn {
namespace {

// What a `fastrnn.reference.Call` has.
struct Arguments {
  std::string cell;
  py::array x;
  ParameterArrays parameters;
  std::vector<Optional> states;
  Optional lengths;
  bool reverse, training, recompute;
  Optional mask, all_c;
  Options options;
  Optional starts;
  std::vector<Optional> start_states;

  bool tokens() const { return x.ndim() == 2; }
};

Arguments arguments_of(const py::handle& call) {
  Arguments arguments{
      .cell = call.attr("cell").cast<std::string>(),
      .x = array_field(call, "x"),
      .parameters = ParameterArrays(call.attr("parameters")),
      .states = {},
      .lengths = optional_field(call, "lengths"),
      .reverse = call.attr("reverse").cast<bool>(),
      .training = call.attr("training").cast<bool>(),
      .recompute = call.attr("recompute").cast<bool>(),
      .mask = optional_field(call, "mask"),
      .all_c = optional_field(call, "all_c"),
      .options = options_of(call.attr("options")),
      .starts = optional_field(call, "starts"),
      .start_states = {},
  };
  const auto read = [](const py::object& states, std::vector<Optional>& to) {
    if (states.is_none()) return;
    for (const py::handle state : states) to.push_back(optional_array(py::reinterpret_borrow<py::object>(state), "state"));
  };
  read(call.attr("states"), arguments.states);
  read(call.attr("start_states"), arguments.start_states);
  return arguments;
}

struct BackwardArguments {
  Optional dy;
  std::vector<Optional> dstates;
  bool input_gradient;
  Optional dhidden;  // an output
};

// A call of a cell, and what its forward leaves for backward. Both have three parts, of which the middle one does not
// need the interpreter.
struct Reserve {
  virtual ~Reserve() = default;
  virtual void start_forward() = 0;
  virtual void run_forward(const Poll& poll) = 0;
  virtual py::tuple end_forward() = 0;  // y, the states
  virtual void start_backward(const BackwardArguments& arguments) = 0;
  virtual void run_backward(const Poll& poll) = 0;
  virtual py::object end_backward() = 0;  // a record Gradients
  virtual bool better_side_by_side() const = 0;

  // Forward's results are used up by one backward.
  void use() {
    if (used_.exchange(true)) throw std::runtime_error("reserve was used before");
  }

 private:
  std::atomic<bool> used_{false};
};

using Calls = std::vector<std::shared_ptr<Reserve>>;

// One call or two.
void run_all(const Calls& calls, void (Reserve::*run)(const Poll&)) {
  const WithoutGil release;
  each_direction(int(calls.size()), calls.size() == 2 && calls[0]->better_side_by_side(), poll,
                 [&](int d, const Poll& watch) { (*calls[std::size_t(d)].*run)(watch); });
}

template <class R>
class TypedCall : public Reserve {
  Arguments arguments_;  // kept alive: the call reads them
  Order order_;
  Inputs<R> inputs_;
  bool has_c_;
  Buffer<R> memory_;  // in training
  Call<R> call_;

  // Between start and end: arrays, and where they are.
  BackwardArguments given_;
  py::array_t<R> y_, h_, c_, start_h_, start_c_;
  std::optional<py::array_t<R>> dx_;
  py::object dparameters_;
  Outputs<R> to_;
  OutputGradients<R> from_;
  Gradients<R> gradients_;

  static Order order_of(const Arguments& a) {
    if (a.x.ndim() < 2 || a.states.empty()) throw std::invalid_argument("x or states: wrong rank for the kernels");
    const Index T = a.x.shape(0), B = a.x.shape(1);
    std::vector<Index> lengths(std::size_t(B), T);
    if (a.lengths) {
      const Index* given = indices(*a.lengths, {B}, 0, T, "lengths");
      lengths.assign(given, given + B);
    }
    Order order{T, std::move(lengths)};
    if (a.starts) order.start_at(series(truths(*a.starts, {T, B}, "starts"), B, 1), a.reverse);
    return order;
  }

  static Inputs<R> inputs_of(const Arguments& a, const Order& order, const Kernel<R>& kernel) {
    Inputs<R> in{a.parameters.of<R>(kernel)};
    const Index T = order.T(), B = order.B(), I = in.I, H = in.H, P = in.P;
    in.steps = order.steps(a.reverse);
    if (a.tokens())
      in.tokens = series(indices(a.x, {T, B}, 0, I - 1, "x"), B, 1);
    else
      in.x = series(pointer<R>(a.x, {T, B, I}, "x"), B, I);
    in.h0 = pointer<R>(a.states[0], {B, P}, "state");
    if (a.states.size() > 1) in.c0 = pointer<R>(a.states[1], {B, H}, "state");
    if (a.start_states.size() > 0) in.start_h = pointer<R>(a.start_states[0], {B, P}, "start_state");
    if (a.start_states.size() > 1) in.start_c = pointer<R>(a.start_states[1], {B, H}, "start_state");
    in.mask = pointer<R>(a.mask, {B, P}, "mask");
    in.options = a.options;
    return in;
  }

 public:
  TypedCall(const Kernel<R>& kernel, Arguments arguments)
      : arguments_(std::move(arguments)), order_(order_of(arguments_)), inputs_(inputs_of(arguments_, order_, kernel)),
        has_c_(kernel.states > 1), memory_(memory_of(kernel)), call_(kernel, inputs_, memory_, arguments_.recompute) {}

  Buffer<R> memory_of(const Kernel<R>& kernel) const {
    if (!arguments_.training) return {};
    return Buffer<R>{room_of(kernel, inputs_, arguments_.recompute).of(order_.rows(), order_.B())};
  }

  py::tuple states(const py::array& h, const py::array& c) const {
    if (has_c_) return py::make_tuple(h, c);
    return py::make_tuple(h);
  }

  bool better_side_by_side() const override { return call_.better_side_by_side(); }

  void start_forward() override {
    const Index T = order_.T(), B = order_.B(), H = inputs_.H, P = inputs_.P;
    y_ = empty<R>({T, B, P});
    h_ = py::array_t<R>({B, P}), c_ = py::array_t<R>({has_c_ ? B : 0, H});
    R* all_c = arguments_.all_c ? target<R>(*arguments_.all_c, {T, B, H}, "all_c") : nullptr;
    to_ = {.y = series(y_.mutable_data(), B, P), .all_c = series(all_c, B, H), .h = h_.mutable_data()};
    if (has_c_) to_.c = c_.mutable_data();
  }
  void run_forward(const Poll& poll) override { call_.forward(to_, poll); }
  py::tuple end_forward() override { return py::make_tuple(y_, states(h_, c_)); }

  void start_backward(const BackwardArguments& arguments) override {
    const Index T = order_.T(), B = order_.B(), I = inputs_.I, H = inputs_.H, P = inputs_.P;
    given_ = arguments;
    from_ = {.y = series(pointer<R>(given_.dy, {T, B, P}, "dy"), B, P),
             .h = pointer<R>(given_.dstates.at(0), {B, P}, "dstate_n")};
    if (has_c_) from_.c = pointer<R>(given_.dstates.at(1), {B, H}, "dstate_n");
    if (inputs_.x && given_.input_gradient) dx_ = empty<R>({T, B, I});
    h_ = py::array_t<R>({B, P}), c_ = py::array_t<R>({has_c_ ? B : 0, H});
    R* dhidden = given_.dhidden ? target<R>(*given_.dhidden, {T, B, P}, "dhidden") : nullptr;
    gradients_ = {.x = series<R>(dx_ ? dx_->mutable_data() : nullptr, B, I),
                  .hidden = series(dhidden, B, P),
                  .h0 = h_.mutable_data()};
    std::tie(dparameters_, gradients_.parameters) = arguments_.parameters.gradients<R>(inputs_);
    if (has_c_) gradients_.c0 = c_.mutable_data();
    if (!arguments_.starts) return;
    start_h_ = py::array_t<R>({B, P}), start_c_ = py::array_t<R>({has_c_ ? B : 0, H});
    gradients_.start_h = start_h_.mutable_data();
    if (has_c_) gradients_.start_c = start_c_.mutable_data();
  }
  void run_backward(const Poll& poll) override {
    call_.backward(to_.y, from_, gradients_, poll);
  }
  py::object end_backward() override {
    const py::object start = arguments_.starts ? py::object(states(start_h_, start_c_)) : py::none();
    return record("Gradients")(dx_, dparameters_, states(h_, c_), start);
  }
};

py::list forward_all(const std::vector<py::object>& directions) {
  Calls calls;
  std::vector<bool> training;
  for (const py::object& direction : directions) {
    Arguments arguments = arguments_of(direction);
    training.push_back(arguments.training);
    const int cell = find_cell(arguments.cell);
    calls.push_back(by_dtype(arguments.parameters.w_ih, [&]<class R>(R) -> std::shared_ptr<Reserve> {
      return std::make_shared<TypedCall<R>>(isa().table<R>().cells[cell], std::move(arguments));
    }));
    calls.back()->start_forward();
  }
  run_all(calls, &Reserve::run_forward);
  py::list results;
  for (std::size_t i = 0; i < calls.size(); ++i) {
    const py::tuple y_states = calls[i]->end_forward();
    results.append(py::make_tuple(y_states[0], y_states[1], training[i] ? calls[i] : nullptr));
  }
  return results;
}

// One call of the module's backward_all: a reserve, dy, dstates, input_gradient, dhidden.
using BackwardCall = std::tuple<std::shared_ptr<Reserve>, Optional, std::vector<Optional>, bool, Optional>;

py::list backward_all(const std::vector<BackwardCall>& directions) {
  Calls calls;
  for (const auto& [reserve, dy, dstates, input_gradient, dhidden] : directions) {
    reserve->use();
    reserve->start_backward({dy, dstates, input_gradient, dhidden});
    calls.push_back(reserve);
  }
  run_all(calls, &Reserve::run_backward);
  py::list results;
  for (const auto& call : calls) results.append(call->end_backward());
  return results;
}

// The letters and arrays that y and the gradients have in common, of `Linear` or `LinearGradients`.
template <class Task, class R>
Task linear_task(const py::array& x, const py::array& w) {
  if (x.ndim() != 2 || w.ndim() != 2) throw std::invalid_argument("x or weight: wrong rank for the kernels");
  Task task{};
  task.N = x.shape(0), task.I = w.shape(1), task.O = w.shape(0);
  task.x = pointer<R>(x, {task.N, task.I}, "x");
  task.w = pointer<R>(w, {task.O, task.I}, "weight");
  return task;
}

template <class R>
py::array run_linear(const py::array& x, const py::array& w, const Optional& b) {
  auto task = linear_task<Linear<R>, R>(x, w);
  task.b = pointer<R>(b, {task.O}, "bias");
  py::array_t<R> y = empty<R>({task.N, task.O});
  task.y = y.mutable_data();
  {
    const WithoutGil release;
    linear_forward(isa().table<R>().linear, task, poll);
  }
  return y;
}

template <class R>
py::tuple run_linear_backward(const py::array& x, const py::array& w, const py::array& dy) {
  auto task = linear_task<LinearGradients<R>, R>(x, w);
  py::array_t<R> dx = empty<R>({task.N, task.I}), dw = empty<R>({task.O, task.I}), db = empty<R>({task.O});
  task.dy = pointer<R>(dy, {task.N, task.O}, "dy");
  task.dx = dx.mutable_data(), task.dw = dw.mutable_data(), task.db = db.mutable_data();
  {
    const WithoutGil release;
    linear_backward(isa().table<R>().linear, task, poll);
  }
  return py::make_tuple(dx, dw, db);
}

py::array linear(const py::array& x, const py::array& w, const Optional& b) {
  return by_dtype(w, [&]<class R>(R) { return run_linear<R>(x, w, b); });
}

py::tuple linear_gradients(const py::array& x, const py::array& w, const py::array& dy) {
  return by_dtype(w, [&]<class R>(R) { return run_linear_backward<R>(x, w, dy); });
}

py::array activation(const std::string& name, const py::array& x, const py::tuple& numbers) {
  const Function function = function_of(name, numbers);
  if (!function) throw std::invalid_argument("unknown activation '" + name + "'");
  return by_dtype(x, [&]<class R>(R) -> py::array {
    const Shape shape(x.shape(), x.shape() + x.ndim());
    const Index width = shape.empty() ? 1 : shape.back();
    py::array_t<R> y = empty<R>(shape);
    const Applied<R> task{function, width ? x.size() / width : 0, width, pointer<R>(x, shape, "x"), y.mutable_data()};
    {
      const WithoutGil release;
      apply(isa().table<R>(), task, poll);
    }
    return y;
  });
}

std::vector<std::string> cells() { return {isa().cells, isa().cells + isa().cell_count}; }

py::tuple grid(Index rows, Index weight_bytes, Index blocks, Index members) {
  const StepWeights weights{weight_bytes, blocks};
  const Grid best = grid_of(rows, weights, members);
  return py::make_tuple(best.rows, best.units, step_time(rows, weights, best));
}

py::dict config() {
  const auto [first, second, last] = caches();
  py::dict teams;
  for (std::size_t i = 0; i < tally.size(); ++i) teams[outcome_names[i]] = tally[i].load();
  return py::dict("isa"_a = isa().name, "isas"_a = available_isas(), "compiler"_a = FASTRNN_COMPILER,
                  "openmp"_a = openmp_version(), "teams"_a = teams, "cached"_a = cached_bytes(),
                  "caches"_a = py::make_tuple(first, second, last));
}

}  // namespace
}  // namespace fastrnn

// No lock of the interpreter is needed: what calls share is constant, atomic, or has a lock of its own.
PYBIND11_MODULE(_core, module, py::mod_gil_not_used()) {
  using namespace fastrnn;
  module.doc() = "The kernels. Private: fastrnn.functional is the checked door to them.";
  isa();  // an unusable FASTRNN_ISA is an error here, at import
  find_main_thread();

  py::class_<Reserve, std::shared_ptr<Reserve>>(module, "Reserve", "What forward leaves for backward.");
  hold_safely<Reserve>();
  module.def("forward_all", &forward_all, "See fastrnn.reference.forward, for each of one or two directions.", "calls"_a);
  module.def("backward_all", &backward_all, "See fastrnn.reference.backward, likewise. A reserve serves once.",
             "calls"_a);
  module.def("linear", &linear, "See fastrnn.functional.linear.", "x"_a.noconvert(), "weight"_a.noconvert(),
             "bias"_a.noconvert());
  module.def("linear_backward", &linear_gradients, "See fastrnn.functional.linear_backward.", "x"_a.noconvert(),
             "weight"_a.noconvert(), "dy"_a.noconvert());
  module.def("activation", &activation, "See fastrnn.reference.activation.", "name"_a, "x"_a.noconvert(),
             "numbers"_a = py::tuple());
  bind_training(module);
  bind_many(module);
  bind_layers(module);
  bind_linear(module);
  bind_cell(module);
  bind_stream(module);
  module.def("cells", &cells, "The names of the cells.");
  module.def("set_isa", &set_isa, "Choose the kernels' ISA, for tests: while none is at work.", "name"_a);
  module.def("config", &config, "The build and the machine: see fastrnn.show_config.");
  module.def("set_num_threads", &set_threads, "See fastrnn.set_num_threads.", "count"_a);
  module.def("work_alone", &work_alone, "Whether calls of this thread go without others; and whether they did.", "alone"_a);
  module.def("get_num_threads", &max_threads, "See fastrnn.get_num_threads.");
  module.def("grid", &grid, "How a team shares a step, in groups of rows and of units, and its nanoseconds.", "rows"_a,
             "weight_bytes"_a, "blocks"_a, "members"_a);
  module.def("use_dot_products", &use_dot_products, "Whether int8 uses such instructions, for tests.", "use"_a);
  module.def("insist_on_teams", &insist_on_teams, "Whether teams are full in any case, for tests.", "insist"_a);
  module.def("empty_cache", &empty_cache, "See fastrnn.empty_cache.");
  module.def("set_cache_limit", &set_cache_limit, "See fastrnn.empty_cache.", "bytes"_a);
}
