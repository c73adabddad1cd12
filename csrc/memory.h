// Memory that outlives a call: the next one finds it mapped. The system clears every page that it hands out, which
// takes a tenth of the time of a training step.
#pragma once

#include <cstddef>

namespace fastrnn {

constexpr std::size_t least_kept = std::size_t(1) << 16;  // bytes; the system's own memory serves smaller pieces well

// At least so many bytes, aligned to a cache line. Throws std::bad_alloc.
void* take_memory(std::size_t bytes);

// Gives back what take_memory(bytes) returned, or null.
void give_memory(void* memory, std::size_t bytes) noexcept;

// What is kept for later calls: how much, at most how much, and to return it to the system.
std::size_t cached_bytes();
void set_cache_limit(std::size_t bytes);
void empty_cache();

}  // namespace fastrnn
