// oneDNN's recurrent primitives without a framework around them: one layer, one direction; float32, and for
// inference bfloat16 or int8. Weights lie in the format that each primitive prefers, and x is of the type that it
// takes, reordered before anything is timed.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>
#include <unordered_map>
#include <vector>

#include "oneapi/dnnl/dnnl.hpp"

using namespace dnnl;
using Dims = memory::dims;
using Tag = memory::format_tag;
using Type = memory::data_type;

namespace {

struct Shape {
  long T, B, I, H, gates, bias_gates;
  bool stream;  // whether each run goes on from the last one's state
  Type weights;
};

memory::desc described(const Dims& dims, Tag tag, Type type = Type::f32) { return {dims, type, tag}; }

constexpr float shift = 128;  // the byte that stands for 0, of x and h

// One scale for x and h, and one for each gate of each unit, as oneDNN wants them.
primitive_attr quantized(const Shape& s, const float* w_ih, const float* w_hh, const float* x) {
  float most = 1;
  for (long k = 0; k < s.T * s.B * s.I; ++k) most = std::max(most, std::abs(x[k]));
  std::vector<float> scales;
  for (long row = 0; row < s.gates * s.H; ++row) {
    float largest = 0;
    for (long k = 0; k < s.I; ++k) largest = std::max(largest, std::abs(w_ih[row * s.I + k]));
    for (long k = 0; k < s.H; ++k) largest = std::max(largest, std::abs(w_hh[row * s.H + k]));
    scales.push_back(127 / largest);
  }
  primitive_attr attr;
  attr.set_rnn_data_qparams((shift - 1) / most, shift);
  attr.set_rnn_weights_qparams((1 << 3) + (1 << 4), scales);  // axes g and o of ldigo
  return attr;
}

// The memory descriptors of a layer, as all primitives take them.
struct Descs {
  memory::desc x, y, w_ih, w_hh, bias, h, c;
  primitive_attr attr;

  Descs(const Shape& s, primitive_attr attr)
      : x(described({s.T, s.B, s.I}, Tag::tnc, data(s))),
        y(described({s.T, s.B, s.H}, Tag::tnc, s.weights == Type::s8 ? Type::f32 : s.weights)),
        w_ih(described({1, 1, s.I, s.gates, s.H}, Tag::any, s.weights)),
        w_hh(described({1, 1, s.H, s.gates, s.H}, Tag::any, s.weights)),
        bias(described({1, 1, s.bias_gates, s.H}, Tag::ldgo)),
        h(described({1, 1, s.B, s.H}, Tag::ldnc, data(s))),
        c(described({1, 1, s.B, s.H}, Tag::ldnc)),
        attr(attr) {}

  static Type data(const Shape& s) { return s.weights == Type::s8 ? Type::u8 : s.weights; }
};

constexpr auto direction = rnn_direction::unidirectional_left2right;

struct Lstm {
  using Forward = lstm_forward;
  using Backward = lstm_backward;
  static auto forward(const engine& e, prop_kind kind, const Descs& d) {
    return Forward::primitive_desc(e, kind, direction, d.x, d.h, d.c, d.w_ih, d.w_hh, d.bias, d.y, d.h, d.c, d.attr);
  }
  static auto backward(const engine& e, const Descs& d, const Forward::primitive_desc& hint) {
    return Backward::primitive_desc(e, prop_kind::backward, direction, d.x, d.h, d.h, d.w_ih, d.w_hh, d.bias, d.y,
                                    d.h, d.h, d.x, d.h, d.h, d.w_ih, d.w_hh, d.bias, d.y, d.h, d.h, hint);
  }
};

struct Gru {
  using Forward = lbr_gru_forward;
  using Backward = lbr_gru_backward;
  static auto forward(const engine& e, prop_kind kind, const Descs& d) {
    return Forward::primitive_desc(e, kind, direction, d.x, d.h, d.w_ih, d.w_hh, d.bias, d.y, d.h, d.attr);
  }
  static auto backward(const engine& e, const Descs& d, const Forward::primitive_desc& hint) {
    return Backward::primitive_desc(e, prop_kind::backward, direction, d.x, d.h, d.w_ih, d.w_hh, d.bias, d.y, d.h,
                                    d.x, d.h, d.w_ih, d.w_hh, d.bias, d.y, d.h, hint);
  }
};

struct Rnn {
  using Forward = vanilla_rnn_forward;
  using Backward = vanilla_rnn_backward;
  static auto forward(const engine& e, prop_kind kind, const Descs& d) {
    return Forward::primitive_desc(e, kind, algorithm::eltwise_tanh, direction, d.x, d.h, d.w_ih, d.w_hh, d.bias,
                                   d.y, d.h, d.attr);
  }
  static auto backward(const engine& e, const Descs& d, const Forward::primitive_desc& hint) {
    return Backward::primitive_desc(e, prop_kind::backward, algorithm::eltwise_tanh, direction, d.x, d.h, d.w_ih,
                                    d.w_hh, d.bias, d.y, d.h, d.x, d.h, d.w_ih, d.w_hh, d.bias, d.y, d.h, hint);
  }
};

struct Layer {
  virtual ~Layer() = default;
  virtual void run() = 0;
  virtual void reset() = 0;
  virtual void fetch(const std::string& name, float* out) = 0;
};

template <class Cell>
class LayerOf : public Layer {
 public:
  LayerOf(const Shape& shape, bool training, const float* w_ih, const float* w_hh, const float* bias,
          const float* x, const float* dy)
      : shape(shape), training(training) {
    if (shape.weights == Type::s8) attr = quantized(shape, w_ih, w_hh, x);
    const Descs descs(shape, attr);
    const auto kind = training ? prop_kind::forward_training : prop_kind::forward_inference;
    const auto pd = Cell::forward(cpu, kind, descs);
    forward = std::make_unique<typename Cell::Forward>(pd);

    auto& f = forward_memory;
    const auto given = described({shape.T, shape.B, shape.I}, Tag::tnc);
    f[DNNL_ARG_SRC_LAYER] = reordered(given, x, pd.src_layer_desc(), attr);
    f[DNNL_ARG_WEIGHTS_LAYER] = weights(pd.weights_layer_desc(), w_ih, shape.I);
    f[DNNL_ARG_WEIGHTS_ITER] = weights(pd.weights_iter_desc(), w_hh, shape.H);
    f[DNNL_ARG_BIAS] = filled(pd.bias_desc(), bias);
    f[DNNL_ARG_DST_LAYER] = memory(pd.dst_layer_desc(), cpu);
    // Version 3.2 computes a wrong gradient of w_hh where the initial state is left out.
    for (int argument : {DNNL_ARG_SRC_ITER, DNNL_ARG_DST_ITER}) f[argument] = memory(descs.h, cpu);
    for (int argument : {DNNL_ARG_SRC_ITER_C, DNNL_ARG_DST_ITER_C}) f[argument] = memory(descs.c, cpu);
    reset();
    if (!training) return;

    f[DNNL_ARG_WORKSPACE] = memory(pd.workspace_desc(), cpu);
    const auto back = Cell::backward(cpu, descs, pd);
    backward = std::make_unique<typename Cell::Backward>(back);
    auto& b = backward_memory;
    for (int argument : {DNNL_ARG_SRC_LAYER, DNNL_ARG_BIAS, DNNL_ARG_DST_LAYER, DNNL_ARG_WORKSPACE,
                         DNNL_ARG_SRC_ITER, DNNL_ARG_SRC_ITER_C, DNNL_ARG_DST_ITER, DNNL_ARG_DST_ITER_C})
      b[argument] = f[argument];
    for (int argument : {DNNL_ARG_DIFF_SRC_ITER, DNNL_ARG_DIFF_SRC_ITER_C, DNNL_ARG_DIFF_DST_ITER,
                         DNNL_ARG_DIFF_DST_ITER_C}) {
      b[argument] = memory(descs.h, cpu);
      clear(b[argument]);
    }
    b[DNNL_ARG_WEIGHTS_LAYER] = weights(back.weights_layer_desc(), w_ih, shape.I);
    b[DNNL_ARG_WEIGHTS_ITER] = weights(back.weights_iter_desc(), w_hh, shape.H);
    b[DNNL_ARG_DIFF_DST_LAYER] = filled(back.diff_dst_layer_desc(), dy);
    b[DNNL_ARG_DIFF_SRC_LAYER] = memory(back.diff_src_layer_desc(), cpu);
    b[DNNL_ARG_DIFF_WEIGHTS_LAYER] = memory(back.diff_weights_layer_desc(), cpu);
    b[DNNL_ARG_DIFF_WEIGHTS_ITER] = memory(back.diff_weights_iter_desc(), cpu);
    b[DNNL_ARG_DIFF_BIAS] = memory(back.diff_bias_desc(), cpu);
  }

  void run() override {
    forward->execute(queue, forward_memory);
    if (shape.stream) {
      std::swap(forward_memory[DNNL_ARG_SRC_ITER], forward_memory[DNNL_ARG_DST_ITER]);
      std::swap(forward_memory[DNNL_ARG_SRC_ITER_C], forward_memory[DNNL_ARG_DST_ITER_C]);
    }
    if (training) {  // oneDNN adds to the gradients of weights
      for (int argument : {DNNL_ARG_DIFF_WEIGHTS_LAYER, DNNL_ARG_DIFF_WEIGHTS_ITER, DNNL_ARG_DIFF_BIAS})
        clear(backward_memory[argument]);
      backward->execute(queue, backward_memory);
    }
    queue.wait();
  }

  void reset() override {
    clear(forward_memory[DNNL_ARG_SRC_ITER]);
    clear(forward_memory[DNNL_ARG_SRC_ITER_C]);
  }

  void fetch(const std::string& name, float* out) override {
    auto& b = backward_memory;
    if (name == "y") copy(forward_memory[DNNL_ARG_DST_LAYER], described({shape.T, shape.B, shape.H}, Tag::tnc), out);
    if (name == "dx") copy(b[DNNL_ARG_DIFF_SRC_LAYER], described({shape.T, shape.B, shape.I}, Tag::tnc), out);
    if (name == "dw_ih") copy(b[DNNL_ARG_DIFF_WEIGHTS_LAYER], rows(shape.I), out);
    if (name == "dw_hh") copy(b[DNNL_ARG_DIFF_WEIGHTS_ITER], rows(shape.H), out);
    if (name == "db") copy(b[DNNL_ARG_DIFF_BIAS], described({1, 1, shape.bias_gates, shape.H}, Tag::ldgo), out);
  }

 private:
  // Weights as PyTorch has them, a row of inputs for each gate and unit.
  memory::desc rows(long inputs) const { return described({1, 1, inputs, shape.gates, shape.H}, Tag::ldgoi); }

  memory filled(const memory::desc& desc, const float* values) {
    memory filled(desc, cpu);
    std::memcpy(filled.get_data_handle(), values, desc.get_size());
    return filled;
  }

  memory weights(const memory::desc& desc, const float* values, long inputs) {
    const auto turned = described({1, 1, inputs, shape.gates, shape.H}, Tag::ldigo);  // all that int8 is made of
    memory between = reordered(rows(inputs), values, turned, {});
    return reordered(turned, static_cast<float*>(between.get_data_handle()), desc, attr);
  }

  memory reordered(const memory::desc& from, const float* values, const memory::desc& to, const primitive_attr& how) {
    memory user(from, cpu, const_cast<float*>(values)), ours(to, cpu);
    reorder(reorder::primitive_desc(user, ours, how)).execute(queue, user, ours);
    queue.wait();
    return ours;
  }

  void copy(memory& from, const memory::desc& desc, float* out) {
    memory user(desc, cpu, out);
    reorder(from, user).execute(queue, from, user);
    queue.wait();
  }

  void clear(memory& m) {
    const bool bytes = m.get_desc().get_data_type() == Type::u8;
    std::memset(m.get_data_handle(), bytes ? static_cast<int>(shift) : 0, m.get_desc().get_size());
  }

  engine cpu{engine::kind::cpu, 0};
  stream queue{cpu};
  Shape shape;
  bool training;
  primitive_attr attr;
  std::unique_ptr<typename Cell::Forward> forward;
  std::unique_ptr<typename Cell::Backward> backward;
  std::unordered_map<int, memory> forward_memory, backward_memory;
};

thread_local std::string message;

template <class Cell>
Layer* make(long T, long B, long I, long H, long gates, long bias_gates, bool stream, Type weights, bool training,
            const float* w_ih, const float* w_hh, const float* bias, const float* x, const float* dy) {
  return new LayerOf<Cell>({T, B, I, H, gates, bias_gates, stream, weights}, training, w_ih, w_hh, bias, x, dy);
}

}  // namespace

extern "C" {

const char* version() {
  static const auto* v = dnnl_version();
  static const std::string text =
      std::to_string(v->major) + "." + std::to_string(v->minor) + "." + std::to_string(v->patch);
  return text.c_str();
}

const char* last_error() { return message.c_str(); }

// x [T, B, I], dy [T, B, H] or null, w_ih [G*H, I], w_hh [G*H, H], bias [gates of the bias * H], in oneDNN's order
// of gates. Null if oneDNN refuses.
void* create(const char* cell, const char* format, long T, long B, long I, long H, int stream, int training,
             const float* w_ih, const float* w_hh, const float* bias, const float* x, const float* dy) {
  try {
    const std::string name = cell, wanted = format;
    const Type type = wanted == "int8" ? Type::s8 : wanted == "bfloat16" ? Type::bf16 : Type::f32;
    if (name == "lstm") return make<Lstm>(T, B, I, H, 4, 4, stream, type, training, w_ih, w_hh, bias, x, dy);
    if (name == "gru") return make<Gru>(T, B, I, H, 3, 4, stream, type, training, w_ih, w_hh, bias, x, dy);
    return make<Rnn>(T, B, I, H, 1, 1, stream, type, training, w_ih, w_hh, bias, x, dy);
  } catch (const std::exception& error) {
    message = error.what();
    return nullptr;
  }
}

void run(void* layer) { static_cast<Layer*>(layer)->run(); }
void reset(void* layer) { static_cast<Layer*>(layer)->reset(); }
void fetch(void* layer, const char* name, float* out) { static_cast<Layer*>(layer)->fetch(name, out); }
void destroy(void* layer) { delete static_cast<Layer*>(layer); }
}
