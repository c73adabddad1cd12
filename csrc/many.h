// Calls of many models at once: threads are dealt whole models.
#pragma once

#include <functional>

#include "fastrnn.h"
#include "poll.h"

namespace fastrnn {

// What is left of a call when its arguments have been read and its results have their places: to compute them.
class Task {
 public:
  virtual ~Task() = default;
  virtual double flops() const = 0;  // about how many
  virtual void compute(const Poll& poll) = 0;  // without the interpreter; on all threads or, in a team, on one of them
};

// Computes what `next` gives, at most so many, until it is null; by then `next` has let go of the interpreter. Each has the
// bits that it has alone. If one throws, or `next` or the poll does, the others end soon, and it is thrown on.
void compute_all(const std::function<Task*()>& next, Index most, const Poll& poll);

}  // namespace fastrnn
