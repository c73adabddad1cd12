// The matrix product, once: C += A W with W packed in panels.
//
// A panel is NV vectors wide and K rows deep. Every output has one accumulator and adds its K
// products in order, whatever the tile that it falls in: so a result does not depend on how rows and panels
// are shared out or how K is cut.
#pragma once

#include <array>
#include <type_traits>

#include "formats.h"

namespace fastrnn::FASTRNN_ISA {

// The columns of A that count: `count` runs of `length`, their starts `stride` apart.
struct Runs {
  Index count, length, stride;

  Index depth() const { return count * length; }
  // What follows the first k of them: whole runs, or a part of the only one, about `most` deep.
  Runs after(Index k, Index most) const {
    if (count == 1) return {1, length - k < most ? length - k : most, 0};
    const Index left = count - k / length, whole = most < length ? 1 : most / length;
    return {left < whole ? left : whole, length, stride};
  }
  Index offset(Index k) const { return count == 1 ? k : k / length * stride; }
};

template <class R>
struct Panels {
  const void* w;   // [count, K, row] as they are stored: of each row the first NV vectors
  Index row;       // from k to k
  Index stride;    // from panel to panel
  Index count;
  Index column;    // of C that the first panel gives
  Index columns;   // from panel to panel in C
  Index width;     // of C: the last panel may hang over
  const R* bias;   // what each row of C starts from, or null: C itself

  // The same from the last one to the first.
  Panels backwards(Index bytes = sizeof(R)) const {
    const Index last = count - 1;
    return {static_cast<const char*>(w) + last * stride * bytes, row, -stride, count, column + last * columns, -columns,
            width, bias};
  }
};

// Sums of a tile in registers; what is left is for W and A to pass through.
constexpr int most_sums = vector_registers == 32 ? 24 : 12;

// Rows of a tile where there are many. The least is read for each k where rows and vectors are about as many: 3 x 4
// beside 16 registers, not 6 x 2. A few rows, up to most_rows, are one tile all the same.
template <int NV>
constexpr int tile_rows = vector_registers == 32 ? (NV == 3 ? 8 : 6) : NV == 3 ? 4 : 3;
template <int NV>
constexpr int most_rows = tile_rows<NV> == 3 ? 5 : tile_rows<NV>;

// Blocks of rows: `many` of MR, then `less` of MR - 1, so that no block is left with a few.
template <class R>
struct Blocks {
  const R* const* a;
  R* const* c;
  Index rows, many, less;

  FASTRNN_INLINE R* const* end() const { return c + rows; }
};

// Tiles of 1 to most_rows<NV> rows, in this order. They are compiled in gemm.cpp, which takes longer than all cells do.
template <class R>
using RowBlocks = void (*)(const Blocks<R>&, const Runs&, const Panels<R>&);

template <int NV, int STEP, class R>
struct Tiles {
  static const std::array<RowBlocks<R>, most_rows<NV>> of;
};

// C[m] += A[m] W for the rows that a and c point to. Elements of A that follow in k stand STEP apart.
template <int NV, int STEP = 1, class R>
FASTRNN_INLINE void gemm(const R* const* a, R* const* c, Index rows, const Runs& runs, const Panels<R>& panels) {
  constexpr int best = tile_rows<NV>, most = most_rows<NV>;
  if (rows == 0) return;
  const Index count = rows <= most ? 1 : (rows + best - 1) / best, largest = (rows + count - 1) / count;
  const Index less = count * largest - rows;
  Tiles<NV, STEP, R>::of[largest - 1]({a, c, rows, count - less, less}, runs, panels);
}

// The same for panels of `vectors` vectors, at most `most`.
template <int most, int STEP = 1, class R>
FASTRNN_INLINE void gemm_of(Index vectors, const R* const* a, R* const* c, Index rows, const Runs& runs,
                            const Panels<R>& panels) {
  if constexpr (most > 0) {
    if (vectors == most)
      gemm<most, STEP>(a, c, rows, runs, panels);
    else
      gemm_of<most - 1, STEP>(vectors, a, c, rows, runs, panels);
  }
}

// The same where weights are stored in another format than `full`: in gemm.cpp, and those of int8 in quantized.cpp.
void multiply_narrow(Format format, Index vectors, const float* const* a, float* const* c, Index rows, Index K,
                     const Panels<float>& panels);
void multiply_quantized(Format format, Index vectors, const float* const* a, float* const* c, Index rows, Index K,
                        const Panels<float>& panels);

// C[m] += A[m] W for rows of K numbers, and packed weights in any format.
template <int most, class R>
FASTRNN_INLINE void multiply_packed(Format format, Index vectors, const R* const* a, R* const* c, Index rows, Index K,
                                    const Panels<R>& panels) {
  if constexpr (std::is_same_v<R, float>)
    if (format != Format::full) [[unlikely]] return multiply_narrow(format, vectors, a, c, rows, K, panels);
  gemm_of<most>(vectors, a, c, rows, {1, K, 0}, panels);
}

// ---- panels as wide as tiles are, for a matrix of vectors of columns without groups of their own

constexpr Index wide = 4;  // vectors

// Where vector q of `count` stands in each row, and how rows of its panel follow: [count / wide, K, wide, U], the
// last panel as narrow as what is left.
template <class R>
struct WidePanels {
  Index count, K;

  Index panels() const { return (count + wide - 1) / wide; }
  Index row(Index q) const {
    const Index left = count - q / wide * wide;
    return (left < wide ? left : wide) * lanes<R>;
  }
  Index start(Index q) const { return q / wide * wide * K * lanes<R> + q % wide * lanes<R>; }
};

// The columns of C that a product gives, and how wide C is: see Panels.
template <class R>
struct Columns {
  Index first, last;  // in vectors
  Index width;
  const R* bias;
};

// C[m] += A[m] W for some columns, with the rows of W from `from` on.
template <int STEP = 1, class R>
void gemm_wide(const R* const* a, R* const* c, Index rows, const Runs& runs, const R* w, Index from,
               const WidePanels<R>& layout, const Columns<R>& columns) {
  const Index last = columns.last;
  for (Index q = columns.first, next; q < last; q = next) {
    next = q / wide * wide + wide < last ? q / wide * wide + wide : last;
    Panels<R> panels{w + layout.start(q) + from * layout.row(q), layout.row(q), 0, 1, q * lanes<R>, 0,
                     columns.width, columns.bias};
    const Index vectors = next - q;
    if (vectors == wide) {
      panels.count = (last - q) / wide;
      panels.stride = wide * layout.K * lanes<R>;
      panels.columns = wide * lanes<R>;
      next = q + panels.count * wide;
    }
    gemm_of<wide, STEP>(vectors, a, c, rows, runs, panels);
  }
}

}  // namespace fastrnn::FASTRNN_ISA
