// Layers as Python has them: made once of their parameters, whose dtypes and shapes stay, and then called. A call looks at
// its arguments as they are: where they are not plain it declines, and Python checks them, converts them or says why not.
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
  if (features && (array.shape(2) != features || (features > 1 && array.strides(2) != bytes))) return {};
  View view{array.data(), array.shape(0), array.shape(1), array.strides(0), array.strides(1)};
  if (view.T < 2) view.t = 0;  // of no consequence, and any number
  if (view.B < 2) view.b = 0;
  if (view.t % bytes || view.b % bytes) return {};
  view.t /= bytes, view.b /= bytes;
  if (batch_first) std::swap(view.T, view.B), std::swap(view.t, view.b);
  return view;
}

struct AnyStack {
  virtual ~AnyStack() = default;
  virtual py::object run(const py::handle& x, const py::handle& state, const py::handle& lengths, bool batch_first,
                         bool all_states) = 0;
};

template <class R>
class TypedStack : public AnyStack {
  const int cell_, directions_;
  const std::vector<Parameters<R>> parameters_;  // by layer and direction
  Watch watch_;
  AllWeights<R> weights_;

  const Kernel<R>& kernel() const { return isa().table<R>().cells[cell_]; }

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

 public:
  TypedStack(py::object owner, int cell, int directions, const std::vector<py::object>& records)
      : cell_(cell), directions_(directions), parameters_(all_parameters(cell, records)),
        watch_(std::move(owner), all_arrays(records)), weights_(records.size()) {
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
    const Index I = parameters_[0].I, H = parameters_[0].H, P = parameters_[0].P, places = Index(parameters_.size());
    const bool has_c = kernel().states > 1;
    StackCall<R> call;
    const View floats = view_of<R>(x, I, batch_first);
    const View view = floats.data ? floats : view_of<Index>(x, 0, batch_first);
    if (!view.data) return py::none();
    const Index T = call.T = view.T, B = call.B = view.B;
    std::vector<Index> tokens, valid;  // copies: the caller's may change
    if (floats.data) {
      call.x = {static_cast<const R*>(view.data), view.t, view.b};
    } else {
      const Series<const Index> given{static_cast<const Index*>(view.data), view.t, view.b};
      for (Index t = 0; t < T; ++t)
        for (Index b = 0; b < B; ++b) tokens.push_back(*given.at({t, b}));
      if (!within(tokens.data(), T * B, 0, I - 1)) return py::none();
      call.tokens = series(static_cast<const Index*>(tokens.data()), B, 1);
    }
    if (!lengths.is_none()) {
      const Index* given = plain_data<Index>(lengths, {B});
      if (!given) return py::none();
      valid.assign(given, given + B);
      if (!within(valid.data(), B, 0, T)) return py::none();
      call.lengths = valid.data();
    }
    const bool fits = has_c ? pair_of_states(state, {places, B, P}, {places, B, H}, call)
                            : state_of(state, {places, B, P}, call.h0);
    if (!fits) return py::none();

    const Index D = directions_;
    const Index outer = batch_first ? B : T, inner = batch_first ? T : B;
    py::array_t<R> y = empty<R>({outer, inner, D * P});
    py::array_t<R> h({places, B, P}), c({has_c ? places : 0, B, H});
    call.y = series(y.mutable_data(), inner, D * P);
    if (batch_first) std::swap(call.y.t, call.y.b);
    call.h_n = h.mutable_data();
    if (has_c) call.c_n = c.mutable_data();
    py::array_t<R> all_h, all_c;
    if (all_states) {
      all_h = empty<R>({places, T, B, P});
      call.all_h = all_h.mutable_data();
      if (has_c) {
        all_c = empty<R>({places, T, B, H});
        call.all_c = all_c.mutable_data();
        std::fill_n(call.all_c, all_c.size(), R(0));
      }
    }
    run(call);
    const auto joined = [&](const py::array& a, const py::array& b) -> py::object {
      return has_c ? py::object(py::make_tuple(a, b)) : py::object(a);
    };
    if (all_states) return py::make_tuple(y, joined(h, c), joined(all_h, all_c));
    return py::make_tuple(y, joined(h, c));
  }

 private:
  static bool state_of(const py::handle& state, std::initializer_list<Index> shape, const R*& to) {
    return state.is_none() || (to = plain_data<R>(state, shape));
  }

  static bool pair_of_states(const py::handle& state, std::initializer_list<Index> of_h, std::initializer_list<Index> of_c,
                             StackCall<R>& call) {
    if (state.is_none()) return true;
    if (!PyTuple_CheckExact(state.ptr()) || PyTuple_GET_SIZE(state.ptr()) != 2) return false;
    return state_of(PyTuple_GET_ITEM(state.ptr(), 0), of_h, call.h0) && state_of(PyTuple_GET_ITEM(state.ptr(), 1), of_c, call.c0);
  }

  // With the weights that are kept if they are the parameters' still.
  void run(const StackCall<R>& call) {
    const Kernel<R>& kernel = this->kernel();
    Watch::Look look;
    AllWeights<R> weights = weights_;
    const bool update = !watch_.unchanged(look) || weights[0]->packing != &kernel;
    {
      const WithoutGil release;
      run_stack(kernel, parameters_, directions_, Options{}, call, weights, update && watch_.has_owner(), poll);
    }
    if (!update || !watch_.has_owner()) return;
    weights_ = std::move(weights);
    watch_.note(std::move(look));
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
  std::shared_ptr<Weights<R>> weights_;

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
    std::shared_ptr<Weights<R>> weights = keeps ? weights_ : nullptr;
    if (!keeps) watch_.require_in_place();
    const bool update = keeps && (!watch_.unchanged(look) || weights->packing != &kernel);
    {
      const WithoutGil release;
      if (update)
        weights = up_to_date(std::move(weights), kernel, parameters_, linear_threads(task.N, task.I, task.O));
      linear_forward(kernel, task, poll, weights);
    }
    if (!update) return;
    weights_ = std::move(weights);
    watch_.note(std::move(look));
  }
};

std::unique_ptr<AnyStack> make_stack(py::object owner, const std::string& cell, const std::vector<py::object>& records,
                                     int directions, const py::object&) {
  if (directions < 1 || directions > 2 || records.empty() || records.size() % std::size_t(directions))
    throw std::invalid_argument("a stack needs parameters for each layer and direction");
  const int place = find_cell(cell);
  return by_dtype(array_field(records[0], "w_ih"), [&]<class R>(R) -> std::unique_ptr<AnyStack> {
    return std::make_unique<TypedStack<R>>(std::move(owner), place, directions, records);
  });
}

std::unique_ptr<AnyLinear> make_linear(py::object owner, const py::object& record) {
  return by_dtype(array_field(record, "w_ih"), [&]<class R>(R) -> std::unique_ptr<AnyLinear> {
    return std::make_unique<TypedLinear<R>>(std::move(owner), record);
  });
}

}  // namespace

void bind_layers(py::module_& module) {
  py::class_<AnyStack>(module, "Stack", "See fastrnn.reference.Stack.")
      .def(py::init(&make_stack), "owner"_a, "cell"_a, "parameters"_a, "directions"_a, "options"_a)
      .def("run", &AnyStack::run, "x"_a, "state"_a, "lengths"_a, "batch_first"_a, "all_states"_a);
  py::class_<AnyLinear>(module, "Linear", "See fastrnn.reference.Linear.")
      .def(py::init(&make_linear), "owner"_a, "parameters"_a)
      .def("run", &AnyLinear::run, "x"_a);
}

}  // namespace fastrnn
