// How a team should share a step of the recurrence.
#include "fastrnn.h"

namespace fastrnn {
namespace {

// Nanoseconds, as measured on a core of Zen 4 by bench/cores.py, and much the same on others: a member multiplies each
// weight with its rows, or waits for the weights to come from where they are, whichever takes longer. Those that the second
// cache does not hold come back and forth, and much of the waiting is hidden; but not all where they are many.
constexpr double per_product = 1 / 200.0;  // a byte of weights with one row
constexpr double near = 1 / 90.0, far = 1 / 70.0, memory = 1 / 30.0;  // to load a byte from the second cache, the last, or none
constexpr double not_hidden = 1 / 500.0;   // of a byte beyond three times the second cache
constexpr double per_block = 40;           // a row's pointwise functions for a block of hidden units

// Members that share the units wait for each other, and for the lines of h that the others have written.
double barrier(Index members) { return members == 1 ? 0 : 150 + 50 * double(members); }

}  // namespace

double step_time(Index rows, const StepWeights& weights, const Grid& grid) {
  const Index own = (rows + grid.rows - 1) / grid.rows, blocks = (weights.blocks + grid.units - 1) / grid.units;
  const double bytes = double(weights.bytes) * double(blocks) / double(weights.blocks);
  const double second = double(caches().second), last = double(caches().last);
  const double load = bytes * (bytes <= second ? near : bytes <= last ? far : memory);
  const double multiply = double(own) * bytes * per_product, beyond = bytes - 3 * second;
  return (multiply > load ? multiply : load) + (beyond > 0 ? beyond * not_hidden : 0) + double(own * blocks) * per_block +
         barrier(grid.units);
}

// Tried are 1, 2, 4, … groups of rows, and as many members in each as there are for it, or a half of them, a quarter, ….
Grid grid_of(Index rows, const StepWeights& weights, Index members) {
  Grid best;
  double least = step_time(rows, weights, best);
  for (Index groups = 1; groups <= members && groups <= rows; groups *= 2)
    for (Index units = members / groups; units >= 1; units /= 2)
      if (const double time = step_time(rows, weights, {groups, units}); time < least) {
        least = time;
        best = {groups, units};
      }
  return best;
}

}  // namespace fastrnn
