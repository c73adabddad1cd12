// What this machine can do, as a bound for all that is measured:
//   probe fma THREADS           GFLOP/s of float32 fused multiply-adds from registers
//   probe read THREADS BYTES    GB/s of reading, again and again, BYTES per thread
// Each is the best of several runs of some 20 ms, in which all threads work at the same time.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <thread>
#include <vector>

#ifdef __linux__
#include <sys/mman.h>
#endif

#if defined(__AVX512F__)
constexpr int bytes = 64;
#elif defined(__AVX__)
constexpr int bytes = 32;
#else
constexpr int bytes = 16;
#endif
typedef float Vec __attribute__((vector_size(bytes)));
constexpr int lanes = bytes / sizeof(float);

// Latency times throughput is 8 to 10 on today's cores.
constexpr int chains = 12;

static double seconds() {
  using namespace std::chrono;
  return duration<double>(steady_clock::now().time_since_epoch()).count();
}

// Operations of `rounds` rounds on registers.
static double multiply_add(long rounds) {
  Vec sum[chains];
  for (int k = 0; k < chains; ++k) sum[k] = Vec{} + float(k);
  Vec a = Vec{} + 0.999f, b = Vec{} + 0.001f;
  asm volatile("" : "+m"(a), "+m"(b));
  for (long r = 0; r < rounds; ++r) {
#pragma GCC unroll 12
    for (int k = 0; k < chains; ++k) sum[k] = sum[k] * a + b;
  }
  for (int k = 1; k < chains; ++k) sum[0] += sum[k];
  asm volatile("" : : "m"(sum[0]));
  return 2.0 * lanes * chains * rounds;
}

// Bytes read in `rounds` passes through the buffer.
static double read(const float* buffer, long size, long rounds) {
  constexpr int streams = 16;
  const long step = streams * lanes;
  Vec sum[streams] = {};
  for (long r = 0; r < rounds; ++r) {
    for (long i = 0; i + step <= size; i += step)
#pragma GCC unroll 16
      for (int k = 0; k < streams; ++k) {
        Vec v;
        std::memcpy(&v, buffer + i + k * lanes, sizeof v);
        sum[k] += v;
      }
    asm volatile("" : : : "memory");
  }
  for (int k = 1; k < streams; ++k) sum[0] += sum[k];
  asm volatile("" : : "m"(sum[0]));
  return double(size / step * step) * sizeof(float) * rounds;
}

// On huge pages where there are any, so that the bound is the cache's and not the address translation's.
static float* ones(long size) {
  constexpr long page = 1 << 21;
  const long padded = (size * long(sizeof(float)) + page - 1) / page * page;
  auto* buffer = static_cast<float*>(std::aligned_alloc(page, padded));
#ifdef __linux__
  madvise(buffer, padded, MADV_HUGEPAGE);
#endif
  std::fill_n(buffer, size, 1.0f);
  return buffer;
}

// Work per second of all threads together, from the start of the first to the end of the last.
static double rate(int threads, const std::function<double(int, long)>& work) {
  long rounds = 1;
  double best = 0;
  for (int run = 0; run < 12;) {
    std::atomic<int> ready{0};
    std::vector<double> start(threads), end(threads), done(threads);
    std::vector<std::thread> team;
    for (int t = 0; t < threads; ++t)
      team.emplace_back([&, t] {
        work(t, 1);
        ++ready;
        while (ready < threads) {
        }
        start[t] = seconds();
        done[t] = work(t, rounds);
        end[t] = seconds();
      });
    for (auto& thread : team) thread.join();
    const double took = *std::max_element(end.begin(), end.end()) - *std::min_element(start.begin(), start.end());
    double sum = 0;
    for (double d : done) sum += d;
    if (took < 0.02) {
      rounds *= 2;
      continue;
    }
    best = std::max(best, sum / took);
    ++run;
  }
  return best;
}

int main(int count, char** arguments) {
  if (count < 3) return 1;
  const int threads = std::atoi(arguments[2]);
  if (!std::strcmp(arguments[1], "fma")) {
    std::printf("%.2f\n", rate(threads, [](int, long rounds) { return multiply_add(rounds); }) / 1e9);
  } else if (!std::strcmp(arguments[1], "read") && count == 4) {
    const long size = std::atol(arguments[3]) / long(sizeof(float));
    std::vector<float*> buffers;
    for (int t = 0; t < threads; ++t) buffers.push_back(ones(size));
    auto work = [&](int t, long rounds) { return read(buffers[t], size, rounds); };
    std::printf("%.2f\n", rate(threads, work) / 1e9);
  } else {
    return 1;
  }
}
