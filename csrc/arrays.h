// What the bindings have in common: NumPy arrays as pointers.
#pragma once

#include <pybind11/functional.h>
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <initializer_list>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "buffer.h"
#include "interpreter.h"
#include "tensors.h"

using namespace py::literals;

namespace fastrnn {

using Optional = std::optional<py::array>;
using Shape = std::vector<Index>;

constexpr int plain_flags = int(py::array::c_style) | int(py::detail::npy_api::NPY_ARRAY_ALIGNED_);

inline bool is_plain(const py::array& array) { return (array.flags() & plain_flags) == plain_flags; }

// No subclass, which may mean something else by its numbers.
inline bool is_ndarray(const py::handle& object) {
  return Py_TYPE(object.ptr()) == py::detail::npy_api::get().PyArray_Type_;
}

// NumPy has one of each for as long as the process lives.
template <class T>
py::handle dtype_of() {
  static const py::handle dtype = py::dtype::of<T>().release();
  return dtype;
}

template <class T>
bool has_dtype(const py::array& array) {
  const py::dtype dtype = array.dtype();  // equal ones are often the same, but not always
  return dtype.is(dtype_of<T>()) || dtype.equal(dtype_of<T>());
}

// How the numbers of an array lie, or of a tensor.
struct Numbers {
  static constexpr int most = 4;
  const void* data = nullptr;
  int rank = 0;
  Index shape[most], strides[most];  // in bytes
  bool plain = false;                // in order without gaps
  bool writeable = false;

  bool has_shape(std::initializer_list<Index> wanted) const {
    return rank == int(wanted.size()) && std::equal(wanted.begin(), wanted.end(), shape);
  }
};

// Of an aligned array of this dtype, and no subclass, or of a tensor, where such are taken; else of rank 0.
template <class T>
Numbers numbers_of(const py::handle& object, const Tensors& tensors = {}) {
  Numbers found;
  if (is_ndarray(object)) {
    const auto array = py::reinterpret_borrow<py::array>(object);
    const int flags = array.flags(), rank = int(array.ndim());
    if (rank > found.most || !(flags & py::detail::npy_api::NPY_ARRAY_ALIGNED_) || !has_dtype<T>(array)) return {};
    found.data = array.data(), found.rank = rank;
    std::copy_n(array.shape(), rank, found.shape), std::copy_n(array.strides(), rank, found.strides);
    found.plain = flags & py::array::c_style, found.writeable = array.writeable();
  } else if (dlpack::Tensor tensor; tensors.has(object) && tensors.look_at<T>(object, tensor) && tensor.rank <= found.most) {
    found.data = tensor.data, found.rank = tensor.rank;
    std::copy_n(tensor.shape, tensor.rank, found.shape);
    Index size = 1;
    found.plain = found.writeable = true;
    for (int axis = tensor.rank; axis-- > 0; size *= tensor.shape[axis]) {
      found.strides[axis] = tensor.strides[axis] * Index(sizeof(T));
      found.plain = found.plain && (tensor.strides[axis] == size || tensor.shape[axis] == 1);
    }
  }
  return found;
}

// The numbers of an array of this shape and dtype that is just as the kernels want it, or null.
template <class T>
const T* plain_data(const py::handle& object, std::initializer_list<Index> shape, const Tensors& tensors = {}) {
  if (is_ndarray(object)) {  // at once: of this a small step asks twice
    const auto array = py::reinterpret_borrow<py::array>(object);
    if (!is_plain(array) || array.ndim() != Index(shape.size()) || !has_dtype<T>(array)) return nullptr;
    const Index* found = array.shape();
    for (const Index n : shape)
      if (*found++ != n) return nullptr;
    return static_cast<const T*>(array.data());
  }
  const Numbers numbers = numbers_of<T>(object, tensors);
  return numbers.plain && numbers.has_shape(shape) ? static_cast<const T*>(numbers.data) : nullptr;
}

template <class R>
const R* pointer(const py::array& array, const Shape& shape, const char* name) {
  if (!py::dtype::of<R>().equal(array.dtype()) || !is_plain(array) ||
      array.ndim() != Index(shape.size()) || !std::equal(shape.begin(), shape.end(), array.shape()))
    throw std::invalid_argument(std::string(name) + ": wrong dtype, layout or shape for the kernels");
  return static_cast<const R*>(array.data());
}

template <class R>
const R* pointer(const std::optional<py::array>& array, const Shape& shape, const char* name) {
  return array ? pointer<R>(*array, shape, name) : nullptr;
}

// An array that is written to.
template <class R>
R* target(py::array& array, const Shape& shape, const char* name) {
  pointer<R>(array, shape, name);
  return static_cast<R*>(array.mutable_data());  // throws if it is read-only
}

// A new array in memory of ours, aligned to cache lines, and where its numbers are.
template <class R>
py::array_t<R> aligned(const Shape& shape, Index size, R*& data) {
  auto buffer = std::make_unique<Buffer<R>>(Buffer<R>{size});
  data = *buffer;
  const py::capsule owner(buffer.get(), [](void* p) { delete static_cast<Buffer<R>*>(p); });
  buffer.release();
  return py::array_t<R>(shape, data, owner);
}

// A new array; a large one in memory that is used again. A small one by NumPy's own function: pybind11's way to it takes
// as long as a small step.
template <class R>
py::array_t<R> empty(std::span<const Index> shape) {
  Index size = 1;
  for (const Index n : shape) size = product({size, n});
  R* data;
  if (size >= Index(least_kept / sizeof(R))) return aligned<R>(Shape(shape.begin(), shape.end()), size, data);
  const auto& numpy = py::detail::npy_api::get();
  PyObject* const made = numpy.PyArray_NewFromDescr_(numpy.PyArray_Type_, dtype_of<R>().inc_ref().ptr(), int(shape.size()),
                                                     shape.data(), nullptr, nullptr, 0, nullptr);
  if (!made) throw py::error_already_set();
  return py::reinterpret_steal<py::array_t<R>>(made);
}

template <class R>
py::array_t<R> empty(std::initializer_list<Index> shape) {
  return empty<R>(std::span(shape.begin(), shape.size()));
}

// Calls fn with a zero of the array's dtype, or of double if it is neither: then the kernels' door refuses it.
template <class F>
auto by_dtype(const py::array& array, const F& fn) {
  return py::dtype::of<float>().equal(array.dtype()) ? fn(0.0f) : fn(0.0);
}

// pybind11 notes where an object is, and then gives it to its holder. Where there is no memory for the note, it would free
// what its maker frees, too: so the object is forgotten. To be called once, when the class is bound.
template <class T>
void hold_safely() {
  static void (*usual)(py::detail::instance*, const void*);
  py::detail::type_info* const type = py::detail::get_type_info(typeid(T));
  usual = type->init_instance;
  type->init_instance = [](py::detail::instance* self, const void* holder) {
    try {
      usual(self, holder);
    } catch (...) {
      self->get_value_and_holder().value_ptr() = nullptr;
      throw;
    }
  };
}

// An array or None, of a record's field of this name; nothing is converted.
inline Optional optional_array(const py::object& object, const char* name) {
  if (object.is_none()) return std::nullopt;
  if (!py::isinstance<py::array>(object)) throw std::invalid_argument(std::string(name) + ": not an array");
  return py::reinterpret_borrow<py::array>(object);
}

inline Optional optional_field(const py::handle& record, const char* name) {
  return optional_array(record.attr(name), name);
}

inline py::array array_field(const py::handle& record, const char* name) {
  Optional found = optional_field(record, name);
  if (!found) throw std::invalid_argument(std::string(name) + ": missing");
  return *found;
}

// The class of a record of fastrnn.reference.
inline py::object record(const char* name) { return py::module_::import("fastrnn.reference").attr(name); }

inline bool within(const Index* indices, Index count, Index low, Index high) {
  return std::all_of(indices, indices + count, [=](Index index) { return index >= low && index <= high; });
}

// An array of what leads a kernel into others. It must be the caller's own, which nobody changes meanwhile.
inline const Index* indices(const py::array& array, const Shape& shape, Index low, Index high, const char* name) {
  const Index* data = pointer<Index>(array, shape, name);
  if (!within(data, array.size(), low, high)) throw std::invalid_argument(std::string(name) + ": out of range");
  return data;
}

// An array of booleans.
inline const std::uint8_t* truths(const py::array& array, const Shape& shape, const char* name) {
  return reinterpret_cast<const std::uint8_t*>(pointer<bool>(array, shape, name));
}

// The functions of a training step, in bindings_training.cpp.
void bind_training(py::module_& module);

// Recurrent layers, in bindings_layers.cpp.
void bind_layers(py::module_& module);

// Linear ones, in bindings_linear.cpp.
void bind_linear(py::module_& module);

// Calls of many of them, in bindings_many.cpp.
void bind_many(py::module_& module);

// Steps between tensors, in bindings_cell.cpp.
void bind_cell(py::module_& module);

// Streams, in bindings_stream.cpp.
void bind_stream(py::module_& module);

}  // namespace fastrnn
