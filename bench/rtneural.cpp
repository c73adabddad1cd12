// RTNeural's models of sizes that are known when it compiles, for bench/embedded.py: of each network that SHAPES names,
// _start takes weights and _run takes steps.
#include <RTNeural/RTNeural.h>

#include <memory>
#include <vector>

namespace {

using Rows = std::vector<std::vector<float>>;

// A matrix (rows, columns) as columns of which RTNeural makes its own.
Rows turned(const float* w, int rows, int columns) {
  Rows found(columns, std::vector<float>(rows));
  for (int i = 0; i < rows; ++i)
    for (int j = 0; j < columns; ++j) found[j][i] = w[i * columns + j];
  return found;
}

template <int I, int H>
struct Lstm {
  using Type = RTNeural::LSTMLayerT<float, I, H>;
  static constexpr int gates = 4;
  static void bias(Type& layer, const float* b_ih, const float* b_hh) {
    std::vector<float> sum(b_ih, b_ih + 4 * H);
    for (int i = 0; i < 4 * H; ++i) sum[i] += b_hh[i];
    layer.setBVals(sum);
  }
};

template <int I, int H>
struct Gru {
  using Type = RTNeural::GRULayerT<float, I, H>;
  static constexpr int gates = 3;
  static void bias(Type& layer, const float* b_ih, const float* b_hh) {
    layer.setBVals(Rows{{b_ih, b_ih + 3 * H}, {b_hh, b_hh + 3 * H}});
  }
};

// Weights come one after the other; a GRU's gates as RTNeural orders them.
template <class Cell, class Model, int I, int H, bool linear>
void start(std::unique_ptr<Model>& model, const float* w) {
  constexpr int G = Cell::gates * H;
  model = std::make_unique<Model>();
  auto& layer = model->template get<0>();
  layer.setWVals(turned(w, G, I));
  layer.setUVals(turned(w += G * I, G, H));
  w += G * H;
  Cell::bias(layer, w, w + G);
  w += 2 * G;
  if constexpr (linear) {
    auto& last = model->template get<1>();
    last.setWeights(Rows{{w, w + H}});
    last.setBias(w + H);
  }
  model->reset();
}

template <class Model>
void run(Model& model, const float* x, long T, float* y, int inputs, int outputs) {
  for (long t = 0; t < T; ++t) {
    model.forward(x + t * inputs);
    const float* const found = model.getOutputs();
    for (int j = 0; j < outputs; ++j) y[t * outputs + j] = found[j];
  }
}

}  // namespace

#define TO_ONE(name, Cell, H)                                                                                            \
  namespace {                                                                                                            \
  using name##_type = RTNeural::ModelT<float, 1, 1, Cell<1, H>::Type, RTNeural::DenseT<float, H, 1>>;                    \
  std::unique_ptr<name##_type> name##_model;                                                                             \
  }                                                                                                                      \
  extern "C" void name##_start(const float* w) { start<Cell<1, H>, name##_type, 1, H, true>(name##_model, w); }          \
  extern "C" void name##_run(const float* x, long T, float* y) { run(*name##_model, x, T, y, 1, 1); }

#define SQUARE(name, Cell, H)                                                                                            \
  namespace {                                                                                                            \
  using name##_type = RTNeural::ModelT<float, H, H, Cell<H, H>::Type>;                                                   \
  std::unique_ptr<name##_type> name##_model;                                                                             \
  }                                                                                                                      \
  extern "C" void name##_start(const float* w) { start<Cell<H, H>, name##_type, H, H, false>(name##_model, w); }         \
  extern "C" void name##_run(const float* x, long T, float* y) { run(*name##_model, x, T, y, H, H); }

SHAPES
