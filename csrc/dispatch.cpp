#include "dispatch.h"

#include <cstdlib>
#include <stdexcept>

namespace fastrnn {

#if defined(__x86_64__)
namespace baseline { extern const Isa isa; }
namespace avx2 { extern const Isa isa; }
namespace avx512 { extern const Isa isa; }
#elif defined(__aarch64__)
namespace neon { extern const Isa isa; }
#else
namespace baseline { extern const Isa isa; }
#endif

namespace {

std::vector<const Isa*> usable() {
#if defined(__x86_64__)
  std::vector<const Isa*> isas{&baseline::isa};
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    isas.push_back(&avx2::isa);
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
      isas.push_back(&avx512::isa);
  }
  return isas;
#elif defined(__aarch64__)
  return {&neon::isa};
#else
  return {&baseline::isa};
#endif
}

const Isa* find_isa(const std::string& name) {
  std::string names;
  for (const Isa* isa : usable()) {
    if (name == isa->name) return isa;
    names += (names.empty() ? "" : ", ") + std::string(isa->name);
  }
  throw std::invalid_argument("FASTRNN_ISA is '" + name + "', but this machine and build have: " + names);
}

const Isa*& in_use() {
  static const Isa* chosen = [] {
    const char* name = std::getenv("FASTRNN_ISA");
    return name && *name ? find_isa(name) : usable().back();
  }();
  return chosen;
}

}  // namespace

const Isa& isa() { return *in_use(); }

void set_isa(const std::string& name) { in_use() = find_isa(name); }

std::vector<std::string> available_isas() {
  std::vector<std::string> names;
  for (const Isa* isa : usable()) names.push_back(isa->name);
  return names;
}

const Cell& find_cell(const std::string& name) {
  for (int i = 0; i < isa().cell_count; ++i)
    if (name == isa().cells[i].name) return isa().cells[i];
  throw std::invalid_argument("unknown cell '" + name + "'");
}

}  // namespace fastrnn
