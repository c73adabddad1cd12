#include "crowd.h"

#include <algorithm>
#include <atomic>
#include <thread>

#include "cpus.h"
#include "pool.h"

namespace fastrnn {
namespace {

// How many of the cores that `size` threads need others have now. Those of the pool that spin are ours.
int taken(int size) {
  const Load load = load_now();
  const int others = load.others ? std::max(0, load.others - spinning()) : 0, left_over = std::max(0, load.cpus - size);
  return std::max(0, others - left_over);
}

std::atomic<bool> crowded{false};  // when last looked at

}  // namespace

// Another library's pool that spins on after a call, or another program, takes turns of milliseconds with a member, while
// all the others wait for it. So cores that others have are left to them. Who has just handed work over may be waiting for
// this very core, to go to sleep; but where others were there before, a core that is given up may be lost for milliseconds.
int that_can_run(int size) {
  static const int most = usable_processors().processors;
  size = std::min(size, most);
  int found = size > 1 ? taken(size) : 0;
  if (found && meet()) found = taken(size);
  if (found && !crowded) {
    std::this_thread::yield();
    found = std::min(found, taken(size));
  }
  crowded = found > 0;
  return std::max(1, size - found);
}

}  // namespace fastrnn
