// The list of cells. Their names are those of reference.CELLS.
#pragma once

#include "gru.h"
#include "gru_before.h"
#include "gru_layer_norm.h"
#include "lstm.h"
#include "lstm_layer_norm.h"
#include "rnn.h"

namespace fastrnn::FASTRNN_ISA {

template <class... Cell>
struct List {};

using Cells = List<RNN<Usual, 't'>, RNN<UsualRelu, 'r'>, RNN<Chosen, 'a'>, LSTM<Usual>, LSTM<Chosen>, LSTMLayerNorm,
                   GRU<Usual>, GRU<Chosen>, GRULayerNorm, GRUBefore<Usual>, GRUBefore<Chosen>>;

}  // namespace fastrnn::FASTRNN_ISA
