// Long calls look now and then whether they are to go on.
#pragma once

#include <chrono>
#include <functional>

namespace fastrnn {

// Throws to end the call.
using Poll = std::function<void()>;

class Patience {
  using Clock = std::chrono::steady_clock;
  const Poll& poll_;
  Clock::time_point last_ = Clock::now();

 public:
  explicit Patience(const Poll& poll) : poll_(poll) {}

  void check() {
    if (Clock::now() - last_ < std::chrono::milliseconds(100)) return;
    poll_();
    last_ = Clock::now();
  }
};

}  // namespace fastrnn
