// Lets one thread at a time into a stream; others are told why not.
#pragma once

#include <fastrnn/step.h>

#include <atomic>

#include "fork.h"

namespace fastrnn {

// So often has this process come out of a fork, in which other threads are lost.
inline std::atomic<int> forks{0};
[[maybe_unused]] inline const int forks_counted = at_fork(nullptr, nullptr, [] { ++forks; });

inline const char* step_message(int error) noexcept {
  switch (error) {
    case FASTRNN_STEP_FINE: return "no error";
    case FASTRNN_STEP_BUSY: return "this stream is at work in another thread: make one for each thread";
    case FASTRNN_STEP_FORKED:
      return "this stream was at work in another thread when the process was forked: reset it first";
    case FASTRNN_STEP_TOKEN: return "a token is out of range: it must be 0 to input_size - 1";
    case FASTRNN_STEP_KIND: return "this stream does not take that: step is for floats, step_tokens for tokens";
    case FASTRNN_STEP_MEMORY: return "there is no memory for more threads than before";
    default: return "an error that this version does not know";
  }
}

class Gate {
  static constexpr int nobody = -1;
  std::atomic<int> inside_{nobody};  // or the forks when somebody came in

 public:
  // FASTRNN_STEP_FINE, or why not. `anew`: what is there may be half done.
  int enter(bool anew) noexcept {
    int found = nobody;
    const int now = forks;
    if (inside_.compare_exchange_strong(found, now, std::memory_order_acquire)) return FASTRNN_STEP_FINE;
    if (found == now) return FASTRNN_STEP_BUSY;
    if (!anew) return FASTRNN_STEP_FORKED;
    inside_ = now;
    return FASTRNN_STEP_FINE;
  }
  void leave() noexcept { inside_.store(nobody, std::memory_order_release); }
};

// In there, if there is no error, while this lives.
class Stay {
  Gate& gate_;

 public:
  const int error;

  explicit Stay(Gate& gate, bool anew = false) noexcept : gate_(gate), error(gate.enter(anew)) {}
  Stay(const Stay&) = delete;
  ~Stay() {
    if (!error) gate_.leave();
  }
};

}  // namespace fastrnn
