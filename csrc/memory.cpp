#include "memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <mutex>
#include <new>

namespace fastrnn {
namespace {

constexpr std::size_t line = 64, huge_page = std::size_t(1) << 21;
constexpr std::size_t most_kept = std::size_t(256) << 20;

// Pieces that were given back, the latest last.
class Kept {
  struct Piece {
    void* memory;
    std::size_t bytes;
  };
  static constexpr int most_pieces = 64;

  std::mutex mutex_;
  Piece pieces_[most_pieces];
  int count_ = 0;
  std::size_t total_ = 0;

  void* remove(int i) {
    void* memory = pieces_[i].memory;
    total_ -= pieces_[i].bytes;
    std::copy(pieces_ + i + 1, pieces_ + count_, pieces_ + i);
    --count_;
    return memory;
  }

 public:
  // Of just this size, or null. A lock that is held is not waited for: after a fork its holder may not exist.
  void* take(std::size_t bytes) {
    const std::unique_lock lock(mutex_, std::try_to_lock);
    if (!lock) return nullptr;
    for (int i = count_ - 1; i >= 0; --i)
      if (pieces_[i].bytes == bytes) return remove(i);
    return nullptr;
  }

  bool give(void* memory, std::size_t bytes) {
    const std::unique_lock lock(mutex_, std::try_to_lock);
    if (!lock || bytes > most_kept) return false;
    while (count_ == most_pieces || total_ + bytes > most_kept) std::free(remove(0));
    pieces_[count_++] = {memory, bytes};
    total_ += bytes;
    return true;
  }
};

// Never destroyed: arrays may be given back while the process ends.
Kept& kept() {
  static Kept* const kept = new Kept;
  return *kept;
}

#if defined(__SANITIZE_ADDRESS__)
constexpr bool keep = false;  // or no use after free would show
#else
constexpr bool keep = true;
#endif

// Few sizes, so that a piece fits again when a batch is a little longer: pages that are not touched cost nothing.
std::size_t rounded(std::size_t bytes) {
  std::size_t unit = bytes >= huge_page ? huge_page : line;
  while (bytes >= least_kept && bytes / unit >= 16) unit *= 2;
  return (bytes + unit - 1) / unit * unit;
}

}  // namespace

void* take_memory(std::size_t bytes) {
  const std::size_t size = rounded(bytes);
  const bool large = size >= huge_page;
  if (size >= least_kept)
    if (void* memory = kept().take(size)) return memory;
  void* memory = std::aligned_alloc(large ? huge_page : line, size);
  if (!memory) throw std::bad_alloc();
#if defined(MADV_HUGEPAGE)
  if (large) madvise(memory, size, MADV_HUGEPAGE);
#endif
  return memory;
}

void give_memory(void* memory, std::size_t bytes) noexcept {
  if (!memory) return;
  const std::size_t size = rounded(bytes);
  if (keep && size >= least_kept && kept().give(memory, size)) return;
  std::free(memory);
}

}  // namespace fastrnn
