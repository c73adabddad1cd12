// Records of fastrnn.reference as the kernels read them.
#pragma once

#include <vector>

#include "arrays.h"
#include "fastrnn.h"

namespace fastrnn {

inline Format format_of(const py::handle& parameters) {
  static const std::pair<const char*, Format> names[] = {{"float32", Format::full},
                                                         {"float16", Format::float16},
                                                         {"bfloat16", Format::bfloat16},
                                                         {"int8", Format::int8},
                                                         {"int8x8", Format::int8x8}};
  const auto name = parameters.attr("format").cast<std::string>();
  for (const auto& [known, format] : names)
    if (name == known) return format;
  throw std::invalid_argument("unknown format '" + name + "'");
}

// The arrays of a record `Parameters`.
inline std::vector<py::array> arrays_of(const py::handle& parameters) {
  return parameters.attr("arrays")().cast<std::vector<py::array>>();
}

// A record `Parameters`, taken apart.
struct ParameterArrays {
  py::array w_ih;
  Optional w_hh, b_ih, b_hh, w_hr;
  std::vector<py::array> vectors;
  Format format;

  explicit ParameterArrays(const py::handle& record)
      : w_ih(array_field(record, "w_ih")), w_hh(optional_field(record, "w_hh")), b_ih(optional_field(record, "b_ih")),
        b_hh(optional_field(record, "b_hh")), w_hr(optional_field(record, "w_hr")), format(format_of(record)) {
    for (const py::handle vector : record.attr("vectors"))
      vectors.push_back(optional_array(py::reinterpret_borrow<py::object>(vector), "vectors").value());
  }

  // Of a cell: its letters, and where its arrays are.
  template <class R>
  Parameters<R> of(const Packing<R>& cell) const {
    if (!w_hh) throw std::invalid_argument("w_hh: missing");
    if (w_ih.ndim() != 2 || w_hh->ndim() != 2 || (w_hr && w_hr->ndim() != 2))
      throw std::invalid_argument("w_ih, w_hh or w_hr: wrong rank for the kernels");
    if (w_hr && !cell.projects) throw std::invalid_argument("w_hr: this cell has no projection");
    if (vectors.size() > std::size_t(most_vectors)) throw std::invalid_argument("vectors: too many");
    const Index I = w_ih.shape(1), P = w_hh->shape(1), H = w_hr ? Index(w_hr->shape(1)) : P, rows = cell.gates * H;
    Parameters<R> p{.I = I,
                    .H = H,
                    .P = P,
                    .w_ih = pointer<R>(w_ih, {rows, I}, "w_ih"),
                    .w_hh = pointer<R>(w_hh, {rows, P}, "w_hh"),
                    .b_ih = pointer<R>(b_ih, {rows}, "b_ih"),
                    .b_hh = pointer<R>(b_hh, {rows}, "b_hh"),
                    .w_hr = pointer<R>(w_hr, {P, H}, "w_hr"),
                    .format = sizeof(R) == sizeof(float) ? format : Format::full};
    for (std::size_t v = 0; v < vectors.size(); ++v)
      p.vectors[v] = pointer<R>(vectors[v], {cell.vectors[v] * H}, "vectors");
    return p;
  }

  // New arrays for their gradients, as a record, and where these are.
  template <class R>
  std::pair<py::object, ParametersOf<R>> gradients(const Parameters<R>& p) const {
    ParametersOf<R> to{.I = p.I, .H = p.H, .P = p.P};
    const auto like = [](const Optional& array, R*& data) -> py::object {
      if (!array) return py::none();
      py::array_t<R> made = empty<R>(Shape(array->shape(), array->shape() + array->ndim()));
      data = made.mutable_data();
      return made;
    };
    py::tuple own(vectors.size());
    for (std::size_t v = 0; v < vectors.size(); ++v) own[v] = like(vectors[v], to.vectors[v]);
    py::object record = fastrnn::record("Parameters")(like(w_ih, to.w_ih), like(w_hh, to.w_hh), like(b_ih, to.b_ih),
                                                      like(b_hh, to.b_hh), like(w_hr, to.w_hr), own);
    return {record, to};
  }
};

// Where its arrays are, of a layer of this cell; the record has to stay.
template <class R>
Parameters<R> parameters_of(const Packing<R>& cell, const py::handle& record) { return ParameterArrays(record).of<R>(cell); }

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
          .b_ih = pointer<R>(optional_field(parameters, "b_ih"), {O}, "bias"),
          .format = sizeof(R) == sizeof(float) ? format_of(parameters) : Format::full};
}

inline Activation activation_of(const std::string& name) {
  static const std::pair<const char*, Activation> names[] = {
      {"sigmoid", Activation::sigmoid}, {"hard_sigmoid", Activation::hard_sigmoid},
      {"hard_sigmoid_6", Activation::hard_sigmoid_6}, {"tanh", Activation::tanh},
      {"relu", Activation::relu}, {"linear", Activation::linear}};
  for (const auto& [known, activation] : names)
    if (name == known) return activation;
  throw std::invalid_argument("unknown activation '" + name + "'");
}

// The function of this name and its numbers; none if there is none.
inline Function function_of(const std::string& name, const py::tuple& numbers) {
  static const struct {
    const char* name;
    Function::Name function;
    std::size_t numbers;
  } known[] = {
      {"relu", Function::relu, 0},       {"leaky_relu", Function::leaky_relu, 1},     {"elu", Function::elu, 2},
      {"tanh", Function::tanh, 0},       {"sigmoid", Function::sigmoid, 0},           {"silu", Function::silu, 0},
      {"gelu", Function::gelu, 0},       {"hard_sigmoid", Function::hard_sigmoid, 1}, {"softsign", Function::softsign, 0},
      {"softmax", Function::softmax, 0}, {"exp", Function::exp, 0}};
  for (const auto& each : known) {
    if (name != each.name) continue;
    if (numbers.size() != each.numbers) throw std::invalid_argument(name + ": another number of numbers than it takes");
    Function function{each.function};
    for (std::size_t i = 0; i < each.numbers; ++i) function.numbers[i] = numbers[i].cast<double>();
    return function;
  }
  return {};
}

inline Options options_of(const py::handle& record) {
  Options options{.gate = activation_of(record.attr("gate").cast<std::string>()),
                  .state = activation_of(record.attr("state").cast<std::string>()),
                  .output = activation_of(record.attr("output").cast<std::string>()),
                  .coupled = record.attr("coupled").cast<bool>()};
  if (const py::object clip = record.attr("clip"); !clip.is_none()) options.clip = clip.cast<double>();
  return options;
}

}  // namespace fastrnn
