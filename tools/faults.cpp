// What the builds of tools/builds.py have to find: each function has a fault of its own.
#include <cstdlib>
#include <limits>
#include <memory>
#include <thread>

#define FAULT extern "C" [[gnu::visibility("default"), gnu::noinline]]

namespace {

int* volatile somewhere;  // of which the compiler knows nothing

}  // namespace

FAULT int overflow(int index) {
  const std::unique_ptr<int[]> numbers(new int[8]{});
  somewhere = numbers.get();
  return somewhere[index];
}

FAULT int freed(int index) {
  int* const numbers = new int[8]{};
  delete[] numbers;
  return numbers[index];
}

FAULT int signed_overflow(int number) { return std::numeric_limits<int>::max() + number; }

FAULT int race(int rounds) {
  int count = 0;
  const auto work = [&] {
    for (int i = 0; i < rounds; ++i) *static_cast<int volatile*>(&count) = count + 1;
  };
  std::thread other(work);
  work();
  other.join();
  return count;
}

FAULT int uninitialised(int number) {
  const std::unique_ptr<int[]> numbers(new int[8]);
  somewhere = numbers.get();
  return somewhere[number] > 0 ? 1 : 2;
}

FAULT int leak(int size) {
  somewhere = static_cast<int*>(std::malloc(size * sizeof(int)));
  somewhere[0] = 1;
  const int first = somewhere[0];
  somewhere = nullptr;
  return first;
}
