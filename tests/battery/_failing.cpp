// To be preloaded: allocations of chosen libraries, and threads that they start, fail when Python says so.
#include <pthread.h>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <dlfcn.h>
#include <link.h>
#include <cstring>
#include <new>

extern "C" {
void* __libc_malloc(std::size_t);
void* __libc_calloc(std::size_t, std::size_t);
void* __libc_realloc(void*, std::size_t);
void* __libc_memalign(std::size_t, std::size_t);
void __libc_free(void*);
}

namespace {

struct Library {
  std::uintptr_t first, last;
};
Library libraries[8];
std::atomic<int> known{0};
std::atomic<long> count{0}, failed{0}, pieces{0};
std::atomic<long> first_to_fail{0}, last_to_fail{0};  // by their number since `fail_from_to`

bool fails(const void* caller) {
  if (first_to_fail == 0) return false;
  const auto place = std::uintptr_t(caller);
  for (int i = 0; i < known; ++i) {
    if (place < libraries[i].first || place >= libraries[i].last) continue;
    const long number = ++count;
    if (number < first_to_fail || number > last_to_fail) return false;
    ++failed;
    return true;
  }
  return false;
}

void* counted(void* memory) {
  if (memory) ++pieces;
  return memory;
}

void* made(std::size_t size, std::size_t alignment, const void* caller) {
  return fails(caller) ? nullptr : counted(alignment ? __libc_memalign(alignment, size) : __libc_malloc(size));
}

void* made_or_thrown(std::size_t size, std::size_t alignment, const void* caller) {
  void* const memory = made(size, alignment, caller);
  if (!memory) throw std::bad_alloc();
  return memory;
}

#define CALLER __builtin_return_address(0)

}  // namespace

extern "C" {

// Of the loaded library whose path ends so, allocations may fail; says whether there is one.
bool may_fail(const char* ending) {
  struct Search {
    const char* ending;
    bool found;
  } search{ending, false};
  dl_iterate_phdr(
      [](dl_phdr_info* info, std::size_t, void* data) {
        auto& search = *static_cast<Search*>(data);
        const std::size_t length = std::strlen(info->dlpi_name), wanted = std::strlen(search.ending);
        if (length < wanted || std::strcmp(info->dlpi_name + length - wanted, search.ending) != 0) return 0;
        for (int i = 0; i < info->dlpi_phnum; ++i) {
          const auto& part = info->dlpi_phdr[i];
          if (part.p_type != PT_LOAD || !(part.p_flags & PF_X)) continue;
          const std::uintptr_t first = info->dlpi_addr + part.p_vaddr;
          libraries[known] = {first, first + part.p_memsz};
          ++known, search.found = true;
        }
        return 1;
      },
      &search);
  return search.found;
}

void fail_from_to(long first, long last) {
  count = 0, failed = 0;
  last_to_fail = last, first_to_fail = first;
}

// How many have failed since; none does any more.
long failures() {
  first_to_fail = 0;
  return failed;
}

// Of memory, that nobody has freed.
long pieces_in_use() { return pieces; }

void* malloc(std::size_t size) { return made(size, 0, CALLER); }
void* aligned_alloc(std::size_t alignment, std::size_t size) { return made(size, alignment, CALLER); }
void* memalign(std::size_t alignment, std::size_t size) { return made(size, alignment, CALLER); }
void* calloc(std::size_t n, std::size_t size) { return fails(CALLER) ? nullptr : counted(__libc_calloc(n, size)); }

int posix_memalign(void** memory, std::size_t alignment, std::size_t size) {
  void* const found = made(size, alignment, CALLER);
  if (!found) return ENOMEM;
  *memory = found;
  return 0;
}

void* realloc(void* memory, std::size_t size) {
  if (fails(CALLER)) return nullptr;
  void* const found = __libc_realloc(memory, size);
  if (memory && (found || size == 0)) --pieces;
  return counted(found);
}

void free(void* memory) {
  if (memory) --pieces;
  __libc_free(memory);
}

int pthread_create(pthread_t* thread, const pthread_attr_t* attributes, void* (*run)(void*), void* argument) {
  static const auto create = reinterpret_cast<decltype(&pthread_create)>(dlsym(RTLD_NEXT, "pthread_create"));
  return fails(CALLER) ? EAGAIN : create(thread, attributes, run, argument);
}

}  // extern "C"

void* operator new(std::size_t size) { return made_or_thrown(size, 0, CALLER); }
void* operator new[](std::size_t size) { return made_or_thrown(size, 0, CALLER); }
void* operator new(std::size_t size, std::align_val_t alignment) { return made_or_thrown(size, std::size_t(alignment), CALLER); }
void* operator new[](std::size_t size, std::align_val_t alignment) { return made_or_thrown(size, std::size_t(alignment), CALLER); }
void* operator new(std::size_t size, const std::nothrow_t&) noexcept { return made(size, 0, CALLER); }
void* operator new[](std::size_t size, const std::nothrow_t&) noexcept { return made(size, 0, CALLER); }
