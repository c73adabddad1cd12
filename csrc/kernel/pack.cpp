// Weights on their way into panels, in any format: a unit of its own, as it is the same for all cells.
#if FASTRNN_APPLIES  // to the processor that this is compiled for
#include "pack.h"

namespace fastrnn::FASTRNN_ISA {
namespace {

template <class W, class R>
void store_as(const StoredColumns<R>& from, Index k0, Index k1, W* to, Index row, Index column) {
  constexpr Index U = lanes<R>;
  for (Index k = k0; k < k1; k += U) {
    const int valid = units_in<R>(k / U, from.K);
    Vec<R> block[U];
    transposed_block(from.w, from.K, k, from.count, block);
    for (Index i = 0; i < valid; ++i) Row<W>::put(to + (k + i) * row, column, row / U, block[i], from.count);
  }
}

void store_quads(const StoredColumns<float>& from, Index k0, Index k1, QuadPanel to, Index row) {
  constexpr Index U = lanes<float>;
  const auto put_ints = [&](std::int32_t* p, Int<float> v) { store(reinterpret_cast<float*>(p), (Vec<float>)v, from.count); };
  if (k0 == 0) {
    Vec<float> scales{};
    for (Index lane = 0; lane < from.count; ++lane) scales[lane] = int8_scale(from.w + lane * from.K, from.K);
    store(to.scales, scales, from.count);
  }
  const Vec<float> scales = load(to.scales, from.count);
  for (Index k = k0; k < k1; k += U) {
    std::int32_t* const sums = to.sums + k / int8_block * row;
    Int<float> sum = k % int8_block ? (Int<float>)load(reinterpret_cast<const float*>(sums), from.count) : Int<float>{};
    Vec<float> block[U];
    transposed_block(from.w, from.K, k, from.count, block);
    for (Index i = 0; i < U && k + i < from.K; i += 4) {
      Int<float> quad{};
      for (int n = 0; n < 4; ++n) {
        const Int<float> q = int8_of(block[i + n], scales);
        quad |= (q & 0xff) << (8 * n), sum += q;
      }
      put_ints(to.quads + (k + i) / 4 * row, quad);
    }
    put_ints(sums, sum);
  }
}

}  // namespace

template <class R>
void store_columns(const StoredColumns<R>& columns, Index k0, Index k1, char* panel, Index row, Index column) {
  if constexpr (std::is_same_v<R, float>) {
    const Format format = columns.format;
    if (format == Format::float16) return store_as(columns, k0, k1, reinterpret_cast<Half*>(panel), row, column);
    if (format == Format::bfloat16) return store_as(columns, k0, k1, reinterpret_cast<BFloat16*>(panel), row, column);
    if (quantized(format)) {
      QuadPanel to(panel, columns.K, row);
      to.quads += column, to.scales += column, to.sums += column;
      return store_quads(columns, k0, k1, to, row);
    }
  }
  store_as(columns, k0, k1, reinterpret_cast<R*>(panel), row, column);
}

template void store_columns(const StoredColumns<float>&, Index, Index, char*, Index, Index);
template void store_columns(const StoredColumns<double>&, Index, Index, char*, Index, Index);

}  // namespace fastrnn::FASTRNN_ISA

#endif
