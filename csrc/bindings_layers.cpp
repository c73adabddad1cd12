// Layers as Python has them: made once of their parameters, whose dtypes and shapes stay, and then called. A call looks at
// its arguments as they are: where they are not plain it declines, and Python checks them, converts them or says why not.
#include <atomic>
#include <memory>
#include <utility>
#include <vector>

#include "arrays.h"
#include "dispatch.h"
#include "kept.h"
#include "linear.h"
#include "records.h"
#include "stack.h"

namespace fastrnn {
namespace {

// Rows over time and batch as kernels can read them in any order: features side by side.
struct View {
  const void* data = nullptr;
  Index T = 0, B = 0;
  Index t = 0, b = 0;  // strides
};

// An array (T, B, features), or with batch_first (B, T, features), or the same without features; if it is not that, null.
template <class R>
View view_of(const py::handle& object, Index features, bool batch_first) {
  const py::ssize_t rank = features ? 3 : 2, bytes = sizeof(R);
  if (!is_ndarray(object)) return {};
  const auto array = py::reinterpret_borrow<py::array>(object);
  if (array.ndim() != rank || !(array.flags() & py::detail::npy_api::NPY_ARRAY_ALIGNED_) || !has_dtype<R>(array)) return {};
  if (features && array.shape(2) != features) return {};
  View view{array.data(), array.shape(0), array.shape(1), array.strides(0), array.strides(1)};
  const bool nothing = view.T * view.B == 0;  // then strides are any numbers, as they are along an axis of one
  if (features > 1 && !nothing && array.strides(2) != bytes) return {};
  if (view.T < 2 || nothing) view.t = 0;
  if (view.B < 2 || nothing) view.b = 0;
  if (view.t % bytes || view.b % bytes) return {};
  view.t /= bytes, view.b /= bytes;
  if (batch_first) std::swap(view.T, view.B), std::swap(view.t, view.b);
  return view;
}

// What forward leaves in training for the way back.
struct StackReserve {
  virtual ~StackReserve() = default;
  virtual py::object backward(const py::handle& dy, const py::handle& dstate, bool input_gradient,
                              const py::handle& hidden) = 0;
};

struct AnyStack {
  virtual ~AnyStack() = default;
  virtual py::object run(const py::handle& x, const py::handle& state, const py::handle& lengths, bool batch_first,
                         bool all_states) = 0;
  virtual py::object forward(const py::handle& x, const py::handle& state, const py::handle& lengths, bool batch_first,
                             bool recompute, bool reusable, const py::handle& mask, Index first, Index count) = 0;
};

// An array that is no subclass, or null.
template <class R>
bool optional_data(const py::handle& object, std::initializer_list<Index> shape, const R*& to) {
  return object.is_none() || (to = plain_data<R>(object, shape));
}

// A state of plain arrays, each of which may be None: h, or a pair of h and c.
template <class R>
bool state_data(const py::handle& state, bool has_c, std::initializer_list<Index> of_h, std::initializer_list<Index> of_c,
                const R*& h, const R*& c) {
  if (!has_c || state.is_none()) return optional_data(state, of_h, h);
  if (!PyTuple_CheckExact(state.ptr()) || PyTuple_GET_SIZE(state.ptr()) != 2) return false;
  return optional_data(PyTuple_GET_ITEM(state.ptr(), 0), of_h, h) && optional_data(PyTuple_GET_ITEM(state.ptr(), 1), of_c, c);
}

// The arguments of a call, and copies of those that lead kernels into arrays: the caller's may change.
template <class R>
struct Given {
  StackCall<R> call;
  std::vector<Index> tokens, lengths;
  bool batch_first = false;
};

// The states of a call, or their gradients.
template <class R>
struct StateArrays {
  py::array_t<R> h, c;
  bool has_c;

  StateArrays(Index places, Index B, Index P, Index H, bool with_c)
      : h({places, B, P}), c({with_c ? places : 0, B, H}), has_c(with_c) {}
  R* c_data() { return has_c ? c.mutable_data() : nullptr; }
  py::object state() const { return has_c ? py::object(py::make_tuple(h, c)) : py::object(h); }
};

// A new array [T, B, width], in the order in memory that the layer has.
template <class R>
py::array_t<R> rows_array(Index T, Index B, Index width, bool batch_first, Series<R>& to) {
  py::array_t<R> array = batch_first ? empty<R>({B, T, width}) : empty<R>({T, B, width});
  to = {array.mutable_data(), B * width, width};
  if (batch_first) to = {to.data, width, T * width};
  return array;
}

template <class R>
class TypedStack : public AnyStack, public std::enable_shared_from_this<TypedStack<R>> {
  const int cell_;
  const Index directions_;
  const Options options_;
  const std::vector<Parameters<R>> parameters_;  // by layer and direction
  Watch watch_;
  Shared<AllWeights<R>> weights_;

  class Reserve;

  const Kernel<R>& kernel() const { return isa().table<R>().cells[cell_]; }
  bool has_c() const { return kernel().states > 1; }
  Index P() const { return parameters_[0].P; }
  Index H() const { return parameters_[0].H; }

  Layers<R> layers(Index first, Index count) const {
    return {kernel(), &parameters_[std::size_t(first * directions_)], count, directions_, options_};
  }

  static std::vector<Parameters<R>> all_parameters(int cell, const std::vector<py::object>& records) {
    std::vector<Parameters<R>> found;
    for (const py::object& record : records) found.push_back(parameters_of(isa().table<R>().cells[cell], record));
    return found;
  }

  static std::vector<py::array> all_arrays(const std::vector<py::object>& records) {
    std::vector<py::array> arrays;
    for (const py::object& record : records)
      for (py::array& array : arrays_of(record)) arrays.push_back(std::move(array));
    return arrays;
  }

  // Whether the arguments are plain; then they are read.
  bool read(const py::handle& x, const py::handle& state, const py::handle& lengths, bool batch_first,
            const Layers<R>& layers, Given<R>& given) const {
    const Index I = layers.parameters[0].I, places = layers.L * layers.D;
    StackCall<R>& call = given.call;
    given.batch_first = batch_first;
    const View floats = view_of<R>(x, I, batch_first);
    const View view = floats.data ? floats : view_of<Index>(x, 0, batch_first);
    if (!view.data) return false;
    const Index T = call.T = view.T, B = call.B = view.B;
    if (floats.data) {
      call.x = {static_cast<const R*>(view.data), view.t, view.b};
    } else {
      const Series<const Index> tokens{static_cast<const Index*>(view.data), view.t, view.b};
      given.tokens.reserve(std::size_t(T * B) + 1);
      for (Index t = 0; t < T; ++t)
        for (Index b = 0; b < B; ++b) given.tokens.push_back(*tokens.at({t, b}));
      if (!within(given.tokens.data(), T * B, 0, I - 1)) return false;
      call.tokens = series(static_cast<const Index*>(given.tokens.data()), B, 1);
    }
    if (!lengths.is_none()) {
      const Index* valid = plain_data<Index>(lengths, {B});
      if (!valid) return false;
      given.lengths.reserve(std::size_t(B) + 1);
      given.lengths.assign(valid, valid + B);
      if (!within(given.lengths.data(), B, 0, T)) return false;
      call.lengths = given.lengths.data();
    }
    return state_data(state, has_c(), {places, B, P()}, {places, B, H()}, call.h0, call.c0);
  }

 public:
  TypedStack(py::object owner, int cell, int directions, const Options& options, const std::vector<py::object>& records)
      : cell_(cell), directions_(directions), options_(options), parameters_(all_parameters(cell, records)),
        watch_(std::move(owner), all_arrays(records)), weights_(AllWeights<R>(records.size())) {
    const Parameters<R>& first = parameters_.front();
    for (std::size_t place = 0; place < parameters_.size(); ++place) {
      const Parameters<R>& each = parameters_[place];
      const Index I = place < std::size_t(directions) ? first.I : directions * first.P;
      if (each.I != I || each.H != first.H || each.P != first.P)
        throw std::invalid_argument("weights: a layer does not fit the one below it");
    }
  }

  py::object run(const py::handle& x, const py::handle& state, const py::handle& lengths, bool batch_first,
                 bool all_states) override {
    const Index places = Index(parameters_.size());
    const Layers<R> layers = this->layers(0, places / directions_);
    Given<R> given;
    if (!read(x, state, lengths, batch_first, layers, given)) return py::none();
    StackCall<R>& call = given.call;
    const Index T = call.T, B = call.B;
    const py::array_t<R> y = rows_array<R>(T, B, directions_ * P(), batch_first, call.y);
    StateArrays<R> last(places, B, P(), H(), has_c());
    call.h_n = last.h.mutable_data(), call.c_n = last.c_data();
    if (!all_states) {
      run(layers, call);
      return py::make_tuple(y, last.state());
    }
    py::array_t<R> all_h = empty<R>({places, T, B, P()}), all_c = empty<R>({has_c() ? places : 0, T, B, H()});
    call.all_h = all_h.mutable_data();
    if (has_c()) {
      call.all_c = all_c.mutable_data();
      std::fill_n(call.all_c, all_c.size(), R(0));
    }
    run(layers, call);
    return py::make_tuple(y, last.state(), has_c() ? py::object(py::make_tuple(all_h, all_c)) : py::object(all_h));
  }

  py::object forward(const py::handle& x, const py::handle& state, const py::handle& lengths, bool batch_first,
                     bool recompute, bool reusable, const py::handle& mask, Index first, Index count) override {
    if (first < 0 || count < 1 || (first + count) * directions_ > Index(parameters_.size()))
      throw std::invalid_argument("a stack has no such layers");
    const Layers<R> layers = this->layers(first, count);
    const Index places = count * directions_;
    Given<R> given;
    if (!read(x, state, lengths, batch_first, layers, given)) return py::none();
    StackCall<R>& call = given.call;
    if (!optional_data(mask, {places, call.B, P()}, call.mask)) return py::none();
    call.recompute = recompute;
    py::array_t<R> y = rows_array<R>(call.T, call.B, directions_ * P(), batch_first, call.y);
    StateArrays<R> last(places, call.B, P(), H(), has_c());
    call.h_n = last.h.mutable_data(), call.c_n = last.c_data();
    watch_.require_in_place();
    Trace<R> trace;
    {
      const WithoutGil release;
      trace = train_stack(layers, call, poll);
    }
    py::detail::array_proxy(y.ptr())->flags &= ~py::detail::npy_api::NPY_ARRAY_WRITEABLE_;  // backward will read it
    const auto held = py::make_tuple(py::reinterpret_borrow<py::object>(x), py::reinterpret_borrow<py::object>(state),
                                     py::reinterpret_borrow<py::object>(mask), y);
    std::shared_ptr<StackReserve> reserve = std::make_shared<Reserve>(
        this->shared_from_this(), layers, std::move(given), std::move(trace), held, first, reusable);
    return py::make_tuple(y, last.state(), std::move(reserve));
  }

 private:
  // With the weights that are kept if they are the parameters' still.
  void run(const Layers<R>& layers, const StackCall<R>& call) {
    Watch::Look look;
    AllWeights<R> weights = weights_.get();
    const bool update = !watch_.unchanged(look) || weights[0]->packing != &layers.kernel;
    {
      const WithoutGil release;
      run_stack(layers, call, weights, update && watch_.has_owner(), poll);
    }
    if (!update || !watch_.has_owner()) return;
    weights_.set(std::move(weights));
    watch_.note(std::move(look));
  }
};

template <class R>
class TypedStack<R>::Reserve : public StackReserve {
  const std::shared_ptr<TypedStack> stack_;  // which holds the parameters
  const Layers<R> layers_;
  const Given<R> given_;
  Trace<R> trace_;
  const py::object held_;  // the arrays that the way back reads
  const Index first_;
  const bool reusable_;
  std::atomic<bool> taken_{false};

 public:
  Reserve(std::shared_ptr<TypedStack> stack, const Layers<R>& layers, Given<R> given, Trace<R> trace, py::object held,
          Index first, bool reusable)
      : stack_(std::move(stack)), layers_(layers), given_(std::move(given)), trace_(std::move(trace)),
        held_(std::move(held)), first_(first), reusable_(reusable) {}

  py::object backward(const py::handle& dy, const py::handle& dstate, bool input_gradient,
                      const py::handle& hidden) override {
    const StackCall<R>& call = given_.call;
    const Index T = call.T, B = call.B, D = layers_.D, places = layers_.L * D, P = stack_->P(), H = stack_->H();
    const bool has_c = stack_->has_c();
    StackGradients<R> gradients;
    if (!dy.is_none()) {
      const View view = view_of<R>(dy, D * P, given_.batch_first);
      if (!view.data || view.T != T || view.B != B) return py::none();
      gradients.y = {static_cast<const R*>(view.data), view.t, view.b};
    }
    if (!state_data(dstate, has_c, {places, B, P}, {places, B, H}, gradients.h_n, gradients.c_n)) return py::none();
    if (!hidden.is_none()) {
      py::array array = py::reinterpret_borrow<py::array>(hidden);
      gradients.hidden = target<R>(array, {places, T, B, P}, "hidden");
    }
    stack_->watch_.require_in_place();
    if (taken_.exchange(true))
      throw std::runtime_error(reusable_ ? "this reserve is at work in another thread" : "reserve was used before");
    const Index I = layers_.parameters[0].I;
    py::object dx = py::none();
    if (input_gradient && call.x) dx = rows_array<R>(T, B, I, given_.batch_first, gradients.x);
    StateArrays<R> first(places, B, P, H, has_c);
    gradients.h0 = first.h.mutable_data(), gradients.c0 = first.c_data();
    const py::list arrays = parameter_gradients(gradients.parameters);
    {
      const Last last{taken_, reusable_};
      const WithoutGil release;
      back_through_stack(layers_, call, trace_, gradients, reusable_, poll);
    }
    if (!reusable_) trace_ = {};
    return py::make_tuple(dx, arrays, first.state());
  }

 private:
  struct Last {  // lets others in again
    std::atomic<bool>& taken;
    const bool reusable;
    ~Last() {
      if (reusable) taken = false;
    }
  };

  // New arrays like those of the layers' parameters, in their order.
  py::list parameter_gradients(std::vector<ParametersOf<R>>& to) const {
    py::list arrays;
    std::size_t next = 0;
    for (Index place = 0; place < first_ * layers_.D; ++place) each_pointer(stack_->parameters_[std::size_t(place)], [&](auto) { ++next; });
    for (Index place = 0; place < layers_.L * layers_.D; ++place) {
      const Parameters<R>& like = layers_.parameters[place];
      ParametersOf<R> gradient;
      gradient.I = like.I, gradient.H = like.H, gradient.P = like.P;
      const auto make = [&](const R* parameter, R*& data) {
        if (!parameter) return;
        const py::array& array = stack_->watch_.array(next++);
        py::array_t<R> made = empty<R>(Shape(array.shape(), array.shape() + array.ndim()));
        data = made.mutable_data();
        arrays.append(std::move(made));
      };
      make(like.w_ih, gradient.w_ih), make(like.w_hh, gradient.w_hh);
      make(like.b_ih, gradient.b_ih), make(like.b_hh, gradient.b_hh), make(like.w_hr, gradient.w_hr);
      for (int v = 0; v < most_vectors; ++v) make(like.vectors[v], gradient.vectors[v]);
      to.push_back(gradient);
    }
    return arrays;
  }

  template <class F>
  static void each_pointer(const Parameters<R>& p, const F& fn) {
    for (const R* each : {p.w_ih, p.w_hh, p.b_ih, p.b_hh, p.w_hr})
      if (each) fn(each);
    for (const R* each : p.vectors)
      if (each) fn(each);
  }
};

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
    const bool keeps = task.N > few_rows;  // fewer read them as they lie
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

std::shared_ptr<AnyStack> make_stack(py::object owner, const std::string& cell, const std::vector<py::object>& records,
                                     int directions, const py::object& options) {
  if (directions < 1 || directions > 2 || records.empty() || records.size() % std::size_t(directions))
    throw std::invalid_argument("a stack needs parameters for each layer and direction");
  const int place = find_cell(cell);
  return by_dtype(array_field(records[0], "w_ih"), [&]<class R>(R) -> std::shared_ptr<AnyStack> {
    return std::make_shared<TypedStack<R>>(std::move(owner), place, directions, options_of(options), records);
  });
}

std::unique_ptr<AnyLinear> make_linear(py::object owner, const py::object& record) {
  return by_dtype(array_field(record, "w_ih"), [&]<class R>(R) -> std::unique_ptr<AnyLinear> {
    return std::make_unique<TypedLinear<R>>(std::move(owner), record);
  });
}

}  // namespace

void bind_layers(py::module_& module) {
  py::class_<StackReserve, std::shared_ptr<StackReserve>>(module, "StackReserve", "See fastrnn.reference.StackReserve.")
      .def("backward", &StackReserve::backward, "dy"_a, "dstate"_a, "input_gradient"_a, "hidden"_a);
  py::class_<AnyStack, std::shared_ptr<AnyStack>>(module, "Stack", "See fastrnn.reference.Stack.")
      .def(py::init(&make_stack), "owner"_a, "cell"_a, "parameters"_a, "directions"_a, "options"_a)
      .def("run", &AnyStack::run, "x"_a, "state"_a, "lengths"_a, "batch_first"_a, "all_states"_a)
      .def("forward", &AnyStack::forward, "x"_a, "state"_a, "lengths"_a, "batch_first"_a, "recompute"_a, "reusable"_a,
           "mask"_a, "first"_a, "count"_a);
  py::class_<AnyLinear>(module, "Linear", "See fastrnn.reference.Linear.")
      .def(py::init(&make_linear), "owner"_a, "parameters"_a)
      .def("run", &AnyLinear::run, "x"_a);
}

}  // namespace fastrnn
