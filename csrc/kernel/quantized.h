// Weights of 8 bits: how they are stored, in panels of quads.
//
// A panel is [K / 4, row] of four weights each, neighbours in k; then [row] scales, and for each block of int8_block k
// [row] sums of the weights.
#pragma once

#include "formats.h"

namespace fastrnn::FASTRNN_ISA {

// The scale of a row of weights: its largest divided by 127, with 16 bits, so that every multiple is exact, and what
// was rounded gives itself again.
FASTRNN_INLINE float int8_scale(const float* w, Index K) {
  float top = 0;
  for (Index k = 0; k < K; ++k) top = __builtin_fabsf(w[k]) > top ? __builtin_fabsf(w[k]) : top;
  const float exact = top / 127;
  if (exact < 0x1p-110f) return 0;
  std::uint32_t bits;
  __builtin_memcpy(&bits, &exact, sizeof(bits));
  bits = (bits + 0xff) & ~0xffu;
  float scale;
  __builtin_memcpy(&scale, &bits, sizeof(scale));
  return scale;
}

// The integers of weights with such scales.
FASTRNN_INLINE Int<float> int8_of(Vec<float> w, Vec<float> scales) {
  return scales > 0 ? nearest(w / scales) : Int<float>{};
}

// The parts of a panel.
struct QuadPanel {
  std::int32_t* quads;
  float* scales;
  std::int32_t* sums;

  // Also of what is only read.
  QuadPanel(const void* start, Index K, Index row)
      : quads(static_cast<std::int32_t*>(const_cast<void*>(start))), scales(reinterpret_cast<float*>(quads + padded(K, 4) / 4 * row)),
        sums(reinterpret_cast<std::int32_t*>(scales + row)) {}
};

// From column j on, what row k of a stored panel holds.
template <class R>
FASTRNN_INLINE Vec<R> stored_row(Format format, const char* panel, Index K, Index row, Index k, Index j) {
  if constexpr (sizeof(R) == sizeof(float)) {
    const int v = int(j / lanes<R>), vectors = int(row / lanes<R>);
    if (format == Format::float16) return Row<Half>::at(reinterpret_cast<const Half*>(panel) + k * row, v, vectors);
    if (format == Format::bfloat16) return Row<BFloat16>::at(reinterpret_cast<const BFloat16*>(panel) + k * row, v, vectors);
    if (quantized(format)) {
      const QuadPanel parts(panel, K, row);
      const auto quads = (Int<float>)load(reinterpret_cast<const float*>(parts.quads + k / 4 * row + j));
      const Int<float> weights = quads << (24 - k % 4 * 8) >> 24;
      return __builtin_convertvector(weights, Vec<float>) * load(parts.scales + j);
    }
  }
  return load(reinterpret_cast<const R*>(panel) + k * row + j);
}

}  // namespace fastrnn::FASTRNN_ISA
