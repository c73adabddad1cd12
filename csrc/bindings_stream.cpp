// The stream's bindings. A step takes a microsecond, so its arguments are looked at here, once.
#include <mutex>

#include "arrays.h"
#include "dispatch.h"
#include "stream.h"

namespace fastrnn {
namespace {

// x, as float [..., I] or tokens [...].
template <class R>
struct Input {
  const R* x = nullptr;
  const Index* tokens = nullptr;

  explicit operator bool() const { return x || tokens; }
};

struct AnyStream {
  virtual ~AnyStream() = default;
  virtual py::object step(const py::handle& x, const py::handle& out) = 0;
  virtual py::array steps(const py::array& x) = 0;
  virtual py::tuple state() = 0;
  virtual void set_state(const std::vector<py::array>& members) = 0;
  virtual std::unique_ptr<AnyStream> copy() = 0;
};

template <class R>
class TypedStream : public AnyStream {
  Stream<R> stream_;
  std::mutex mutex_;

  // Steps cannot overlap: a second thread is told so.
  std::unique_lock<std::mutex> alone() {
    std::unique_lock lock(mutex_, std::try_to_lock);
    if (!lock) throw std::runtime_error("this stream is at work in another thread: make one for each thread");
    return lock;
  }

  template <class T>
  static const T* data(const py::handle& object, std::initializer_list<Index> shape) {
    if (!py::isinstance<py::array>(object)) return nullptr;
    const auto array = py::reinterpret_borrow<py::array>(object);
    const bool plain = py::dtype::of<T>().is(array.dtype()) && (array.flags() & py::array::c_style) &&
                       array.ndim() == py::ssize_t(shape.size()) &&
                       std::equal(shape.begin(), shape.end(), array.shape());
    return plain ? static_cast<const T*>(array.data()) : nullptr;
  }

  static bool within(const Index* tokens, Index count, Index I) {
    return std::all_of(tokens, tokens + count, [I](Index token) { return token >= 0 && token < I; });
  }

 public:
  TypedStream(const Kernel<R>& kernel, const std::vector<Parameters<R>>& layers, Index B) : stream_(kernel, layers, B) {}
  explicit TypedStream(const Stream<R>& other) : stream_(other) {}

  py::object step(const py::handle& x, const py::handle& out) override {
    const Index B = stream_.B(), I = stream_.I(), H = stream_.H();
    Input<R> input{data<R>(x, {B, I})};
    if (!input) input.tokens = data<Index>(x, {B});
    if (!input || (input.tokens && !within(input.tokens, B, I))) return py::none();
    if (out.is_none()) {
      py::array_t<R> y({B, H});
      advance(input, y.mutable_data());
      return y;
    }
    const R* y = data<R>(out, {B, H});
    if (!y || !py::reinterpret_borrow<py::array>(out).writeable()) return py::none();
    advance(input, const_cast<R*>(y));
    return py::reinterpret_borrow<py::object>(out);
  }

  void advance(const Input<R>& input, R* y) {
    constexpr double long_step = 1e6;  // for which others may have the interpreter
    const auto lock = alone();
    if (stream_.flops() < long_step) return stream_.step(input.x, input.tokens, y);
    const py::gil_scoped_release release;
    stream_.step(input.x, input.tokens, y);
  }

  py::array steps(const py::array& x) override {
    const Index T = x.shape(0), B = stream_.B();
    Input<R> input;
    if (x.ndim() == 3)
      input.x = pointer<R>(x, {T, B, stream_.I()}, "x");
    else
      input.tokens = pointer<Index>(x, {T, B}, "x");
    py::array_t<R> y = empty<R>({T, B, stream_.H()});
    R* to = y.mutable_data();
    const auto lock = alone();
    const py::gil_scoped_release release;
    stream_.steps(T, input.x, input.tokens, to, poll);
    return y;
  }

  py::tuple state() override {
    const auto lock = alone();
    const Index L = stream_.layers(), B = stream_.B(), H = stream_.H();
    py::array_t<R> h({L, B, H}), c({stream_.has_cells() ? L : 0, B, H});
    for (Index l = 0; l < L; ++l)
      stream_.get_state(int(l), h.mutable_data() + l * B * H, stream_.has_cells() ? c.mutable_data() + l * B * H : nullptr);
    if (stream_.has_cells()) return py::make_tuple(h, c);
    return py::make_tuple(h);
  }

  void set_state(const std::vector<py::array>& members) override {
    const auto lock = alone();
    const Index L = stream_.layers(), B = stream_.B(), H = stream_.H();
    const R* h = pointer<R>(members.at(0), {L, B, H}, "state");
    const R* c = stream_.has_cells() ? pointer<R>(members.at(1), {L, B, H}, "state") : nullptr;
    for (Index l = 0; l < L; ++l) stream_.set_state(int(l), h + l * B * H, c ? c + l * B * H : nullptr);
  }

  std::unique_ptr<AnyStream> copy() override {
    const auto lock = alone();
    return std::make_unique<TypedStream>(stream_);
  }
};

using LayerArrays = std::tuple<py::array, py::array, Optional, Optional>;  // w_ih, w_hh, b_ih, b_hh

template <class R>
std::unique_ptr<AnyStream> make(const Kernel<R>& kernel, const std::vector<LayerArrays>& layers, Index B) {
  std::vector<Parameters<R>> parameters;
  for (const auto& [w_ih, w_hh, b_ih, b_hh] : layers) {
    if (w_ih.ndim() != 2 || w_hh.ndim() != 2) throw std::invalid_argument("weights: wrong rank for the kernels");
    const Index I = w_ih.shape(1), H = w_hh.shape(1), rows = kernel.gates * H;
    parameters.push_back({I, H, pointer<R>(w_ih, {rows, I}, "w_ih"), pointer<R>(w_hh, {rows, H}, "w_hh"),
                          pointer<R>(b_ih, {rows}, "b_ih"), pointer<R>(b_hh, {rows}, "b_hh")});
  }
  if (parameters.empty() || B < 1) throw std::invalid_argument("a stream needs a layer and a batch");
  return std::make_unique<TypedStream<R>>(kernel, parameters, B);
}

std::unique_ptr<AnyStream> make_stream(const std::string& cell, const std::vector<LayerArrays>& layers, Index B) {
  const Cell& found = find_cell(cell);
  if (layers.empty() || is_float(std::get<0>(layers[0]))) return make<float>(found.f32, layers, B);
  return make<double>(found.f64, layers, B);
}

}  // namespace

void bind_stream(py::module_& module) {
  py::class_<AnyStream>(module, "Stream", "See fastrnn.layers.stream.")
      .def(py::init(&make_stream), "cell"_a, "layers"_a, "batch"_a)
      .def("step", &AnyStream::step, "None, and nothing done, if x or out is not what it must be.", "x"_a, "out"_a)
      .def("steps", &AnyStream::steps, "x"_a.noconvert())
      .def("state", &AnyStream::state)
      .def("set_state", &AnyStream::set_state, "members"_a)
      .def("copy", &AnyStream::copy);
}

}  // namespace fastrnn
