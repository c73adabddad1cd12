#include "lessons.h"

#include <algorithm>
#include <atomic>

namespace fastrnn {
namespace {

// A team whose members have to wait for a core is slower than one thread, up to a hundred times. When that shows,
// one thread works alone for twice as long as was lost, since most disturbances are over by then, and for twice as long
// again each time that it happens once more soon after, up to 32 times as long or 100 ms: to try costs little then.
// Where members may be asleep, until they have woken up does not count: being alone would only put them to sleep again.
// For the same reason, what was lost after a sleep is forgiven until it happens in the next call too.
std::atomic<Clock::rep> alone_until{0};
std::atomic<Clock::rep> forgiven{0};
std::atomic<int> failures{0};
std::atomic<Clock::rep> soon_until{0};

// How long one thread would take for what the team has done. No member has more to do than the first one: what took
// another one longer was without a core.
Clock::duration work_of(const Barrier& team) {
  Clock::duration sum{0};
  for (int rank = 0; rank < team.size(); ++rank) sum += std::min(team.busy(rank), team.busy(0));
  return sum;
}

}  // namespace

void learn(const Barrier& team, Clock::time_point start, bool asleep) {
  const auto now = Clock::now();
  const Clock::duration to_wake_up = std::chrono::microseconds(asleep ? 300 : 0), excused = std::min(team.late(), to_wake_up);
  Clock::duration lost = now - start - excused - work_of(team);
  if (lost < std::chrono::microseconds(50)) {
    forgiven = 0;
    if (now.time_since_epoch().count() > soon_until) failures = 0;
    return;
  }
  if (asleep && forgiven == 0) {
    forgiven = lost.count();
    return;
  }
  lost += Clock::duration(forgiven.exchange(0));
  const Clock::duration pause = lost * (2 << std::min(failures++, 4));
  const auto end = now + std::min<Clock::duration>(pause, std::chrono::milliseconds(100));
  alone_until = end.time_since_epoch().count();
  soon_until = (end + std::chrono::milliseconds(100)).time_since_epoch().count();
}

bool better_alone() { return Clock::now().time_since_epoch().count() < alone_until; }

}  // namespace fastrnn
