"""What comes in, in the forms that networks take: sequences in batches, text as tokens."""

from fastrnn.data.dataset import Dataset, Parts, dataset
from fastrnn.data.examples import Batches, Examples, batches
from fastrnn.data.scaling import Scaling
from fastrnn.data.sequence import LAYOUTS, Sequences, column_names, is_list, sequences
from fastrnn.data.shards import Shards
from fastrnn.data.symbols import Symbol, Symbols, begins_with_str, symbol_sequences
from fastrnn.data.vocabulary import Bytes, Tokens, Vocabulary, Words, nonempty_text, text_argument
from fastrnn.data.weights import sample_weights, shares

__all__ = [
    "LAYOUTS",
    "Batches",
    "Bytes",
    "Dataset",
    "Examples",
    "Parts",
    "Scaling",
    "Sequences",
    "Shards",
    "Symbol",
    "Symbols",
    "Tokens",
    "Vocabulary",
    "Words",
    "batches",
    "begins_with_str",
    "column_names",
    "dataset",
    "is_list",
    "nonempty_text",
    "sample_weights",
    "sequences",
    "shares",
    "symbol_sequences",
    "text_argument",
]
