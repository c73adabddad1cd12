// The stream's bindings. A step takes a microsecond, so its arguments are looked at here, once.
#include <pthread.h>

#include <atomic>

#include "arrays.h"
#include "dispatch.h"
#include "stream.h"

namespace fastrnn {
namespace {

// So often has this process come out of a fork, in which other threads are lost.
std::atomic<int> forks{0};
[[maybe_unused]] const int registered = pthread_atfork(nullptr, nullptr, [] { ++forks; });

// Lets in one thread at a time: a second one is told so.
class Gate {
  static constexpr int nobody = -1;
  std::atomic<int> inside_{nobody};  // or the forks when somebody came in

 public:
  class Stay {
    Gate& gate_;

   public:
    explicit Stay(Gate& gate) : gate_(gate) {}
    Stay(const Stay&) = delete;
    ~Stay() { gate_.inside_ = nobody; }
  };

  // `anew`: what is there may be half done.
  Stay enter(bool anew = false) {
    int found = nobody;
    const int now = forks;
    if (inside_.compare_exchange_strong(found, now)) return Stay(*this);
    if (found == now) throw std::runtime_error("this stream is at work in another thread: make one for each thread");
    if (!anew)
      throw std::runtime_error("this stream was at work in another thread when the process was forked: reset it first");
    inside_ = now;
    return Stay(*this);
  }
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
  Gate gate_;
  std::vector<Index> tokens_;  // [B]  of this step: the caller's may change

  // The numbers of an array of this shape and dtype that is just as the kernels want it, or null.
  template <class T>
  static const T* data(const py::handle& object, std::initializer_list<Index> shape) {
    if (Py_TYPE(object.ptr()) != py::detail::npy_api::get().PyArray_Type_) return nullptr;
    const auto array = py::reinterpret_borrow<py::array>(object);
    if (!is_plain(array) || array.ndim() != py::ssize_t(shape.size()) ||
        !std::equal(shape.begin(), shape.end(), array.shape()))
      return nullptr;
    const py::dtype wanted = py::dtype::of<T>(), dtype = array.dtype();  // equal ones are often the same, but not always
    return dtype.is(wanted) || dtype.equal(wanted) ? static_cast<const T*>(array.data()) : nullptr;
  }

 public:
  TypedStream(const Kernel<R>& kernel, const std::vector<Parameters<R>>& layers, Index B)
      : stream_(kernel, layers, B), tokens_(B) {}
  explicit TypedStream(const Stream<R>& other) : stream_(other), tokens_(other.B()) {}

  py::object step(const py::handle& x, const py::handle& out) override {
    const Index B = stream_.B(), I = stream_.I(), H = stream_.H();
    const R* floats = data<R>(x, {B, I});
    const Index* tokens = floats ? nullptr : data<Index>(x, {B});
    if (!floats && !tokens) return py::none();
    const auto stay = gate_.enter();
    if (tokens) {
      std::copy_n(tokens, B, tokens_.data());
      if (!within(tokens = tokens_.data(), B, 0, I - 1)) return py::none();
    }
    if (out.is_none()) {
      py::array_t<R> y({B, H});
      advance(floats, tokens, y.mutable_data());
      return y;
    }
    const R* y = data<R>(out, {B, H});
    if (!y || !py::reinterpret_borrow<py::array>(out).writeable()) return py::none();
    advance(floats, tokens, const_cast<R*>(y));
    return py::reinterpret_borrow<py::object>(out);
  }

  void advance(const R* x, const Index* tokens, R* y) {
    constexpr double long_step = 1e6;  // for which others may have the interpreter
    if (stream_.flops() < long_step) return stream_.step(x, tokens, y);
    const WithoutGil release;
    stream_.step(x, tokens, y);
  }

  py::array steps(const py::array& x) override {
    const Index T = x.shape(0), B = stream_.B(), I = stream_.I();
    const R* floats = x.ndim() == 3 ? pointer<R>(x, {T, B, I}, "x") : nullptr;
    const Index* tokens = floats ? nullptr : indices(x, {T, B}, 0, I - 1, "x");
    py::array_t<R> y = empty<R>({T, B, stream_.H()});
    R* to = y.mutable_data();
    const auto stay = gate_.enter();
    const WithoutGil release;
    stream_.steps(T, floats, tokens, to, poll);
    return y;
  }

  py::tuple state() override {
    const auto stay = gate_.enter();
    const Index L = stream_.layers(), B = stream_.B(), H = stream_.H();
    py::array_t<R> h({L, B, H}), c({stream_.has_cells() ? L : 0, B, H});
    for (Index l = 0; l < L; ++l)
      stream_.get_state(int(l), h.mutable_data() + l * B * H, stream_.has_cells() ? c.mutable_data() + l * B * H : nullptr);
    if (stream_.has_cells()) return py::make_tuple(h, c);
    return py::make_tuple(h);
  }

  void set_state(const std::vector<py::array>& members) override {
    const auto stay = gate_.enter(true);
    const Index L = stream_.layers(), B = stream_.B(), H = stream_.H();
    const R* h = pointer<R>(members.at(0), {L, B, H}, "state");
    const R* c = stream_.has_cells() ? pointer<R>(members.at(1), {L, B, H}, "state") : nullptr;
    for (Index l = 0; l < L; ++l) stream_.set_state(int(l), h + l * B * H, c ? c + l * B * H : nullptr);
  }

  std::unique_ptr<AnyStream> copy() override {
    const auto stay = gate_.enter();
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
    if (!parameters.empty() && (I != parameters[0].H || H != I))
      throw std::invalid_argument("weights: a layer does not fit the one below it");
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
