// The stream's bindings. A step takes a microsecond, so its arguments are looked at here, once.
#include "arrays.h"
#include "dispatch.h"
#include "gate.h"
#include "records.h"
#include "stream.h"

namespace fastrnn {
namespace {

// In there, or an exception.
struct Inside : Stay {
  explicit Inside(Gate& gate, bool anew = false) : Stay(gate, anew) {
    if (error) throw std::runtime_error(step_message(error));
  }
};

// Nobody else has this object, nor will a weak reference find it. Where Python has no lock its counts do not tell.
bool is_ours_alone([[maybe_unused]] const py::object& object) {
#if defined(Py_GIL_DISABLED)
  return false;
#else
  return Py_REFCNT(object.ptr()) == 1 && !*PyObject_GET_WEAKREFS_LISTPTR(object.ptr());
#endif
}

// Of each recurrent layer h, and c where there is one, [L, B, H].
using States = std::vector<std::vector<py::array>>;

struct AnyStream {
  virtual ~AnyStream() = default;
  virtual py::object step(const py::handle& x, const py::handle& out) = 0;
  virtual py::object steps(const py::handle& x) = 0;
  virtual py::tuple state() = 0;
  virtual void set_state(const States& states) = 0;
  virtual void reset(const Optional& rows) = 0;
  virtual std::unique_ptr<AnyStream> copy() = 0;

  // What C calls, see fastrnn/step.h: `floats` or `tokens`.
  virtual int step(const void* floats, const Index* tokens, void* y) noexcept = 0;
  virtual int reset() noexcept = 0;
  virtual int get_state(void* state) noexcept = 0;
  virtual int set_state(const void* state) noexcept = 0;
  virtual Index about(int what) const noexcept = 0;
};

// Layers of a stream that are one recurrent layer outside.
struct Stack {
  int first, count;
};

template <class R>
class TypedStream : public AnyStream {
  Stream<R> stream_;
  const std::vector<Stack> stacks_;
  Gate gate_;
  std::vector<Index> tokens_;                // [B]  of this step: the caller's may change
  std::shared_ptr<const Buffer<R>> start_;  // the first state
  py::object made_[2];                       // results of the last steps

 public:
  TypedStream(const std::vector<StreamLayer<R>>& layers, std::vector<Stack> stacks, const States& start, Index B)
      : stream_(isa().table<R>(), layers, B), stacks_(std::move(stacks)), tokens_(B) {
    put(start);
    Buffer<R> states{stream_.state_size()};
    stream_.save(states);
    start_ = std::make_shared<const Buffer<R>>(std::move(states));
  }
  TypedStream(const TypedStream& other)
      : stream_(other.stream_), stacks_(other.stacks_), tokens_(other.tokens_), start_(other.start_) {}

  py::object step(const py::handle& x, const py::handle& out) override {
    const Index B = stream_.B(), I = stream_.I();
    const R* floats = stream_.takes_floats() ? plain_data<R>(x, {B, I}) : nullptr;
    const Index* tokens = !floats && stream_.takes_tokens() ? plain_data<Index>(x, {B}) : nullptr;
    if (!floats && !tokens) return py::none();
    const Inside inside(gate_);
    if (tokens && !(tokens = own(tokens))) return py::none();
    py::object made = out.is_none() ? used_up() : py::reinterpret_borrow<py::object>(out);
    const R* y = target_of(made);
    if (!y && out.is_none()) y = target_of(made = made_[0] = empty<R>({B, stream_.O()}));
    if (!y) return py::none();
    compute(stream_.flops(), [&] { stream_.step(floats, tokens, const_cast<R*>(y)); });
    return made;
  }

  // A copy of a step's tokens, or null if one is out of range.
  const Index* own(const Index* tokens) noexcept {
    std::copy_n(tokens, stream_.B(), tokens_.data());
    return within(tokens_.data(), stream_.B(), 0, stream_.I() - 1) ? tokens_.data() : nullptr;
  }

  const R* target_of(const py::object& out) const {
    const R* y = out ? plain_data<R>(out, {stream_.B(), stream_.O()}) : nullptr;
    return y && py::reinterpret_borrow<py::array>(out).writeable() ? y : nullptr;
  }

  // The result of two steps ago, if nobody else has it any more: to make one takes as long as all else around a small step.
  py::object used_up() {
    std::swap(made_[0], made_[1]);
    return made_[0] && is_ours_alone(made_[0]) ? made_[0] : py::object();
  }

  // Calls fn; where it takes long, others have the interpreter.
  template <class F>
  static void compute(double flops, const F& fn) {
    constexpr double long_call = 1e6;
    if (flops < long_call) return fn();
    const WithoutGil release;
    fn();
  }

  py::object steps(const py::handle& x) override {
    const Index B = stream_.B(), I = stream_.I();
    if (!is_ndarray(x)) return py::none();
    const auto array = py::reinterpret_borrow<py::array>(x);
    const Index T = array.ndim() ? array.shape(0) : 0;
    const R* floats = stream_.takes_floats() ? plain_data<R>(x, {T, B, I}) : nullptr;
    const Index* given = !floats && stream_.takes_tokens() ? plain_data<Index>(x, {T, B}) : nullptr;
    if (!floats && !given) return py::none();
    const std::vector<Index> tokens(given, given + (given ? T * B : 0));
    if (!within(tokens.data(), Index(tokens.size()), 0, I - 1)) return py::none();
    py::array_t<R> y = empty<R>({T, B, stream_.O()});
    R* to = y.mutable_data();
    const Inside inside(gate_);
    compute(double(T) * stream_.flops(), [&] { stream_.steps(T, floats, given ? tokens.data() : nullptr, to, poll); });
    return y;
  }

  py::tuple state() override {
    const Inside inside(gate_);
    py::tuple states(stacks_.size());
    for (std::size_t i = 0; i < stacks_.size(); ++i) {
      const auto [first, count] = stacks_[i];
      const Index L = count, B = stream_.B(), H = stream_.H(first), P = stream_.P(first), C = stream_.has_c(first) ? L : 0;
      py::array_t<R> h({L, B, P}), c({C, B, H});
      for (Index l = 0; l < L; ++l)
        stream_.get_state(first + int(l), h.mutable_data() + l * B * P, C ? c.mutable_data() + l * B * H : nullptr);
      states[i] = C ? py::tuple(py::make_tuple(h, c)) : py::tuple(py::make_tuple(h));
    }
    return states;
  }

  void set_state(const States& states) override {
    const Inside inside(gate_, true);
    put(states);
  }

  void put(const States& states) {
    for (std::size_t i = 0; i < stacks_.size(); ++i) {
      if (states.at(i).empty()) continue;  // it stays
      const auto [first, count] = stacks_[i];
      const Index L = count, B = stream_.B(), H = stream_.H(first), P = stream_.P(first);
      const R* h = pointer<R>(states.at(i).at(0), {L, B, P}, "state");
      const R* c = stream_.has_c(first) ? pointer<R>(states.at(i).at(1), {L, B, H}, "state") : nullptr;
      for (Index l = 0; l < L; ++l) stream_.set_state(first + int(l), h + l * B * P, c ? c + l * B * H : nullptr);
    }
  }

  void reset(const Optional& rows) override {
    const std::uint8_t* some = rows ? truths(*rows, {stream_.B()}, "rows") : nullptr;
    const Inside inside(gate_, !rows);
    stream_.restore(*start_, some);
  }

  std::unique_ptr<AnyStream> copy() override {
    const Inside inside(gate_);
    return std::make_unique<TypedStream>(*this);
  }

  int step(const void* floats, const Index* tokens, void* y) noexcept override {
    if (!(tokens ? stream_.takes_tokens() : stream_.takes_floats())) return FASTRNN_STEP_KIND;
    const Stay stay(gate_);
    if (stay.error) return stay.error;
    if (tokens && !(tokens = own(tokens))) return FASTRNN_STEP_TOKEN;
    try {
      stream_.step(static_cast<const R*>(floats), tokens, static_cast<R*>(y));
    } catch (...) {  // std::bad_alloc, when there are more threads
      return FASTRNN_STEP_MEMORY;
    }
    return FASTRNN_STEP_FINE;
  }

  int reset() noexcept override { return set_state(static_cast<const R*>(*start_)); }

  int get_state(void* state) noexcept override {
    const Stay stay(gate_);
    if (!stay.error) stream_.save(static_cast<R*>(state));
    return stay.error;
  }

  int set_state(const void* state) noexcept override {
    const Stay stay(gate_, true);
    if (!stay.error) stream_.restore(static_cast<const R*>(state));
    return stay.error;
  }

  Index about(int what) const noexcept override {
    switch (what) {
      case FASTRNN_STEP_INPUT_SIZE: return stream_.I();
      case FASTRNN_STEP_OUTPUT_SIZE: return stream_.O();
      case FASTRNN_STEP_BATCH: return stream_.B();
      case FASTRNN_STEP_ITEM_SIZE: return sizeof(R);
      case FASTRNN_STEP_TAKES_FLOATS: return stream_.takes_floats();
      case FASTRNN_STEP_TAKES_TOKENS: return stream_.takes_tokens();
      case FASTRNN_STEP_STATE_SIZE: return stream_.state_size();
      default: return -1;
    }
  }
};

// Of each stage a kind, records Parameters, if its cell is told any a record Options, a first state that is not zero, and if
// a function has some its numbers.
using Stages = std::vector<py::tuple>;

// That of the first stage that has any: its dtype is the stream's, and its columns what functions before it take.
py::array first_weight(const Stages& stages) {
  for (const py::tuple& stage : stages)
    if (const py::tuple layers(stage[1]); !layers.empty()) return array_field(layers[0], "w_ih");
  throw std::invalid_argument("a stream needs a layer");
}

template <class R>
StreamLayer<R> layer_of(const std::string& kind, const py::object& parameters) {
  if (kind == "linear") return {linear_parameters_of<R>(parameters), nullptr};
  if (kind == "embedding") {
    const py::array table = array_field(parameters, "w_ih");
    if (table.ndim() != 2) throw std::invalid_argument("weights: wrong rank for the kernels");
    const Index V = table.shape(0), E = table.shape(1);
    return {{.I = V, .H = E, .P = E, .w_ih = pointer<R>(table, {V, E}, "table")}, nullptr, true};
  }
  const Kernel<R>& cell = isa().table<R>().cells[find_cell(kind)];
  return {parameters_of(cell, parameters), &cell};
}

template <class R>
std::unique_ptr<AnyStream> make(const Stages& stages, Index B) {
  std::vector<StreamLayer<R>> layers;
  std::vector<Stack> stacks;
  States start;
  for (const py::tuple& stage : stages) {
    const auto kind = stage[0].cast<std::string>();
    const py::tuple numbers = stage.size() > 4 ? py::tuple(stage[4]) : py::tuple();
    if (const Function function = function_of(kind, numbers)) {
      const Index width = layers.empty() ? first_weight(stages).shape(1) : layers.back().P;
      layers.push_back({{.I = width, .H = width, .P = width}, nullptr, false, {}, function});
      continue;
    }
    const auto arrays = stage[1].cast<std::vector<py::object>>();
    const Stack stack{int(layers.size()), int(arrays.size())};
    for (const py::object& each : arrays) {
      StreamLayer<R> layer = layer_of<R>(kind, each);
      if (stage.size() > 2) layer.options = options_of(stage[2]);
      const bool fits = layers.empty() || (!layer.table && layer.I == layers.back().P);
      const bool stacked = int(layers.size()) > stack.first;  // and then all are of one size
      if (!fits || (stacked && (layer.H != layers.back().H || layer.P != layers.back().P)))
        throw std::invalid_argument("weights: a layer does not fit the one below it");
      layers.push_back(layer);
    }
    if (arrays.empty()) throw std::invalid_argument("a stage needs a layer");
    if (!layers.back().cell) continue;
    stacks.push_back(stack);
    start.push_back(stage.size() > 3 ? stage[3].cast<std::vector<py::array>>() : std::vector<py::array>());
  }
  if (B < 1) throw std::invalid_argument("a stream needs a batch");
  return std::make_unique<TypedStream<R>>(layers, std::move(stacks), start, B);
}

std::unique_ptr<AnyStream> make_stream(const Stages& stages, Index B) {
  return by_dtype(first_weight(stages), [&]<class R>(R) { return make<R>(stages, B); });
}

// A method as CPython itself has them: pybind11 takes as long to read the arguments as a small step.
PyObject* step(PyObject* self, PyObject* const* arguments, Py_ssize_t count) {
  auto* const stream = reinterpret_cast<py::detail::instance*>(self)->get_value_and_holder().value_ptr<AnyStream>();
  try {
    if (!stream || count != 2) throw py::type_error("step takes x and out");
    return stream->step(arguments[0], arguments[1]).release().ptr();
  } catch (...) {
    py::detail::try_translate_exceptions();
    return nullptr;
  }
}

PyMethodDef step_method{"step", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(&step)), METH_FASTCALL,
                        "step(self, x, out)\n\nNone, and nothing done, if x or out is not what it must be."};

AnyStream& at(void* address) { return *static_cast<AnyStream*>(address); }

const fastrnn_step_api step_api{
    .version = FASTRNN_STEP_VERSION,
    .size = sizeof(fastrnn_step_api),
    .step = [](void* stream, const void* x, void* y) { return at(stream).step(x, nullptr, y); },
    .step_tokens = [](void* stream, const std::int64_t* tokens, void* y) { return at(stream).step(nullptr, tokens, y); },
    .reset = [](void* stream) { return at(stream).reset(); },
    .get_state = [](void* stream, void* state) { return at(stream).get_state(state); },
    .set_state = [](void* stream, const void* state) { return at(stream).set_state(state); },
    .about = [](void* stream, int what) -> std::int64_t { return at(stream).about(what); },
    .message = &step_message,
};

}  // namespace

void bind_stream(py::module_& module) {
  py::class_<AnyStream> stream(module, "Stream", "See fastrnn.layers.stream.");
  stream.def(py::init(&make_stream), "stages"_a, "batch"_a)
      .def("steps", &AnyStream::steps, "None, and nothing done, if x is not what it must be.", "x"_a)
      .def("state", &AnyStream::state)
      .def("set_state", py::overload_cast<const States&>(&AnyStream::set_state), "states"_a)
      .def("reset", py::overload_cast<const Optional&>(&AnyStream::reset), "rows"_a)
      .def("copy", &AnyStream::copy)
      .def_property_readonly("address", [](AnyStream& self) { return reinterpret_cast<std::uintptr_t>(&self); });
  PyObject* const method = PyDescr_NewMethod(reinterpret_cast<PyTypeObject*>(stream.ptr()), &step_method);
  if (!method) throw py::error_already_set();
  stream.attr("step") = py::reinterpret_steal<py::object>(method);
  hold_safely<AnyStream>();
  module.attr("_step_api") = py::capsule(&step_api, FASTRNN_STEP_CAPSULE);
}

}  // namespace fastrnn
