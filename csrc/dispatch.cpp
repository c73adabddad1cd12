#include "dispatch.h"

#include <atomic>
#include <cstdlib>
#include <stdexcept>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace fastrnn {

// Which kernels are built, CMake says.
#if FASTRNN_HAS_baseline
namespace baseline { extern const Isa isa; }
#endif
#if FASTRNN_HAS_avx2
namespace avx2 { extern const Isa isa; }
#endif
#if FASTRNN_HAS_avx512
namespace avx512 { extern const Isa isa; }
#endif
#if FASTRNN_HAS_neon
namespace neon { extern const Isa isa; }
#endif

namespace {

#if defined(__x86_64__)
// Of which Clang before 17 does not let __builtin_cpu_supports ask.
bool has_f16c() {
  unsigned a, b, c = 0, d;
  return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
}
#endif

std::vector<const Isa*> usable() {
  std::vector<const Isa*> isas;
#if FASTRNN_HAS_baseline
  isas.push_back(&baseline::isa);
#endif
#if FASTRNN_HAS_neon
  isas.push_back(&neon::isa);
#endif
#if defined(__x86_64__)
  __builtin_cpu_init();
  [[maybe_unused]] const bool has_avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
#if FASTRNN_HAS_avx2
  if (has_avx2) isas.push_back(&avx2::isa);
#endif
#if FASTRNN_HAS_avx512
  if (has_avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
    isas.push_back(&avx512::isa);
#endif
#endif
  if (isas.empty()) throw std::runtime_error("this build of fastrnn has no kernels that this processor can run");
  return isas;
}

const Isa* find_isa(const std::string& name) {
  std::string names;
  for (const Isa* isa : usable()) {
    if (name == isa->name) return isa;
    names += (names.empty() ? "" : ", ") + std::string(isa->name);
  }
  throw std::invalid_argument("FASTRNN_ISA is '" + name + "', but this machine and build have: " + names);
}

std::atomic<const Isa*>& in_use() {
  static std::atomic<const Isa*> chosen = [] {
    const char* name = std::getenv("FASTRNN_ISA");
    return name && *name ? find_isa(name) : usable().back();
  }();
  return chosen;
}

#if defined(__x86_64__)
const bool vnni = (__builtin_cpu_init(), __builtin_cpu_supports("avx512vnni"));
#else
constexpr bool vnni = false;
#endif
std::atomic<bool> dot_products{vnni};

}  // namespace

bool has_dot_products() { return dot_products; }

bool use_dot_products(bool use) { return dot_products.exchange(use && vnni); }

const Isa& isa() { return *in_use(); }

void set_isa(const std::string& name) { in_use() = find_isa(name); }

std::vector<std::string> available_isas() {
  std::vector<std::string> names;
  for (const Isa* isa : usable()) names.push_back(isa->name);
  return names;
}

int find_cell(const std::string& name) {
  for (int i = 0; i < isa().cell_count; ++i)
    if (name == isa().cells[i]) return i;
  throw std::invalid_argument("unknown cell '" + name + "'");
}

}  // namespace fastrnn
