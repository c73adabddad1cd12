// What teams lose because members have to wait for a core, and what follows from it.
#pragma once

#include "barrier.h"

namespace fastrnn {

// A team of `size` has worked for so long, of which the first member has waited; the others may have been asleep before.
void learn(int size, Clock::duration total, Clock::duration waited, bool asleep);

// Whether one thread is to work alone for now.
bool better_alone(Clock::time_point now);

}  // namespace fastrnn
