// The second half of the bindings: what a training step does besides products. As in bindings.cpp, arguments have
// been checked in Python, and what is checked again is what would crash.
#include "arrays.h"
#include "dispatch.h"
#include "training.h"

namespace fastrnn {
namespace {

template <class R>
const TrainingKernel<R>& kernel() {
  return isa().table<R>().training;
}

Shape shape_of(const py::array& array) { return {array.shape(), array.shape() + array.ndim()}; }

template <class R>
py::tuple cross_entropy(const py::array& logits, const py::array& targets) {
  if (logits.ndim() != 2 || logits.shape(1) == 0) throw std::invalid_argument("logits: wrong shape for the kernels");
  CrossEntropy<R> task{};
  task.N = logits.shape(0), task.V = logits.shape(1);
  task.logits = pointer<R>(logits, {task.N, task.V}, "logits");
  task.targets = pointer<Index>(targets, {task.N}, "targets");
  py::array_t<R> dlogits = empty<R>({task.N, task.V});
  task.dlogits = dlogits.mutable_data();
  double loss;
  {
    const WithoutGil release;
    loss = softmax_cross_entropy(kernel<R>(), task, poll);
  }
  return py::make_tuple(loss, dlogits);
}

// What changes arrays goes on to the end, whatever signals come: half of it would be of no use.
const Poll never = [] {};

// The numbers of an update, and one of the kernels' three rules.
struct Options {
  double rate = 0, decay = 0, beta1 = 0, beta2 = 0, eps = 0;
};

template <class R>
using Rule = void (*TrainingKernel<R>::*)(const Update<R>&, Index, Index) noexcept;

template <class R>
void update(Rule<R> rule, py::array& p, const py::array& g, py::array* m, py::array* v, const Options& options) {
  const Shape shape = shape_of(p);
  const Update<R> task{target<R>(p, shape, "parameter"), pointer<R>(g, shape, "gradient"),
                       m ? target<R>(*m, shape, "m") : nullptr, v ? target<R>(*v, shape, "v") : nullptr,
                       options.rate, options.decay, options.beta1, options.beta2, options.eps};
  const auto size = p.size();
  const WithoutGil release;
  in_parts(size, 32.0, never, [&](Index first, Index last) { (kernel<R>().*rule)(task, first, last); });
}

void sgd(py::array p, py::array g, Optional m, double lr, double momentum, double weight_decay) {
  by_dtype(p, [&]<class R>(R) {
    update<R>(&TrainingKernel<R>::sgd, p, g, m ? &*m : nullptr, nullptr,
              {.rate = lr, .decay = weight_decay, .beta1 = momentum});
  });
}

void rmsprop(py::array p, py::array g, py::array v, double lr, double alpha, double eps) {
  by_dtype(p, [&]<class R>(R) {
    update<R>(&TrainingKernel<R>::rmsprop, p, g, nullptr, &v, {.rate = lr, .beta2 = alpha, .eps = eps});
  });
}

void adam(py::array p, py::array g, py::array m, py::array v, double rate, double kept, double beta1, double beta2,
          double eps) {
  by_dtype(p, [&]<class R>(R) {
    update<R>(&TrainingKernel<R>::adam, p, g, &m, &v,
              {.rate = rate, .decay = kept, .beta1 = beta1, .beta2 = beta2, .eps = eps});
  });
}

template <class R>
double squares(const py::array& x) {
  const R* data = pointer<R>(x, shape_of(x), "x");
  const auto size = x.size();
  const WithoutGil release;
  return sum_of_squares(kernel<R>(), data, size, poll);
}

template <class R>
void multiply(py::array& x, double factor) {
  R* data = target<R>(x, shape_of(x), "x");
  const auto size = x.size();
  const WithoutGil release;
  in_parts(size, 8.0, never, [&](Index first, Index last) { kernel<R>().scale(data, R(factor), first, last); });
}

template <class R>
py::array drop(const py::array& x, const py::array& random, int threshold, double scale) {
  const Shape shape = shape_of(x);
  py::array_t<R> y = empty<R>(shape);
  const auto size = x.size();
  const Drop<R> task{pointer<R>(x, shape, "x"), pointer<std::uint16_t>(random, {size}, "random"), y.mutable_data(),
                     threshold, R(scale)};
  {
    const WithoutGil release;
    in_parts(size, 16.0, poll, [&](Index first, Index last) { kernel<R>().drop(task, first, last); });
  }
  return y;
}

}  // namespace

void bind_training(py::module_& module) {
  module.def(
      "softmax_cross_entropy",
      [](const py::array& logits, const py::array& targets) {
        return by_dtype(logits, [&]<class R>(R) { return cross_entropy<R>(logits, targets); });
      },
      "See fastrnn.reference.softmax_cross_entropy.", "logits"_a.noconvert(), "targets"_a.noconvert());
  module.def("sgd", &sgd, "See fastrnn.reference.sgd.", "p"_a.noconvert(), "g"_a.noconvert(), "m"_a.noconvert(),
             "lr"_a, "momentum"_a, "weight_decay"_a);
  module.def("rmsprop", &rmsprop, "See fastrnn.reference.rmsprop.", "p"_a.noconvert(), "g"_a.noconvert(),
             "v"_a.noconvert(), "lr"_a, "alpha"_a, "eps"_a);
  module.def("adam", &adam, "See fastrnn.reference.adam.", "p"_a.noconvert(), "g"_a.noconvert(), "m"_a.noconvert(),
             "v"_a.noconvert(), "rate"_a, "kept"_a, "beta1"_a, "beta2"_a, "eps"_a);
  module.def(
      "sum_of_squares", [](const py::array& x) { return by_dtype(x, [&]<class R>(R) { return squares<R>(x); }); },
      "See fastrnn.reference.sum_of_squares.", "x"_a.noconvert());
  module.def(
      "scale",
      [](py::array x, double factor) { by_dtype(x, [&]<class R>(R) { multiply<R>(x, factor); }); },
      "See fastrnn.reference.scale.", "x"_a.noconvert(), "factor"_a);
  module.def(
      "drop",
      [](const py::array& x, const py::array& random, int threshold, double scale) {
        return by_dtype(x, [&]<class R>(R) { return drop<R>(x, random, threshold, scale); });
      },
      "See fastrnn.reference.drop.", "x"_a.noconvert(), "random"_a.noconvert(), "threshold"_a, "scale"_a);
}

}  // namespace fastrnn
