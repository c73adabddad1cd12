// Recurrent layers as Python has them: made once of their parameters, whose dtypes and shapes stay, and then called. A
// call looks at its arguments as they are: where they are not plain it declines, and Python checks them, converts them or
// says why not.
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "arrays.h"
#include "dispatch.h"
#include "kept.h"
#include "prepared.h"
#include "records.h"
#include "stack.h"
#include "views.h"

namespace fastrnn {
namespace {

using Ready = std::unique_ptr<Prepared>;

struct AnyStack {
  virtual ~AnyStack() = default;
  virtual Ready run(const py::handle& x, const py::handle& state, const py::handle& lengths,
                    const py::handle& batch_sizes, bool batch_first, bool all_states, const py::handle& starts,
                    const py::handle& start_state) = 0;
  virtual Ready train(const py::handle& x, const py::handle& state, const py::handle& lengths,
                      const py::handle& batch_sizes, bool batch_first, bool recompute, const py::handle& mask,
                      Index first, std::optional<Index> count, const py::handle& starts,
                      const py::handle& start_state) = 0;
  virtual Ready back(const py::handle& memory, const py::handle& y, const py::handle& x, const py::handle& state,
                     const py::handle& lengths, const py::handle& batch_sizes, bool batch_first, const py::handle& dy,
                     const py::handle& dstate, bool input_gradient, bool again, bool recompute, const py::handle& mask,
                     Index first, std::optional<Index> count, const py::handle& hidden, const py::handle& starts,
                     const py::handle& start_state) = 0;
  virtual bool take_tensors(const py::type& tensor, const py::type& parameter) = 0;
  virtual bool takes_tensors() const = 0;
  virtual bool lies_in(const std::vector<py::object>& arrays) const = 0;
};

// An array that is no subclass, or null.
template <class R>
bool optional_data(const py::handle& object, std::initializer_list<Index> shape, const R*& to, const Tensors& tensors) {
  return object.is_none() || (to = plain_data<R>(object, shape, tensors));
}

// A state of plain arrays, each of which may be None: h, or a pair of h and c.
template <class R>
bool state_data(const py::handle& state, bool has_c, std::initializer_list<Index> of_h, std::initializer_list<Index> of_c,
                const R*& h, const R*& c, const Tensors& tensors) {
  if (!has_c || state.is_none()) return optional_data(state, of_h, h, tensors);
  if (!PyTuple_CheckExact(state.ptr()) || PyTuple_GET_SIZE(state.ptr()) != 2) return false;
  return optional_data(PyTuple_GET_ITEM(state.ptr(), 0), of_h, h, tensors) &&
         optional_data(PyTuple_GET_ITEM(state.ptr(), 1), of_c, c, tensors);
}

// The arguments of a call, and copies of those that lead kernels into arrays: the caller's may change.
template <class R>
struct Given {
  StackCall<R> call;
  std::vector<Index> tokens;
  Form form;

  // Rows of the call's, or null if these are not as many.
  template <class T>
  Series<const T> rows(const View& view) const {
    const Order& order = call.order;
    const T* data = static_cast<const T*>(view.data);
    if (form == Form::packed) return {view.T == order.rows() ? data : nullptr, 0, view.t, order.offset()};
    return {view.T == order.T() && view.B == order.B() ? data : nullptr, view.t, view.b};
  }
};

// New arrays for the states of a call, or their gradients: h, or a pair of h and c.
template <class R>
py::object make_states(Index places, Index B, Index P, Index H, bool has_c, R*& h, R*& c, const Tensors& tensors) {
  py::object first = make<R>({places, B, P}, h, tensors);
  if (!has_c) return first;
  return py::make_tuple(first, make<R>({places, B, H}, c, tensors));
}

template <class R>
class TypedStack : public AnyStack {
  const int cell_;
  const Index directions_;
  const Options options_;
  const std::vector<Parameters<R>> parameters_;  // by layer and direction
  Watch watch_;
  Shared<AllWeights<R>> weights_;
  Tensors tensors_;

  // Results are tensors where x is one.
  Tensors like(const py::handle& x) const { return tensors_.has(x) ? tensors_ : Tensors(); }

  const Kernel<R>& kernel() const { return isa().table<R>().cells[cell_]; }
  bool has_c() const { return kernel().states > 1; }
  Index P() const { return parameters_[0].P; }
  Index H() const { return parameters_[0].H; }

  static std::vector<Parameters<R>> all_parameters(int cell, const std::vector<py::object>& records) {
    std::vector<Parameters<R>> found;
    found.reserve(records.size());
    for (const py::object& record : records) found.push_back(parameters_of(isa().table<R>().cells[cell], record));
    return found;
  }

  static std::vector<py::array> all_arrays(const std::vector<py::object>& records) {
    std::vector<py::array> arrays;
    for (const py::object& record : records)
      for (py::array& array : arrays_of(record)) arrays.push_back(std::move(array));
    return arrays;
  }

  // Some of the layers.
  Layers<R> layers(Index first, std::optional<Index> count) const {
    const Index all = Index(parameters_.size()) / directions_;
    const Index wanted = count.value_or(all - first);
    if (first < 0 || first >= all || wanted < 1 || wanted > all - first)
      throw std::invalid_argument("a stack has no such layers");
    return {kernel(), &parameters_[std::size_t(first * directions_)], wanted, directions_, options_};
  }

  // Whether the arguments are plain; then they are read.
  bool read(const py::handle& x, const py::handle& state, const py::handle& lengths, const py::handle& batch_sizes,
            bool batch_first, const py::handle& starts, const py::handle& start_state, const Layers<R>& layers,
            Given<R>& given) const {
    const Index I = layers.parameters[0].I, places = layers.L * layers.D;
    StackCall<R>& call = given.call;
    const Form form = given.form = !batch_sizes.is_none() ? Form::packed : batch_first ? Form::batch_first : Form::time_first;
    const View floats = view_of<R>(x, I, form, tensors_);
    const View view = floats.data ? floats : view_of<Index>(x, 0, form, {});
    if (!view.data) return false;
    std::vector<Index> valid;
    if (form == Form::packed) {
      std::vector<Index> sizes;
      if (!lengths.is_none() || !copy_indices(batch_sizes, sizes, tensors_) || !lengths_of(sizes, view.T, valid)) return false;
      call.order = {Index(sizes.size()), std::move(valid)};
    } else {
      if (lengths.is_none())
        valid.assign(std::size_t(view.B), view.T);
      else if (!copy_indices(lengths, valid, tensors_) || Index(valid.size()) != view.B || !within(valid.data(), view.B, 0, view.T))
        return false;
      call.order = {view.T, std::move(valid)};
    }
    if (floats.data) {
      call.x = given.template rows<R>(view);
    } else {
      given.tokens.reserve(std::size_t(view.T * view.B) + 1);
      const Series<const Index> tokens{static_cast<const Index*>(view.data), view.t, view.b};
      for (Index t = 0; t < view.T; ++t)
        for (Index b = 0; b < view.B; ++b) given.tokens.push_back(*tokens.at({t, b, b}));
      if (!within(given.tokens.data(), view.T * view.B, 0, I - 1)) return false;
      call.tokens = given.template rows<Index>({given.tokens.data(), view.T, view.B, view.B, 1});
    }
    if (starts.is_none()) {
      if (!start_state.is_none()) return false;
    } else {
      const View truths = view_of<bool>(starts, 0, form, tensors_);
      const Series<const std::uint8_t> anew = given.template rows<std::uint8_t>(truths);
      if (!truths.data || !anew) return false;
      for (Index d = 0; d < layers.D; ++d) call.order.start_at(anew, d == 1);
    }
    const Index B = call.order.B();
    return state_data(state, has_c(), {places, B, P()}, {places, B, H()}, call.h0, call.c0, tensors_) &&
           state_data(start_state, has_c(), {places, B, P()}, {places, B, H()}, call.start_h, call.start_c, tensors_);
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

  bool take_tensors(const py::type& tensor, const py::type& parameter) override {
    tensors_ = {tensor, parameter};
    return takes_tensors();
  }

  bool takes_tensors() const override { return bool(tensors_); }

  bool lies_in(const std::vector<py::object>& arrays) const override {
    std::size_t place = 0;
    for (const py::object& each : arrays) {
      if (place == watch_.count()) return false;
      const py::array& array = watch_.array(place++);
      const Numbers numbers = numbers_of<R>(each, tensors_);
      if (!numbers.plain || numbers.data != array.data() || numbers.rank != array.ndim()) return false;
      if (!std::equal(numbers.shape, numbers.shape + numbers.rank, array.shape())) return false;
    }
    return place == watch_.count();
  }

  Ready run(const py::handle& x, const py::handle& state, const py::handle& lengths, const py::handle& batch_sizes,
            bool batch_first, bool all_states, const py::handle& starts, const py::handle& start_state) override {
    const Index places = Index(parameters_.size());
    auto task = std::make_unique<Run>(*this, layers(0, {}));
    if (!read(x, state, lengths, batch_sizes, batch_first, starts, start_state, task->layers, task->given)) return nullptr;
    StackCall<R>& call = task->call;
    const Index T = call.order.T(), B = call.order.B();
    const Tensors tensors = like(x);
    const py::object y = make_rows(call.order, directions_ * P(), task->given.form, call.y, tensors);
    const py::object last = make_states(places, B, P(), H(), has_c(), call.h_n, call.c_n, tensors);
    if (!all_states) {
      task->made = py::make_tuple(y, last);
    } else {
      py::array_t<R> all_h = empty<R>({places, T, B, P()}), all_c = empty<R>({has_c() ? places : 0, T, B, H()});
      call.all_h = std::fill_n(all_h.mutable_data(), all_h.size(), R(0)) - all_h.size();
      if (has_c()) call.all_c = std::fill_n(all_c.mutable_data(), all_c.size(), R(0)) - all_c.size();
      task->made = py::make_tuple(y, last, has_c() ? py::object(py::make_tuple(all_h, all_c)) : py::object(all_h));
    }
    task->weights = weights_.get();
    task->update = !watch_.unchanged(task->look) || task->weights[0]->packing != &task->layers.kernel;
    return task;
  }

  Ready train(const py::handle& x, const py::handle& state, const py::handle& lengths, const py::handle& batch_sizes,
              bool batch_first, bool recompute, const py::handle& mask, Index first, std::optional<Index> count,
              const py::handle& starts, const py::handle& start_state) override {
    auto task = std::make_unique<Train>(*this, layers(first, count));
    const Layers<R>& layers = task->layers;
    if (!read(x, state, lengths, batch_sizes, batch_first, starts, start_state, layers, task->given)) return nullptr;
    StackCall<R>& call = task->call;
    const Index places = layers.L * layers.D, B = call.order.B();
    if (!optional_data(mask, {places, B, P()}, call.mask, tensors_)) return nullptr;
    call.recompute = recompute;
    watch_.require_in_place();
    const Tensors tensors = like(x);
    const py::object y = make_rows(call.order, directions_ * P(), task->given.form, call.y, tensors);
    const py::object last = make_states(places, B, P(), H(), has_c(), call.h_n, call.c_n, tensors);
    const Index size = room_of(layers, call).of(call.order.rows(), B);
    const py::object memory = tensors ? tensors.make({size}, task->memory) : aligned({size}, size, task->memory);
    task->made = py::make_tuple(y, last, memory);
    return task;
  }

  Ready back(const py::handle& memory, const py::handle& y, const py::handle& x, const py::handle& state,
             const py::handle& lengths, const py::handle& batch_sizes, bool batch_first, const py::handle& dy,
             const py::handle& dstate, bool input_gradient, bool again, bool recompute, const py::handle& mask,
             Index first, std::optional<Index> count, const py::handle& hidden, const py::handle& starts,
             const py::handle& start_state) override {
    auto task = std::make_unique<Back>(*this, layers(first, count));
    const Layers<R>& layers = task->layers;
    const Given<R>& given = task->given;
    if (!read(x, state, lengths, batch_sizes, batch_first, starts, start_state, layers, task->given)) return nullptr;
    StackCall<R>& call = task->call;
    const Order& order = call.order;
    const Index T = order.T(), B = order.B(), D = layers.D, places = layers.L * D;
    if (!optional_data(mask, {places, B, P()}, call.mask, tensors_)) return nullptr;
    call.recompute = recompute;
    const Series<const R> made = given.template rows<R>(view_of<R>(y, D * P(), given.form, tensors_));
    if (!made) return nullptr;
    call.y = {const_cast<R*>(made.data), made.t, made.b, made.starts};  // which the way back only reads
    const Numbers kept = numbers_of<R>(memory, tensors_);
    if (!kept.plain || !kept.has_shape({room_of(layers, call).of(order.rows(), B)})) return nullptr;
    if (!again && !kept.writeable) return nullptr;
    task->memory = static_cast<R*>(const_cast<void*>(kept.data)), task->again = again;
    StackGradients<R>& gradients = task->gradients;
    if (!dy.is_none()) gradients.y = given.template rows<R>(view_of<R>(dy, D * P(), given.form, tensors_));
    if (!dy.is_none() && !gradients.y) return nullptr;
    if (!state_data(dstate, has_c(), {places, B, P()}, {places, B, H()}, gradients.h_n, gradients.c_n, tensors_)) return nullptr;
    if (!hidden.is_none()) {
      py::array array = py::reinterpret_borrow<py::array>(hidden);
      gradients.hidden = target<R>(array, {places, T, B, P()}, "hidden");
    }
    watch_.require_in_place();
    const Tensors tensors = like(x);
    py::object dx = py::none();
    if (input_gradient && call.x) dx = make_rows(order, layers.parameters[0].I, given.form, gradients.x, tensors);
    const py::object start = make_states(places, B, P(), H(), has_c(), gradients.h0, gradients.c0, tensors);
    const py::list arrays = parameter_gradients(layers, first, gradients.parameters, tensors);
    if (starts.is_none()) {
      task->made = py::make_tuple(dx, arrays, start);
    } else {
      const py::object anew = make_states(places, B, P(), H(), has_c(), gradients.start_h, gradients.start_c, tensors);
      task->made = py::make_tuple(dx, arrays, start, anew);
    }
    return task;
  }

 private:
  // What was read, and what is returned.
  struct Job : Prepared {
    TypedStack& stack;
    const Layers<R> layers;
    Given<R> given;
    StackCall<R>& call = given.call;
    py::object made;

    Job(TypedStack& stack, const Layers<R>& layers) : stack(stack), layers(layers) {}
    double flops() const override { return flops_of(layers, call); }
    py::object results() override { return made; }
  };

  struct Run : Job {
    using Job::Job, Job::stack, Job::layers, Job::call;
    Watch::Look look;
    AllWeights<R> weights;
    bool update;

    // With the weights that are kept if they are the parameters' still.
    void compute(const Poll& poll) override {
      run_stack(layers, call, weights, update && stack.watch_.has_owner(), poll);
    }
    py::object results() override {
      if (update && stack.watch_.has_owner()) {
        stack.weights_.set(weights);
        stack.watch_.note(look);
      }
      return Job::results();
    }
  };

  struct Train : Job {
    using Job::Job, Job::layers, Job::call;
    R* memory;

    void compute(const Poll& poll) override { train_stack(layers, call, memory, poll); }
  };

  struct Back : Job {
    using Job::Job, Job::layers, Job::call;
    R* memory;
    bool again;
    StackGradients<R> gradients;

    double flops() const override { return 2 * Job::flops(); }
    void compute(const Poll& poll) override { back_through_stack(layers, call, memory, gradients, again, poll); }
  };

  // New arrays like those of the layers' parameters, in their order.
  py::list parameter_gradients(const Layers<R>& layers, Index first, std::vector<ParametersOf<R>>& to,
                               const Tensors& tensors) const {
    py::list arrays;
    std::size_t next = 0;
    for (Index place = 0; place < first * layers.D; ++place) each_pointer(parameters_[std::size_t(place)], [&](auto) { ++next; });
    for (Index place = 0; place < layers.L * layers.D; ++place) {
      const Parameters<R>& like = layers.parameters[place];
      ParametersOf<R> gradient;
      gradient.I = like.I, gradient.H = like.H, gradient.P = like.P;
      const auto add = [&](const R* parameter, R*& data) {
        if (!parameter) return;
        const py::array& array = watch_.array(next++);
        arrays.append(make<R>(Shape(array.shape(), array.shape() + array.ndim()), data, tensors));
      };
      add(like.w_ih, gradient.w_ih), add(like.w_hh, gradient.w_hh);
      add(like.b_ih, gradient.b_ih), add(like.b_hh, gradient.b_hh), add(like.w_hr, gradient.w_hr);
      for (int v = 0; v < most_vectors; ++v) add(like.vectors[v], gradient.vectors[v]);
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

std::unique_ptr<AnyStack> make_stack(py::object owner, const std::string& cell, const std::vector<py::object>& records,
                                     int directions, const py::object& options) {
  if (directions < 1 || directions > 2 || records.empty() || records.size() % std::size_t(directions))
    throw std::invalid_argument("a stack needs parameters for each layer and direction");
  const int place = find_cell(cell);
  return by_dtype(array_field(records[0], "w_ih"), [&]<class R>(R) -> std::unique_ptr<AnyStack> {
    return std::make_unique<TypedStack<R>>(std::move(owner), place, directions, options_of(options), records);
  });
}

std::unique_ptr<Later> prepare(const py::object& self, const std::string& name, const py::tuple& arguments) {
  const auto with = name == "run"     ? &Door<&AnyStack::run>::with
                    : name == "train" ? &Door<&AnyStack::train>::with
                                      : &Door<&AnyStack::back>::with;
  Ready task = with(self.cast<AnyStack&>(), arguments);
  return task ? std::make_unique<Later>(std::move(task), py::make_tuple(self, arguments)) : nullptr;
}

// So much for each row of all steps, and for each sequence.
py::tuple train_memory(const std::string& cell, const py::dtype& dtype, Index hidden, Index projection, Index layers,
                       Index directions) {
  const int place = find_cell(cell);
  return by_dtype(py::array(dtype, 0), [&]<class R>(R) {
    const R there{};  // a parameter that is asked only whether it is
    const Parameters<R> parameters{.H = hidden, .P = projection ? projection : hidden, .w_hr = projection ? &there : nullptr};
    const Room room = room_of(Layers<R>{isa().table<R>().cells[place], &parameters, layers, directions, {}},
                              StackCall<R>{.order = {0, {}}});
    return py::make_tuple(room.row, room.sequence);
  });
}

}  // namespace

void bind_layers(py::module_& module) {
  py::class_<AnyStack>(module, "Stack", "See fastrnn.reference.Stack.")
      .def(py::init(&make_stack), "owner"_a, "cell"_a, "parameters"_a, "directions"_a, "options"_a)
      .def("run", &Door<&AnyStack::run>::now, "x"_a, "state"_a, "lengths"_a, "batch_sizes"_a, "batch_first"_a, "all_states"_a = false,
           "starts"_a = py::none(), "start_state"_a = py::none())
      .def("train", &Door<&AnyStack::train>::now, "x"_a, "state"_a, "lengths"_a, "batch_sizes"_a, "batch_first"_a,
           "recompute"_a = false, "mask"_a = py::none(), "first"_a = 0, "count"_a = py::none(), "starts"_a = py::none(),
           "start_state"_a = py::none())
      .def("back", &Door<&AnyStack::back>::now, "memory"_a, "y"_a, "x"_a, "state"_a, "lengths"_a, "batch_sizes"_a, "batch_first"_a,
           "dy"_a, "dstate"_a, "input_gradient"_a, "again"_a, "recompute"_a = false, "mask"_a = py::none(), "first"_a = 0,
           "count"_a = py::none(), "hidden"_a = py::none(), "starts"_a = py::none(), "start_state"_a = py::none())
      .def("prepare", &prepare, "name"_a, "arguments"_a)
      .def("take_tensors", &AnyStack::take_tensors, "tensor"_a, "parameter"_a)
      .def_property_readonly("takes_tensors", &AnyStack::takes_tensors)
      .def("lies_in", &AnyStack::lies_in, "arrays"_a);
  module.def("train_memory", &train_memory, "See fastrnn.reference.train_memory.", "cell"_a, "dtype"_a, "hidden"_a,
             "projection"_a, "layers"_a, "directions"_a);
  hold_safely<AnyStack>();
}

}  // namespace fastrnn
