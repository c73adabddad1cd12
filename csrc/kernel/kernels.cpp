// All of an ISA but the product (gemm.cpp): every cell in every dtype, behind one table.
#if FASTRNN_APPLIES  // to the processor that this is compiled for
#include "activations.h"
#include "backward.h"
#include "cells.h"
#include "elementwise.h"
#include "fingerprint.h"
#include "forward.h"
#include "linear.h"
#include "softmax.h"

namespace fastrnn::FASTRNN_ISA {
namespace {

template <class C, class R>
constexpr Kernel<R> kernel() {
  using F = ForwardPass<C, R>;
  using B = BackwardPass<C, R>;
  Kernel<R> k{};
  k.lanes = lanes<R>, k.gates = C::gates, k.slots = C::slots, k.states = C::states;
  k.sums = vector_groups<C>() + (C::whole_rows ? C::slots : 0);
  for (std::size_t i = 0; i < std::size(C::products); ++i) k.products[i] = C::products[i].count;
  for (int v = 0; v < most_vectors; ++v) k.vectors[v] = C::vectors.of[v];
  k.projects = !C::reads_h, k.has_row = std::size(C::products) > 1;
  k.pack = F::pack, k.forward_workspace = F::workspace, k.backward_workspace = B::workspace;
  k.forward = F::forward, k.rebuild = F::rebuild, k.backward = B::backward, k.gradients = B::gradients;
  return k;
}

template <class R>
constexpr LinearKernel<R> linear() {
  using F = LinearForward<R>;
  using B = LinearBackward<R>;
  return {{.lanes = lanes<R>, .gates = 1, .slots = 1, .products = {}, .vectors = {}, .projects = false, .pack = F::pack},
          F::forward, B::workspace, B::backward};
}

template <class R>
constexpr TrainingKernel<R> training() {
  return {cross_entropy<R>, sgd<R>, rmsprop<R>, adam<R>, scale<R>, sum_of_squares<R>, drop<R>};
}

template <class List>
struct CellTables;

template <class... C>
struct CellTables<List<C...>> {
  static constexpr int count = sizeof...(C);
  static constexpr const char* names[] = {C::name...};
  template <class R>
  static constexpr Kernel<R> kernels[] = {kernel<C, R>()...};
};

template <class R>
constexpr Table<R> table() {
  return {CellTables<Cells>::kernels<R>, linear<R>(), training<R>(), apply<R>};
}

}  // namespace

#define FASTRNN_STRING_(name) #name
#define FASTRNN_STRING(name) FASTRNN_STRING_(name)

extern const Isa isa;
const Isa isa = {FASTRNN_STRING(FASTRNN_ISA), CellTables<Cells>::names, CellTables<Cells>::count,
                 table<float>(), table<double>(), stir};

}  // namespace fastrnn::FASTRNN_ISA

#endif
