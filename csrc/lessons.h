// What teams lose because members have to wait for a core, and what follows from it.
#pragma once

#include "barrier.h"

namespace fastrnn {

// A team has been at work since `start`; its threads may have been asleep before.
void learn(const Barrier& team, Clock::time_point start, bool asleep);

// Whether one thread is to work alone for now.
bool better_alone();

}  // namespace fastrnn
