// What is done to each of many elements alike, on all threads.
#pragma once

#include "denormals.h"
#include "fastrnn.h"
#include "function_ref.h"
#include "poll.h"

namespace fastrnn {

// Runs fn(first, last) over parts of 0 .. n-1. Each element costs as much as so many `flops`; no result may depend on the cut.
// Denormal numbers are kept where results are to be the bits of NumPy's.
void in_parts(Index n, double flops, const Poll& poll, FunctionRef<void(Index first, Index last)> fn,
              Denormals denormals = Denormals::keep);

template <class R>
void apply(const Table<R>& kernels, const Applied<R>& task, const Poll& poll) {
  in_parts(task.parts(), task.part_flops(), poll, [&](Index first, Index last) { kernels.apply(task, first, last); },
           Denormals::flush);
}

}  // namespace fastrnn
