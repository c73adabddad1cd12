// Records of fastrnn.reference as the kernels read them.
#pragma once

#include <vector>

#include "arrays.h"
#include "fastrnn.h"

namespace fastrnn {

// The arrays of a record `Parameters`.
inline std::vector<py::array> arrays_of(const py::handle& parameters) {
  return parameters.attr("arrays")().cast<std::vector<py::array>>();
}

// Where they are, of a layer of this cell; the record has to stay.
template <class R>
Parameters<R> parameters_of(const Packing<R>& cell, const py::handle& parameters) {
  const py::array w_ih = array_field(parameters, "w_ih"), w_hh = array_field(parameters, "w_hh");
  if (w_ih.ndim() != 2 || w_hh.ndim() != 2) throw std::invalid_argument("weights: wrong rank for the kernels");
  const Index I = w_ih.shape(1), H = w_hh.shape(1), rows = cell.gates * H;
  return {.I = I,
          .H = H,
          .P = H,
          .w_ih = pointer<R>(w_ih, {rows, I}, "w_ih"),
          .w_hh = pointer<R>(w_hh, {rows, H}, "w_hh"),
          .b_ih = pointer<R>(optional_field(parameters, "b_ih"), {rows}, "b_ih"),
          .b_hh = pointer<R>(optional_field(parameters, "b_hh"), {rows}, "b_hh")};
}

// Those of y = x W^T + b, whose record has no w_hh.
template <class R>
Parameters<R> linear_parameters_of(const py::handle& parameters) {
  const py::array weight = array_field(parameters, "w_ih");
  if (weight.ndim() != 2) throw std::invalid_argument("weights: wrong rank for the kernels");
  const Index O = weight.shape(0), I = weight.shape(1);
  return {.I = I,
          .H = O,
          .P = O,
          .w_ih = pointer<R>(weight, {O, I}, "weight"),
          .b_ih = pointer<R>(optional_field(parameters, "b_ih"), {O}, "bias")};
}

// A record `Options`, which the cells of today are not told.
inline Options options_of(const py::handle&) { return {}; }

}  // namespace fastrnn
