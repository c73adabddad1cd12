// Arrays of rows over time and batch, as the kernels read and write them.
#pragma once

#include <utility>
#include <vector>

#include "arrays.h"
#include "order.h"

namespace fastrnn {

// How rows over time and batch stand in an array.
enum class Form {
  time_first,   // (T, B, features)
  batch_first,  // (B, T, features)
  packed,       // (N, features): step after step, longest row first, without padding
};

// Rows over time and batch as kernels can read them in any order, features side by side; packed ones as T of a batch of one.
struct View {
  const void* data = nullptr;
  Index T = 0, B = 0;
  Index t = 0, b = 0;  // strides
};

// An array of this form, or of the same without features; if it is not that, null.
template <class R>
View view_of(const py::handle& object, Index features, Form form, const Tensors& tensors) {
  const bool packed = form == Form::packed;
  const int rank = (packed ? 1 : 2) + (features ? 1 : 0);
  const Index bytes = sizeof(R);
  const Numbers array = numbers_of<R>(object, tensors);
  if (array.rank != rank || (features && array.shape[rank - 1] != features)) return {};
  View view{array.data, array.shape[0], packed ? 1 : array.shape[1], array.strides[0], packed ? 0 : array.strides[1]};
  const bool nothing = view.T * view.B == 0;  // then strides are any numbers, as they are along an axis of one
  if (features > 1 && !nothing && array.strides[rank - 1] != bytes) return {};
  if (view.T < 2 || nothing) view.t = 0;
  if (view.B < 2 || nothing) view.b = 0;
  if (view.t % bytes || view.b % bytes) return {};
  view.t /= bytes, view.b /= bytes;
  if (form == Form::batch_first) std::swap(view.T, view.B), std::swap(view.t, view.b);
  return view;
}

// Copies indices, which may change in the caller's array, where that is a plain one.
inline bool copy_indices(const py::handle& object, std::vector<Index>& to, const Tensors& tensors) {
  const Numbers array = numbers_of<Index>(object, tensors);
  if (array.rank != 1 || !array.plain) return false;
  const auto* data = static_cast<const Index*>(array.data);
  to.assign(data, data + array.shape[0]);
  return true;
}

// From the numbers of rows that have each step, positive and not increasing, to the rows' lengths; or false.
inline bool lengths_of(const std::vector<Index>& sizes, Index rows, std::vector<Index>& lengths) {
  Index most = rows, left = rows;
  for (const Index size : sizes) {
    if (size < 1 || size > most || size > left) return false;
    most = size, left -= size;
  }
  if (left) return false;
  lengths.resize(sizes.empty() ? 0 : std::size_t(sizes[0]));
  std::size_t t = sizes.size();
  for (std::size_t r = 0; r < lengths.size(); lengths[r++] = Index(t))
    while (sizes[t - 1] <= Index(r)) --t;
  return true;
}

// A new array, or a tensor if there are such, and where its numbers are.
template <class R>
py::object make(const Shape& shape, R*& data, const Tensors& tensors) {
  if (tensors) return tensors.make(shape, data);
  py::array_t<R> array = empty<R>(shape);
  data = array.mutable_data();
  return array;
}

// One of rows.
template <class R>
py::object make_rows(const Order& order, Index width, Form form, Series<R>& to, const Tensors& tensors) {
  const Index T = order.T(), B = order.B();
  const bool packed = form == Form::packed, batch_first = form == Form::batch_first;
  const Shape shape = packed ? Shape{order.rows(), width} : batch_first ? Shape{B, T, width} : Shape{T, B, width};
  to = series<R>(nullptr, B, width);
  if (batch_first) to.t = width, to.b = T * width;
  if (packed) to.starts = order.offset();
  return make(shape, to.data, tensors);
}

}  // namespace fastrnn
