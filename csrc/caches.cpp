#if __has_include(<unistd.h>)
#include <unistd.h>
#endif

#include <fstream>
#include <string>

#include "fastrnn.h"

namespace fastrnn {
namespace {

// Of cpu0, as Linux tells it; caches that it does not tell of stay as they are.
void ask_sysfs(Caches& caches) {
  for (int index = 0; index < 8; ++index) {
    const std::string folder = "/sys/devices/system/cpu/cpu0/cache/index" + std::to_string(index) + "/";
    std::string type;
    int level = 0;
    Index size = 0;
    char unit = ' ';
    std::ifstream(folder + "type") >> type;
    std::ifstream(folder + "level") >> level;
    std::ifstream(folder + "size") >> size >> unit;
    const Index bytes = size << (unit == 'K' ? 10 : unit == 'M' ? 20 : 0);
    if (bytes <= 0 || type == "Instruction") continue;
    if (level == 1) caches.first = bytes;
    if (level == 2) caches.second = bytes;
    if (level >= 2) caches.last = bytes;
  }
}

Caches ask() {
  Caches caches{32 << 10, 512 << 10, 8 << 20};  // where nobody tells
#if defined(_SC_LEVEL1_DCACHE_SIZE)
  const auto set = [](Index& bytes, int name) {
    if (const long found = sysconf(name); found > 0) bytes = found;
  };
  set(caches.first, _SC_LEVEL1_DCACHE_SIZE);  // that of the last one may be the sum of several, says the C library
  set(caches.second, _SC_LEVEL2_CACHE_SIZE);
#endif
  ask_sysfs(caches);
  return caches;
}

const Caches found = ask();

}  // namespace

const Caches& caches() { return found; }

}  // namespace fastrnn
