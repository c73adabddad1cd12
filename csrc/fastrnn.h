// The whole C++ interface: what crosses between the code that is compiled once and the kernels that are
// compiled once per ISA. Declarations only.
//
// The letters, everywhere: T time, B batch, I input, H hidden, G gates, S slots, U lanes of a vector. Square
// brackets are shapes, the rightmost index runs fastest. Gates and layouts are PyTorch's. Ip, Hp, GHp and SHp are
// I, H, G*H and S*H, padded to whole vectors. A row of slots, SHp long, is interleaved: for each U hidden units
// their S slots, each of them a vector, and last the slots of what units are left, which follow each other without
// gaps. So are the GHp columns of weights.
#pragma once

#include <cstdint>

namespace fastrnn {

using Index = std::int64_t;

// For the few functions that both sides use: no symbol may be shared between ISAs.
#define FASTRNN_INLINE inline __attribute__((always_inline))

// One thread among those that work on a call.
class Barrier;
struct Team {
  int rank = 0, size = 1;
  Barrier* barrier = nullptr;

  void wait() const;  // until every member has come here
  void wait(Index first, Index last) const;  // until those members have, but every one comes
};

// How a team shares a step of the recurrence: in groups of rows, and the members of each group share the hidden units. So
// {P, 1} is a split of the rows, {1, P} one of the units, and with {1, 1} one member does all.
struct Grid {
  Index rows = 1, units = 1;

  FASTRNN_INLINE Index members() const { return rows * units; }
  FASTRNN_INLINE bool operator==(const Grid& other) const { return rows == other.rows && units == other.units; }
};

// What a step multiplies with: bytes of weights, for so many blocks of hidden units.
struct StepWeights {
  Index bytes, blocks;
};

// The quickest for so many rows, and the nanoseconds that a step takes: an estimate, see grid.cpp.
Grid grid_of(Index rows, const StepWeights& weights, Index members);
double step_time(Index rows, const StepWeights& weights, const Grid& grid);

// Bytes of this machine's data caches: a core's first and second, and the last one, which cores may share.
struct Caches {
  Index first, second, last;
};
const Caches& caches();

// What a cell's pointwise functions may apply.
enum class Activation { sigmoid, hard_sigmoid, hard_sigmoid_6, tanh, relu, linear };

// What the cells that take it are told.
struct Options {
  Activation gate = Activation::sigmoid, state = Activation::tanh, output = Activation::tanh;
  double clip = __builtin_inf();  // what gates and the state are made of is within -clip .. clip
  bool coupled = false;           // f = 1 - i
};

// Rows over time and batch, of features that lie side by side.
struct Place {
  Index t, b;
  Index r;  // of row b among the rows sorted by length
};
template <class T>
struct Series {
  T* data = nullptr;  // of t = 0, b = 0
  Index t = 0, b = 0;  // from step to step and from row to row
  const Index* starts = nullptr;  // of packed rows: where each step's begin, sorted and without those that are padded

  FASTRNN_INLINE T* at(Place place) const {
    return data + (starts ? (starts[place.t] + place.r) * b : place.t * t + place.b * b);
  }
  FASTRNN_INLINE operator Series<const T>() const { return {data, t, b, starts}; }
  FASTRNN_INLINE explicit operator bool() const { return data; }
};

// [T, B, width] without gaps.
template <class T>
FASTRNN_INLINE Series<T> series(T* data, Index B, Index width) {
  return {data, B * width, width};
}

// How packed weights are stored, whose sums are float's all the same: the narrow ones are float's alone. int8x8 is int8,
// multiplied with rows of 8 bits.
enum class Format { full, float16, bfloat16, int8, int8x8 };

FASTRNN_INLINE bool quantized(Format format) { return format == Format::int8 || format == Format::int8x8; }

constexpr Index int8_block = 512;  // products whose sum fits an integer of 32 bits

constexpr int most_vectors = 4;  // that a cell has of its own

// A layer's parameters in PyTorch's layout, or their gradients. A linear one has one gate, and no recurrence.
template <class T>
struct ParametersOf {
  Index I = 0, H = 0, P = 0;        // with tokens, I is the size of the vocabulary; P is the width of h
  T* w_ih = nullptr;                // [G*H, I]
  T* w_hh = nullptr;                // [G*H, P], or null without a recurrence
  T* b_ih = nullptr;                // [G*H] or null
  T* b_hh = nullptr;                // [G*H] or null
  T* w_hr = nullptr;                // [P, H], which h goes through, or null: then P is H
  T* vectors[most_vectors] = {};    // those of the cell, some times H long, or null
  Format format = Format::full;     // of the first three and w_hr where they are packed: they have its values already
};
template <class R>
using Parameters = ParametersOf<const R>;

// The same as forward reads them, matrices as they are stored.
template <class R>
struct Packed {
  char* ih = nullptr;  // [I, GHp] in panels of U units
  char* hh = nullptr;  // [P, columns] likewise of each product, where there is a recurrence
  char* hr = nullptr;  // [H, Pp] in panels of U, where h is a projection
  Format format = Format::full;
  R* bias = nullptr;  // [SHp]  a row of slots
  R* vectors = nullptr;  // [vectors, Hp]
  R* zeros = nullptr;    // as long as the longest row
};

// The steps of a batch, longest row first, so that the rows at work in a step are the first ones. Step s of
// sorted row r is time s of batch row order[r]; reversed, it counts from the row's last valid time.
struct Steps {
  Index T, B;
  Index count;          // of steps: the longest length
  const Index* order;   // [B]
  const Index* length;  // [B]          of the sorted rows
  const Index* offset;  // [count + 1]  rows of all steps before s
  bool reverse;
  const std::uint8_t* starts = nullptr;  // [rows of all steps]  whether a row starts anew before a step; or null

  FASTRNN_INLINE Index active(Index s) const { return offset[s + 1] - offset[s]; }
  FASTRNN_INLINE bool anew(Index s, Index r) const { return starts && starts[offset[s] + r]; }
  FASTRNN_INLINE Place at(Index s, Index r) const { return {reverse ? length[r] - 1 - s : s, order[r], r}; }
};

// Whose slots and c stay for backward: no step's, those of a block of steps, until the next one takes their place, or
// all. A block starts at a multiple of its length.
enum class Keep { none, block, all };

// The steps of a call, and the arrays that it reads. Those of [B, ...] have no gaps.
template <class R>
struct Inputs : Parameters<R> {
  Steps steps{};
  Series<const R> x;               // [T, B, I], or null and
  Series<const Index> tokens;      // [T, B]
  const R* h0 = nullptr;           // [B, P] or null
  const R* c0 = nullptr;           // [B, H] or null
  const R* start_h = nullptr;      // [B, P] or null  where rows start anew from
  const R* start_c = nullptr;      // [B, H] or null
  const R* mask = nullptr;         // [B, P] what h is multiplied by on its way into the recurrence's product, or null
  Options options;
};

// One layer in one direction, and what forward leaves for backward.
template <class R>
struct Layer : Inputs<R> {  // with h0, and with start_h where rows start anew
  Series<R> y;              // [T, B, P]
  Series<R> all_c;          // [T, B, H] c after every step, or null
  R* slots = nullptr;       // [rows of all steps, SHp]; if not all stay: [block * B, SHp]
  R* c = nullptr;           // [B + those rows, Hp], the initial ones first; if none stay: [B, Hp]
  Keep keep = Keep::none;
  Index block = 1;          // steps whose input is projected at a time
  R* rows = nullptr;        // [as slots, Hp] of a cell with a row of its own; [as slots, Hp + Pp] with w_hr
  R* masked = nullptr;      // [B + rows of all steps, P] where there is a mask: h0 and every h multiplied by it
  R* anew_c = nullptr;      // [B, Hp]  start_c of the sorted rows
  R* anew_masked = nullptr;  // [B, P]  start_h likewise, multiplied by the mask where there is one
};

template <class R>
struct Forward : Layer<R> {
  Packed<R> packed{};
  void* workspace = nullptr;  // [team, forward_workspace]
};

template <class R>
struct Gradients {
  Series<R> x;                 // [T, B, I] or null
  Series<R> hidden;            // [T, B, P] zeros, or null: the whole gradient of every h
  ParametersOf<R> parameters;  // each where the parameter is
  R* h0 = nullptr;             // [B, P]
  R* c0 = nullptr;             // [B, H] or null
  R* start_h = nullptr;        // [B, P] or null
  R* start_c = nullptr;        // [B, H] or null
};

template <class R>
struct Backward : Layer<R> {
  Series<const R> dy;         // [T, B, P] or null
  Gradients<R> gradients;
  R* packed_hh = nullptr;     // [G*H, Pp] in wide panels, one product's after the other
  R* packed_ih = nullptr;     // [G*H, Ip] likewise
  R* packed_hr = nullptr;     // [P, Hp] likewise, where h is a projection
  R* dh = nullptr;            // [B, Pp]  sorted rows; in: of the last state, out: of the initial one
  R* dc = nullptr;            // [B, Hp]  likewise
  R* start_dh = nullptr;      // [B, Pp] zeros: sums of what comes to where rows start anew, sorted, and
  R* start_dc = nullptr;      // [B, Hp]  likewise; null where none does
  R* dmasked = nullptr;       // [B, Pp] zeros: of what products read, or null where that is h
  R* drows = nullptr;         // [B, Hp]  of the first Hp of `rows`, where there are some
  Packed<R> packed{};         // as forward had it, for a cell with vectors
  R* dvectors = nullptr;      // [B, sums, Hp] zeros: of each row's sums, which are added up at the end
  R* dtable = nullptr;        // [I, GHp] in panels of U units, with tokens
  R* dbias = nullptr;         // [2, SHp] zeros: sums, and what rounding has added to them
  void* workspace = nullptr;  // [backward_workspace]
};

// n, padded to whole vectors.
FASTRNN_INLINE Index padded(Index n, Index lanes) { return (n + lanes - 1) / lanes * lanes; }

// Bytes of a stored weight, and of a column of K of them with what belongs to it: see kernel/quantized.h.
template <class R>
FASTRNN_INLINE Index stored_bytes(Format format) {
  return format == Format::full ? Index(sizeof(R)) : quantized(format) ? 1 : 2;
}
template <class R>
FASTRNN_INLINE Index column_bytes(Format format, Index K) {
  if (!quantized(format)) return K * stored_bytes<R>(format);
  return padded(K, 4) + 4 * (1 + (K + int8_block - 1) / int8_block);
}

// How a kind of layer reads its parameters. Every member of a team calls the same function, here and below.
template <class R>
struct Packing {
  Index lanes, gates, slots;
  Index products[2];             // slots that each feeds
  Index vectors[most_vectors];   // lengths of the cell's own in H
  bool projects;                 // whether h may be a projection
  void (*pack)(const Parameters<R>&, const Packed<R>&, const Team&) noexcept;

  // Numbers of a row of slots; of all products' panels for each k; and how many vectors of H there are.
  FASTRNN_INLINE Index row(Index H) const { return padded(slots * H, lanes); }
  FASTRNN_INLINE Index columns(Index H) const { return padded(products[0] * H, lanes) + padded(products[1] * H, lanes); }
  FASTRNN_INLINE Index stored(const Parameters<R>& p) const {  // bytes of w_hh
    return columns(p.H) * column_bytes<R>(p.format, p.P);
  }
  FASTRNN_INLINE Index own() const {
    Index sum = 0;
    for (const Index length : vectors) sum += length;
    return sum;
  }
};

// A cell in one dtype on one ISA. Steps run in order.
template <class R>
struct Kernel : Packing<R> {
  Index states;
  Index sums;    // of each row: its own vectors, and of a cell of whole rows its biases by slots
  bool has_row;  // of its own, which its second product reads
  Index (*forward_workspace)(const Layer<R>&);   // bytes for each member
  Index (*backward_workspace)(const Layer<R>&, Index members);  // bytes for all
  void (*forward)(const Forward<R>&, Index s0, Index s1, const Team&) noexcept;    // steps s0 .. s1-1
  void (*rebuild)(const Forward<R>&, Index s0, Index s1, const Team&) noexcept;    // a block, from y
  void (*backward)(const Backward<R>&, Index s0, Index s1, const Team&) noexcept;  // steps s1-1 .. s0
  void (*gradients)(const Backward<R>&, Index s0, Index s1, const Team&) noexcept;  // the sums over these steps
};

// y = x W^T + b.
template <class R>
struct Linear {
  Index N, I, O;
  const R* x;              // [N, I]
  R* y;                    // [N, O]
  Packed<R> packed{};      // or, if N is at most few_rows, nulls and
  const R* w = nullptr;    // [O, I]
  const R* b = nullptr;    // [O] or null
};

constexpr Index few_rows = 4;  // for which weights are turned on the way in less time than they are packed

// Its gradients.
template <class R>
struct LinearGradients {
  Index N, I, O;
  const R* x;       // [N, I]
  const R* w;       // [O, I]
  const R* dy;      // [N, O]
  R* dx;            // [N, I]
  R* dw;            // [O, I]
  R* db;            // [O]
  R* packed;        // [O, Ip] in wide panels
  R* dbias;         // [2, Op] zeros: sums, and what rounding has added to them
  void* workspace;  // [workspace]
};

template <class R>
struct LinearKernel : Packing<R> {
  void (*forward)(const Linear<R>&, Index n0, Index n1, const Team&) noexcept;  // rows n0 .. n1-1
  Index (*workspace)(const LinearGradients<R>&, Index members);                 // bytes for all
  void (*backward)(const LinearGradients<R>&, Index n0, Index n1, const Team&) noexcept;  // in order
};

// What an activation layer applies, and its own numbers: see reference.activation.
struct Function {
  enum Name { none, relu, leaky_relu, elu, tanh, sigmoid, hard_sigmoid, silu, gelu, softsign, softmax, exp } name = none;
  double numbers[2] = {};

  FASTRNN_INLINE explicit operator bool() const { return name != none; }
};

// y = function(x), in parts that are computed apart: softmax's are rows, all others' are numbers.
template <class R>
struct Applied {
  Function function;
  Index N, width;
  const R* x;  // [N, width]
  R* y;        // [N, width]

  static constexpr double flops = 30;  // of a number

  FASTRNN_INLINE Index parts() const { return function.name == Function::softmax ? N : N * width; }
  FASTRNN_INLINE double part_flops() const { return function.name == Function::softmax ? flops * double(width) : flops; }
};

// The cross-entropy of rows of logits with the classes that they should have given, and its gradient.
template <class R>
struct CrossEntropy {
  Index N, V;
  const R* logits;       // [N, V]
  const Index* targets;  // [N]  below 0 where a row is not counted
  R count;               // of the rows that are
  double* losses;        // [N]  0 where a row is not counted
  R* dlogits;            // [N, V]  of the losses' sum / count
};

// One optimizer's step on one array; reference.training has the formulas and what the numbers are in them.
template <class R>
struct Update {
  R* p;        // [n]  the parameters
  const R* g;  // [n]  their gradient
  R* m;        // [n]  moving average of the gradient, or null
  R* v;        // [n]  moving average of its square, or null
  double rate, decay, beta1, beta2, eps;
};

// An element is kept where its random number is not below the threshold.
template <class R>
struct Drop {
  const R* x;                   // [n]
  const std::uint16_t* random;  // [n]
  R* y;                         // [n]
  int threshold;
  R scale;  // of what is kept
};

// What a training step does besides products, for rows n0 .. n1-1 or for elements first .. last-1: no result depends
// on how they are split.
template <class R>
struct TrainingKernel {
  void (*cross_entropy)(const CrossEntropy<R>&, Index n0, Index n1) noexcept;
  void (*sgd)(const Update<R>&, Index first, Index last) noexcept;
  void (*rmsprop)(const Update<R>&, Index first, Index last) noexcept;
  void (*adam)(const Update<R>&, Index first, Index last) noexcept;
  void (*scale)(R* x, R factor, Index first, Index last) noexcept;
  double (*sum_of_squares)(const R* x, Index first, Index last) noexcept;
  void (*drop)(const Drop<R>&, Index first, Index last) noexcept;
};

// What an array is stirred into, word after word: any change of a word changes its chain.
struct Chains {
  std::uint64_t of[32];
};

// What one ISA offers in one dtype.
template <class R>
struct Table {
  const Kernel<R>* cells;
  LinearKernel<R> linear;
  TrainingKernel<R> training;
  void (*apply)(const Applied<R>&, Index first, Index last) noexcept;  // to parts first .. last-1
};

// Whether this processor multiplies bytes by fours, and may: see kernel/quantized.cpp.
bool has_dot_products();

// All that one ISA offers.
struct Isa {
  const char* name;
  const char* const* cells;  // their names, in the order of the tables'
  int cell_count;
  Table<float> f32;
  Table<double> f64;
  void (*stir)(Chains&, const void* data, Index bytes) noexcept;

  template <class R>
  const Table<R>& table() const {
    if constexpr (sizeof(R) == sizeof(float))
      return f32;
    else
      return f64;
  }
};

}  // namespace fastrnn
