// What has become of teams: counters for show_config.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>

namespace fastrnn {

// Of a call, or a piece of a long one, that more than one thread might have shared: a team was at work, or one thread alone,
// because there was too little work; others had the cores; teams had lost time shortly before; another call was at work.
// Refused: the system did not start a thread.
enum class Outcome { team, small, others, lost, busy, refused };
constexpr const char* outcome_names[] = {"team", "small", "others", "lost", "busy", "refused"};

inline std::array<std::atomic<std::int64_t>, std::size(outcome_names)> tally{};

inline void count(Outcome outcome) { tally[std::size_t(outcome)].fetch_add(1, std::memory_order_relaxed); }

}  // namespace fastrnn
