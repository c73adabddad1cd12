"""Complete, trainable models built from the layers."""

from fastrnn.models.classifier import SequenceClassifier
from fastrnn.models.forecaster import Forecaster
from fastrnn.models.generator import SequenceGenerator
from fastrnn.models.members import Many, many
from fastrnn.models.regressor import SequenceRegressor
from fastrnn.models.seq2seq import SequenceToSequence
from fastrnn.models.tagger import SequenceTagger
from fastrnn.models.text import TextGenerator

__all__ = [
    "Forecaster",
    "Many",
    "SequenceClassifier",
    "SequenceGenerator",
    "SequenceRegressor",
    "SequenceTagger",
    "SequenceToSequence",
    "TextGenerator",
    "many",
]
