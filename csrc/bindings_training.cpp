// The second half of the bindings: what a training step does besides products. As in bindings.cpp, arguments have
// been checked in Python, and what is checked again is what would crash.
#include "arrays.h"
#include "dispatch.h"
#include "parts.h"
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

template <class Task>
struct Change {
  Task task;
  Index size;
};

// Arrays that change together: all are looked at before the first one changes, and from then on nothing fails.
template <template <class> class Task>
struct Changes {
  std::vector<Change<Task<float>>> of_float;
  std::vector<Change<Task<double>>> of_double;

  void add(const Task<float>& task, Index size) { of_float.push_back({task, size}); }
  void add(const Task<double>& task, Index size) { of_double.push_back({task, size}); }

  // Calls fn(task, first, last) for parts of each.
  template <class F>
  void make(double flops, const F& fn) const {
    const WithoutGil release;
    const auto all = [&](const auto& changes) {
      for (const auto& [task, size] : changes)
        in_parts(size, flops, never, [&task = task, &fn](Index first, Index last) { fn(task, first, last); });
    };
    all(of_float), all(of_double);
  }
};

// Tuples of a parameter, its gradient and its averages; SGD may have none.
using Given = std::vector<py::tuple>;

template <class F>
void update(const Given& given, bool has_m, bool has_v, const Options& options, const F& rule) {
  Changes<Update> changes;
  for (const py::tuple& arrays : given) {
    std::size_t next = 0;
    const auto array = [&] {
      return next < arrays.size() ? optional_array(arrays[next++], "parameter, gradient or average") : std::nullopt;
    };
    Optional p = array();
    const Optional g = array();
    Optional m = has_m ? array() : std::nullopt, v = has_v ? array() : std::nullopt;
    if (!p || !g || (has_v && (!v || (has_m && !m))) || next != arrays.size())
      throw std::invalid_argument("parameter, gradient and averages: another number than the rule takes");
    by_dtype(*p, [&]<class R>(R) {
      const Shape shape = shape_of(*p);
      changes.add(Update<R>{target<R>(*p, shape, "parameter"), pointer<R>(*g, shape, "gradient"),
                            m ? target<R>(*m, shape, "m") : nullptr, v ? target<R>(*v, shape, "v") : nullptr,
                            options.rate, options.decay, options.beta1, options.beta2, options.eps},
                  p->size());
    });
  }
  changes.make(32.0, [&]<class R>(const Update<R>& task, Index first, Index last) {
    (kernel<R>().*rule(R()))(task, first, last);
  });
}

void sgd(const Given& given, double lr, double momentum, double weight_decay) {
  update(given, true, false, {.rate = lr, .decay = weight_decay, .beta1 = momentum},
         []<class R>(R) { return &TrainingKernel<R>::sgd; });
}

void rmsprop(const Given& given, double lr, double alpha, double eps) {
  update(given, false, true, {.rate = lr, .beta2 = alpha, .eps = eps},
         []<class R>(R) { return &TrainingKernel<R>::rmsprop; });
}

void adam(const Given& given, double rate, double kept, double beta1, double beta2, double eps) {
  update(given, true, true, {.rate = rate, .decay = kept, .beta1 = beta1, .beta2 = beta2, .eps = eps},
         []<class R>(R) { return &TrainingKernel<R>::adam; });
}

template <class R>
double squares(const py::array& x) {
  const R* data = pointer<R>(x, shape_of(x), "x");
  const auto size = x.size();
  const WithoutGil release;
  return sum_of_squares(kernel<R>(), data, size, poll);
}

template <class R>
struct Scaling {
  R* data;
};

void scale(std::vector<py::array> arrays, double factor) {
  Changes<Scaling> changes;
  for (py::array& x : arrays)
    by_dtype(x, [&]<class R>(R) { changes.add(Scaling<R>{target<R>(x, shape_of(x), "x")}, x.size()); });
  changes.make(8.0, [&]<class R>(const Scaling<R>& task, Index first, Index last) {
    kernel<R>().scale(task.data, R(factor), first, last);
  });
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
  module.def("sgd", &sgd, "See fastrnn.reference.sgd.", "given"_a, "lr"_a, "momentum"_a, "weight_decay"_a);
  module.def("rmsprop", &rmsprop, "See fastrnn.reference.rmsprop.", "given"_a, "lr"_a, "alpha"_a, "eps"_a);
  module.def("adam", &adam, "See fastrnn.reference.adam.", "given"_a, "rate"_a, "kept"_a, "beta1"_a, "beta2"_a, "eps"_a);
  module.def(
      "sum_of_squares", [](const py::array& x) { return by_dtype(x, [&]<class R>(R) { return squares<R>(x); }); },
      "See fastrnn.reference.sum_of_squares.", "x"_a.noconvert());
  module.def("scale", &scale, "See fastrnn.reference.scale.", "arrays"_a, "factor"_a);
  module.def(
      "drop",
      [](const py::array& x, const py::array& random, int threshold, double scale) {
        return by_dtype(x, [&]<class R>(R) { return drop<R>(x, random, threshold, scale); });
      },
      "See fastrnn.reference.drop.", "x"_a.noconvert(), "random"_a.noconvert(), "threshold"_a, "scale"_a);
}

}  // namespace fastrnn
