#include "parts.h"

#include <algorithm>

#include "threads.h"

namespace fastrnn {

void in_parts(Index n, double flops, const Poll& poll, FunctionRef<void(Index first, Index last)> fn,
              Denormals denormals) {
  const int size = team_for(flops * double(n), n);
  const Index piece = std::max<Index>(1, Index(1e8 / std::max(flops, 1.0)));  // rows may be empty
  Patience patience(poll);
  for (Index begin = 0; begin < n; begin += piece) {
    const Index count = std::min(piece, n - begin);
    parallel(size, [&](const Team& team) {
      fn(begin + count * team.rank / team.size, begin + count * (team.rank + 1) / team.size);
    }, denormals);
    patience.check();
  }
}

}  // namespace fastrnn
