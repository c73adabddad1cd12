#include "memory.h"

#if __has_include(<sys/mman.h>)
#include <sys/mman.h>
#endif
#if defined(__GLIBC__)
#include <malloc.h>
#endif

#include <algorithm>
#include <mutex>
#include <new>

#include "fork.h"

namespace fastrnn {
namespace {

constexpr std::size_t line = 64, huge_page = std::size_t(1) << 21;

// From the system, and back to it.
std::align_val_t alignment(std::size_t bytes) { return std::align_val_t(bytes >= huge_page ? huge_page : line); }

void* obtain(std::size_t bytes) {
  void* memory = ::operator new(bytes, alignment(bytes));
#if defined(MADV_HUGEPAGE)
  if (bytes >= huge_page) madvise(memory, bytes, MADV_HUGEPAGE);
#endif
  return memory;
}

void release(void* memory, std::size_t bytes) noexcept { ::operator delete(memory, alignment(bytes)); }

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
  std::size_t total_ = 0, limit_ = std::size_t(256) << 20;

  void* remove(int i) {
    void* memory = pieces_[i].memory;
    total_ -= pieces_[i].bytes;
    std::copy(pieces_ + i + 1, pieces_ + count_, pieces_ + i);
    --count_;
    return memory;
  }

  void release_oldest() {
    const std::size_t bytes = pieces_[0].bytes;
    release(remove(0), bytes);
  }

  void shrink(std::size_t bytes) {
    while (total_ > bytes) release_oldest();
  }

 public:
  // Around a fork, lest a child inherits a lock whose holder it has not.
  void lock() { mutex_.lock(); }
  void unlock() { mutex_.unlock(); }

  // Of just this size, or null.
  void* take(std::size_t bytes) {
    const std::lock_guard lock(mutex_);
    for (int i = count_ - 1; i >= 0; --i)
      if (pieces_[i].bytes == bytes) return remove(i);
    return nullptr;
  }

  bool give(void* memory, std::size_t bytes) {
    const std::lock_guard lock(mutex_);
    if (bytes > limit_) return false;
    shrink(limit_ - bytes);
    if (count_ == most_pieces) release_oldest();
    pieces_[count_++] = {memory, bytes};
    total_ += bytes;
    return true;
  }

  std::size_t total() {
    const std::lock_guard lock(mutex_);
    return total_;
  }

  void limit(std::size_t bytes) {
    const std::lock_guard lock(mutex_);
    limit_ = bytes;
    shrink(limit_);
  }

  void empty() {
    const std::lock_guard lock(mutex_);
    shrink(0);
  }
};

// Never destroyed: arrays may be given back while the process ends.
Kept& kept() {
  static Kept* const kept = new Kept;
  return *kept;
}

[[maybe_unused]] const int registered =
    at_fork([] { kept().lock(); }, [] { kept().unlock(); }, [] { kept().unlock(); });

#if defined(__has_feature)  // clang's
#define FASTRNN_HAS_FEATURE(name) __has_feature(name)
#else
#define FASTRNN_HAS_FEATURE(name) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || FASTRNN_HAS_FEATURE(address_sanitizer)
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
  if (size >= least_kept)
    if (void* memory = kept().take(size)) return memory;
  return obtain(size);
}

void give_memory(void* memory, std::size_t bytes) noexcept {
  if (!memory) return;
  const std::size_t size = rounded(bytes);
  if (keep && size >= least_kept && kept().give(memory, size)) return;
  release(memory, size);
}

std::size_t cached_bytes() { return kept().total(); }

void set_cache_limit(std::size_t bytes) { kept().limit(bytes); }

void empty_cache() {
  kept().empty();
#if defined(__GLIBC__)
  malloc_trim(0);  // which would keep pages that are free
#endif
}

}  // namespace fastrnn
