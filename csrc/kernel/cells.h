// The list of cells. Their names are those of reference.CELLS.
#pragma once

#include "gru.h"
#include "lstm.h"
#include "rnn.h"

namespace fastrnn::FASTRNN_ISA {

template <class... Cell>
struct List {};

using Cells = List<RNN<Tanh>, RNN<Relu>, LSTM, GRU>;

}  // namespace fastrnn::FASTRNN_ISA
