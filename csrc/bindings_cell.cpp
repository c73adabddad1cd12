// A step of one layer between another library's tensors, which are read and written where they lie: a cell of PyTorch's
// takes some microseconds, in which there is no time to make arrays of its tensors. Their library tells where they lie by
// a table of functions that DLPack describes, and which it offers as `__dlpack_c_exchange_api__`.
#include <tuple>

#include "arrays.h"
#include "dispatch.h"
#include "kept.h"
#include "stack.h"

namespace fastrnn {
namespace {

// As DLPack lays them out.
struct Described {
  char* data;
  std::int32_t device, device_id;
  std::int32_t rank;
  std::uint8_t code, bits;
  std::uint16_t lanes;
  const std::int64_t* shape;
  const std::int64_t* strides;
  std::uint64_t offset;
};

struct Exchange {
  std::uint32_t major, minor;
  const Exchange* previous;
  const void *allocate, *take, *give;
  int (*describe)(void* object, Described* to);  // or null; -1 with a Python exception
};

constexpr std::int32_t on_cpu = 1;
constexpr std::uint8_t is_float = 2;

class CellStep {
  const int cell_;
  const py::tuple types_;  // of tensors that the table can describe
  const py::object capsule_;
  const Exchange& exchange_;
  std::tuple<Shared<AllWeights<float>>, Shared<AllWeights<double>>> weights_{AllWeights<float>(1), AllWeights<double>(1)};

  static const Exchange& exchange_of(const py::object& capsule) {
    const void* table = PyCapsule_GetPointer(capsule.ptr(), "dlpack_exchange_api");
    if (!table) throw py::error_already_set();
    const Exchange& exchange = *static_cast<const Exchange*>(table);
    if (exchange.major != 1 || !exchange.describe) throw std::invalid_argument("exchange: another version of DLPack");
    return exchange;
  }

  // Whether it is a tensor on the CPU with no gaps.
  bool describe(const py::handle& object, Described& to) const {
    const auto type = py::handle(reinterpret_cast<PyObject*>(Py_TYPE(object.ptr())));
    if (std::none_of(types_.begin(), types_.end(), [&](const py::handle& each) { return each.is(type); })) return false;
    if (exchange_.describe(object.ptr(), &to)) {
      PyErr_Clear();
      return false;
    }
    if (to.device != on_cpu || to.code != is_float || to.lanes != 1 || to.rank < 1 || to.rank > 2) return false;
    to.data += to.offset;
    return to.data && to.strides[to.rank - 1] == 1 && (to.rank == 1 || to.shape[0] == 1 || to.strides[0] == to.shape[1]);
  }

  // The numbers of a tensor of this shape; None has none.
  template <class R>
  bool read(const py::handle& object, std::initializer_list<Index> shape, R*& to) const {
    if (object.is_none()) return true;
    Described tensor;
    if (!describe(object, tensor) || tensor.bits != 8 * sizeof(R) || std::size_t(tensor.rank) != shape.size() ||
        !std::equal(shape.begin(), shape.end(), tensor.shape) || reinterpret_cast<std::uintptr_t>(tensor.data) % sizeof(R))
      return false;
    to = reinterpret_cast<R*>(tensor.data);
    return true;
  }

 public:
  CellStep(const std::string& cell, py::tuple types, py::object exchange)
      : cell_(find_cell(cell)), types_(std::move(types)), capsule_(std::move(exchange)), exchange_(exchange_of(capsule_)) {}

  // Writes to h_n and c_n; or false, and nothing done, where an argument is not as it must be.
  bool run(const py::handle& x, const py::handle& h, const py::handle& c, const py::handle& w_ih, const py::handle& w_hh,
           const py::handle& b_ih, const py::handle& b_hh, const py::handle& h_n, const py::handle& c_n) {
    Described input, weight;
    if (!describe(x, input) || input.rank != 2 || !describe(w_hh, weight) || weight.rank != 2) return false;
    const Index B = input.shape[0], I = input.shape[1], H = weight.shape[1];
    if (B < 1 || I < 1 || H < 1) return false;
    const auto typed = [&]<class R>(R) {
      const Kernel<R>& kernel = isa().table<R>().cells[cell_];
      const Index rows = kernel.gates * H;
      const bool has_c = kernel.states > 1;
      Parameters<R> p{.I = I, .H = H, .P = H};
      StackCall<R> call;
      const R* rows_of_x = nullptr;
      if (!read(x, {B, I}, rows_of_x) || !read(h, {B, H}, call.h0) || !read(w_ih, {rows, I}, p.w_ih) ||
          !read(w_hh, {rows, H}, p.w_hh) || !read(b_ih, {rows}, p.b_ih) || !read(b_hh, {rows}, p.b_hh) ||
          !read(h_n, {B, H}, call.h_n) || !p.w_ih || !call.h_n || c.is_none() != (!has_c || h.is_none()) || c_n.is_none() == has_c)
        return false;
      if (has_c && (!read(c, {B, H}, call.c0) || !read(c_n, {B, H}, call.c_n))) return false;
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
      return true;
    };
    return input.bits == 64 ? typed(0.0) : typed(0.0f);
  }
};

}  // namespace

void bind_cell(py::module_& module) {
  py::class_<CellStep>(module, "CellStep", "A step of a cell between tensors. It keeps its weights packed while they are the same.")
      .def(py::init<const std::string&, py::tuple, py::object>(), "cell"_a, "types"_a, "exchange"_a)
      .def("run", &CellStep::run, "x"_a, "h"_a, "c"_a, "w_ih"_a, "w_hh"_a, "b_ih"_a, "b_hh"_a, "h_n"_a, "c_n"_a);
}

}  // namespace fastrnn
