// A step of one layer between tensors, which are read and written where they lie: a cell of PyTorch's takes some
// microseconds, in which there is no time to make arrays of its tensors.
#include <tuple>
#include <utility>

#include "arrays.h"
#include "dispatch.h"
#include "kept.h"
#include "stack.h"

namespace fastrnn {
namespace {

class CellStep {
  const int cell_;
  const Tensors tensors_;
  std::tuple<Shared<AllWeights<float>>, Shared<AllWeights<double>>> weights_{AllWeights<float>(1), AllWeights<double>(1)};

  // The numbers of a tensor of this shape, without gaps; None has none.
  template <class R>
  bool read(const py::handle& object, std::initializer_list<Index> shape, R*& to) const {
    return object.is_none() || (to = const_cast<R*>(plain_data<std::remove_const_t<R>>(object, shape, tensors_)));
  }

 public:
  CellStep(const std::string& cell, const py::type& tensor, const py::type& parameter)
      : cell_(find_cell(cell)), tensors_(tensor, parameter) {}

  bool takes_tensors() const { return bool(tensors_); }

  // h_n, and c_n or None; or None, and nothing done, where an argument is not as it must be.
  py::object run(const py::handle& x, const py::handle& h, const py::handle& c, const py::handle& w_ih, const py::handle& w_hh,
                 const py::handle& b_ih, const py::handle& b_hh) {
    const auto typed = [&]<class R>(R) -> py::object {
      const Numbers input = numbers_of<R>(x, tensors_), weight = numbers_of<R>(w_hh, tensors_);
      if (input.rank != 2 || weight.rank != 2) return py::none();
      const Index B = input.shape[0], I = input.shape[1], H = weight.shape[1];
      if (B < 1 || I < 1 || H < 1) return py::none();
      const Kernel<R>& kernel = isa().table<R>().cells[cell_];
      const Index rows = kernel.gates * H;
      const bool has_c = kernel.states > 1;
      Parameters<R> p{.I = I, .H = H, .P = H};
      StackCall<R> call;
      const R* rows_of_x = nullptr;
      if (!read(x, {B, I}, rows_of_x) || !read(h, {B, H}, call.h0) || !read(w_ih, {rows, I}, p.w_ih) ||
          !read(w_hh, {rows, H}, p.w_hh) || !read(b_ih, {rows}, p.b_ih) || !read(b_hh, {rows}, p.b_hh) ||
          !read(c, {B, H}, call.c0) || !p.w_ih || c.is_none() != (!has_c || h.is_none()))
        return py::none();
      const py::object h_n = tensors_.make({B, H}, call.h_n), c_n = has_c ? tensors_.make({B, H}, call.c_n) : py::none();
      call.order = {1, std::vector<Index>(std::size_t(B), 1)};
      call.x = series(rows_of_x, B, I);
      call.y = series(call.h_n, B, H);
      Shared<AllWeights<R>>& kept = std::get<Shared<AllWeights<R>>>(weights_);
      AllWeights<R> weights = kept.get();
      {
        const WithoutGil release;
        run_stack<R>({kernel, &p, 1, 1, Options{}}, call, weights, true, poll);
      }
      kept.set(std::move(weights));
      return py::make_tuple(h_n, c_n);
    };
    const py::object found = typed(0.0f);
    return found.is_none() ? typed(0.0) : found;
  }
};

}  // namespace

void bind_cell(py::module_& module) {
  py::class_<CellStep>(module, "CellStep", "A step of a cell between tensors. It keeps its weights packed while they are the same.")
      .def(py::init([](const std::string& cell, const py::type& tensor, const py::type& parameter) {
             return std::make_unique<CellStep>(cell, tensor, parameter);
           }),
           "cell"_a, "tensor"_a, "parameter"_a)
      .def_property_readonly("takes_tensors", &CellStep::takes_tensors)
      .def("run", &CellStep::run, "x"_a, "h"_a, "c"_a, "w_ih"_a, "w_hh"_a, "b_ih"_a, "b_hh"_a);
  hold_safely<CellStep>();
}

}  // namespace fastrnn
