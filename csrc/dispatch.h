// Which ISA runs here.
#pragma once

#include <string>
#include <vector>

#include "fastrnn.h"

namespace fastrnn {

// The one in use: the best that this CPU has, or what FASTRNN_ISA names.
const Isa& isa();

// Names that this build has and this CPU can run, the best last.
std::vector<std::string> available_isas();

// Throws std::invalid_argument, naming what there is, if the CPU or the build lacks it.
void set_isa(const std::string& name);

const Cell& find_cell(const std::string& name);

// Of the two dtypes the one that is meant.
template <class R>
const Kernel<R>& kernel_of(const Cell& cell) {
  if constexpr (sizeof(R) == sizeof(float))
    return cell.f32;
  else
    return cell.f64;
}

template <class R>
const LinearKernel<R>& linear_kernel() {
  if constexpr (sizeof(R) == sizeof(float))
    return isa().linear_f32;
  else
    return isa().linear_f64;
}

}  // namespace fastrnn
