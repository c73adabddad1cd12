// What a cell is made of, and what its pointwise functions see.
//
// A step is a list of products, each followed by a part of the cell: forward<p> after product p, and on the way back
// backward<p> before what undoes it. So a cell is counts, products and pointwise functions:
//
//   name, gates G, slots S, states (1: h, 2: h and c)
//   products      the input feeds the first G slots, the products together the last G
//   gate(slot)    which of PyTorch's gates that is
//   reads_h       whether its functions read h itself, not only its products: then h cannot be a projection
//   vectors       the lengths of its vectors in H, as {3}
//   forward<p>    a: pre-activations in, out what backward needs; the last part sets next_h and next_c
//   whole_rows    whether it needs all units of a row at once, as normalisation does: see WholeRow. Rows are never
//                 shared by members then
//   backward<p>   a: that in, gradients of the pre-activations out; of dh and dc those after the step in, before it out.
//                 The last part runs first, and alone has c, dc, dh and next_h; the others have drow, and their share of h's
//                 gradient is dmultiplied; what they need besides waits in slots of their own. Each part sets all
//                 dvectors, which are added up: 0 where it has none
#pragma once

#include "math.h"

namespace fastrnn::FASTRNN_ISA {

enum class Source { h, row };  // the row is the cell's own: the part before the product writes it

// Rows of the source times weights, into slots first .. first + count - 1.
struct Product {
  Source source;
  int first, count;
};

struct Lengths {
  int of[most_vectors];
};

// What most cells have none of.
struct Plain {
  static constexpr bool reads_h = false, whole_rows = false;
  static constexpr Lengths vectors{};
};

// U hidden units of one row in one step.
template <class R>
struct Point {
  static constexpr int most = 10;

  const Options* options;
  Vec<R> a[8];
  Vec<R> h, c;                             // before the step
  Vec<R> multiplied;                       // h as products read it, under the mask
  Vec<R> next_h, next_c;                   // after it
  Vec<R> row;                              // for the product that reads it
  Vec<R> dh, dc, dmultiplied, drow;        // gradients
  Vec<R> vectors[most], dvectors[most];    // the cell's own, H of them each; and their gradients
  bool given;                              // whether it has them: 0 stands for none, but 0 times infinity is no 0
};

// One row in one step, as a cell sees it that needs whole rows: it has forward(layout, row) and backward(layout, row) in
// the place of the parts. Its slots are raw sums, to which nobody has added biases.
template <class R>
struct WholeRow {
  R* slots;                  // forward leaves them; backward makes them the gradients of the sums
  const R* bias;             // a row of slots
  const R* vectors;          // the cell's own, [vectors, Hp]
  Index Hp;
  const R *h, *c;            // before the step
  R *next_h, *next_c;        // after it; next_h null where it is there
  R *dh = nullptr, *dc = nullptr;  // [Hp] of those after the step in, before it out
  R* dvectors = nullptr;     // [vectors + S, Hp]: backward adds the gradients of its own, and of the biases by slots
  R* scratch = nullptr;      // [S + 1, Hp]
};

template <class C>
constexpr int vector_groups() {
  int sum = 0;
  for (const int length : C::vectors.of) sum += length;
  return sum;
}

}  // namespace fastrnn::FASTRNN_ISA
