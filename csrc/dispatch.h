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

// For tests: whether quantized products use them where this processor has them. Returns whether they did.
bool use_dot_products(bool use);

// Its place in the tables; throws std::invalid_argument if there is none of this name.
int find_cell(const std::string& name);

}  // namespace fastrnn
