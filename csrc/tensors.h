// Tensors of PyTorch as arguments and results, by DLPack's C exchange API: functions that a tensor's class has in a table
// from PyTorch 2.10 on. The structures are those of dmlc.github.io/dlpack, version 1.
#pragma once

#include <cstdint>
#include <memory>
#include <type_traits>
#include <vector>

#include "buffer.h"
#include "interpreter.h"

namespace fastrnn {

namespace dlpack {

struct Version {
  std::uint32_t major = 1, minor = 0;
};

struct Tensor {
  void* data;
  std::int32_t device, device_number;
  std::int32_t rank;
  std::uint8_t kind, bits;
  std::uint16_t lanes;
  std::int64_t *shape, *strides;  // in numbers
  std::uint64_t offset;           // in bytes
};
constexpr std::int32_t cpu = 1;
constexpr std::uint8_t integer = 0, floating = 2, boolean = 6;

struct Managed {
  Version version;
  void* owner;
  void (*free)(Managed*);
  std::uint64_t flags = 0;
  Tensor tensor;
};

struct Table {
  Version version;
  const Table* before;
  void* allocate;
  void* managed_of;
  int (*object_of)(Managed*, void** object);
  int (*look_at)(void* object, Tensor*);
  void* stream;
};

}  // namespace dlpack

class Tensors {
  const PyTypeObject *type_ = nullptr, *parameter_ = nullptr;
  const dlpack::Table* table_ = nullptr;

 public:
  Tensors() = default;

  // Of a tensor's class and that of parameters, which has the same functions. They live as long as the process.
  Tensors(const py::type& tensor, const py::type& parameter)
      : type_(reinterpret_cast<PyTypeObject*>(tensor.ptr())), parameter_(reinterpret_cast<PyTypeObject*>(parameter.ptr())) {
    const py::object capsule = py::getattr(tensor, "__dlpack_c_exchange_api__", py::none());
    if (!PyCapsule_IsValid(capsule.ptr(), "dlpack_exchange_api")) return;
    table_ = static_cast<const dlpack::Table*>(PyCapsule_GetPointer(capsule.ptr(), "dlpack_exchange_api"));
    while (table_ && table_->version.major != 1) table_ = table_->before;
    if (table_ && !(table_->object_of && table_->look_at)) table_ = nullptr;
  }

  explicit operator bool() const { return table_; }

  // Whether it is one of just these classes.
  bool has(const py::handle& object) const {
    return table_ && (Py_TYPE(object.ptr()) == type_ || Py_TYPE(object.ptr()) == parameter_);
  }

  // Looks at one that is nothing but aligned numbers of this dtype in the process's memory, and says whether it is.
  template <class T>
  bool look_at(const py::handle& object, dlpack::Tensor& tensor) const {
    if (table_->look_at(object.ptr(), &tensor) != 0) {
      PyErr_Clear();
      return false;
    }
    constexpr std::uint8_t kind = std::is_same_v<T, bool>            ? dlpack::boolean
                                  : std::is_floating_point_v<T> ? dlpack::floating
                                                                : dlpack::integer;
    return tensor.device == dlpack::cpu && tensor.kind == kind && tensor.bits == 8 * sizeof(T) && tensor.lanes == 1 &&
           tensor.offset == 0 && std::uintptr_t(tensor.data) % alignof(T) == 0 && !is_negated(object);
  }

  // A new one, and where its numbers are.
  template <class T>
  py::object make(const std::vector<Index>& shape, T*& data) const {
    struct Owned {
      dlpack::Managed managed;
      Buffer<T> buffer;
      std::int64_t shape[4], strides[4];
    };
    auto owned = std::make_unique<Owned>();
    const auto rank = std::int32_t(shape.size());
    Index size = 1;
    for (std::int32_t axis = rank; axis-- > 0; size = product({size, shape[axis]}))
      owned->shape[axis] = shape[axis], owned->strides[axis] = size;
    owned->buffer = Buffer<T>{size};
    data = owned->buffer;
    owned->managed.owner = owned.get();
    owned->managed.free = [](dlpack::Managed* managed) { delete static_cast<Owned*>(managed->owner); };
    owned->managed.tensor = {.data = data, .device = dlpack::cpu, .device_number = 0, .rank = rank,
                             .kind = dlpack::floating, .bits = 8 * sizeof(T), .lanes = 1,
                             .shape = owned->shape, .strides = owned->strides, .offset = 0};
    void* object = nullptr;
    if (table_->object_of(&owned.release()->managed, &object) != 0) throw py::error_already_set();
    return py::reinterpret_steal<py::object>(static_cast<PyObject*>(object));
  }

 private:
  // Whether the numbers are another sign's: a view of a conjugate's imaginary part.
  static bool is_negated(const py::handle& object) {
    static PyObject* const name = PyUnicode_InternFromString("is_neg");
    PyObject* const found = PyObject_CallMethodNoArgs(object.ptr(), name);
    if (!found) PyErr_Clear();
    Py_XDECREF(found);
    return found != Py_False;
  }
};

}  // namespace fastrnn
