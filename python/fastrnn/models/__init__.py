"""Complete, trainable models built from the layers."""

from fastrnn.models.classifier import SequenceClassifier
from fastrnn.models.ngram import NGram
from fastrnn.models.text import TextGenerator

__all__ = ["NGram", "SequenceClassifier", "TextGenerator"]
