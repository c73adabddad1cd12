// The sequences of a batch sorted by length: what owns the arrays of its steps.
#pragma once

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <utility>
#include <vector>

#include "fastrnn.h"

namespace fastrnn {

class Order {
  Index T_ = 0;
  std::vector<Index> order_, length_, offset_;
  std::vector<std::uint8_t> starts_[2];  // by direction

 public:
  Order() = default;
  Order(Index T, std::vector<Index> lengths) : T_(T), order_(lengths.size()), length_(std::move(lengths)) {
    const Index B = Index(order_.size());
    std::iota(order_.begin(), order_.end(), Index(0));
    if (!std::is_sorted(length_.rbegin(), length_.rend())) {
      const std::vector<Index> given = length_;
      std::stable_sort(order_.begin(), order_.end(), [&](Index a, Index b) { return given[a] > given[b]; });
      for (Index r = 0; r < B; ++r) length_[r] = given[order_[r]];
    }
    const Index count = B ? length_[0] : 0;
    offset_.resize(count + 1);
    for (Index s = 0, active = B; s < count;) {
      while (length_[active - 1] <= s) --active;
      for (const Index end = length_[active - 1]; s < end; ++s) offset_[s + 1] = offset_[s] + active;
    }
  }

  Index T() const { return T_; }
  Index B() const { return Index(order_.size()); }
  Index rows() const { return offset_.back(); }  // of all steps
  const Index* offset() const { return offset_.data(); }

  Steps steps(bool reverse) const {
    const std::vector<std::uint8_t>& starts = starts_[reverse];
    return {T_, B(), Index(offset_.size()) - 1, order_.data(), length_.data(), offset_.data(), reverse,
            starts.empty() ? nullptr : starts.data()};
  }

  // From now on rows start anew before some steps [T, B]; in reverse, when such a step is behind them.
  void start_at(const Series<const std::uint8_t>& starts, bool reverse) {
    const Steps steps = this->steps(reverse);
    std::vector<std::uint8_t> found(std::size_t(rows()), 0);
    bool any = false;
    for (Index s = 0, n = 0; s < steps.count; ++s)
      for (Index r = 0; r < steps.active(s); ++r, ++n) {
        Place place = steps.at(s, r);
        if (reverse && s == 0) continue;
        place.t += reverse;
        any |= found[std::size_t(n)] = *starts.at(place) != 0;
      }
    if (any) starts_[reverse] = std::move(found);
  }

  // Rows of all steps without those that are padded.
  template <class T>
  Series<T> packed(T* data, Index width) const {
    if (rows() == T_ * B()) return series(data, B(), width);
    return {data, 0, width, offset()};
  }
};

}  // namespace fastrnn
