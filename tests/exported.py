"""What tests of networks that go out share."""

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from fastrnn.layers import (
    ELU,
    GELU,
    GRU,
    LSTM,
    RNN,
    SELU,
    Dropout,
    Embedding,
    HardSigmoid,
    Last,
    Layer,
    LeakyReLU,
    Linear,
    LogSoftmax,
    Masking,
    Max,
    Mean,
    Merge,
    ReLU,
    Reverse,
    Sequential,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Softsign,
    Tanh,
)

T, B, I, H = 6, 4, 3, 5
LENGTHS = np.array([6, 2, 4, 1])

ACTIVATIONS = [
    ReLU(),
    LeakyReLU(0.3),
    ELU(0.7),
    SELU(),
    GELU(),
    GELU("tanh"),
    SiLU(),
    Sigmoid(),
    HardSigmoid(),
    HardSigmoid(0.2),
    Tanh(),
    Softplus(),
    Softsign(),
    Softmax(),
    LogSoftmax(),
]


class Doubled(Layer):
    """A layer of one's own."""

    def __call__(self, x):
        return 2 * x


def filled(network):
    """The network with other numbers in all its arrays, learned states and peepholes among them."""
    rng = np.random.default_rng(1)
    for array in network.parameters.values():
        array[...] = rng.uniform(-0.7, 0.7, array.shape)
    return network


def sample(network, rng, tokens=None):
    """What the network takes: tokens, if it begins with an `Embedding` or it is said how many there are, or
    floats."""
    row = network._row() if isinstance(network, Sequential) else [network]
    first = next((layer for layer in row if not isinstance(layer, Masking)), None)
    tokens = first.num_embeddings if isinstance(first, Embedding) else tokens
    shape = (B, T) if getattr(network, "batch_first", False) else (T, B)
    if tokens:
        return rng.integers(0, tokens, shape)
    return rng.normal(size=(*shape, network._features[0] or I)).astype(getattr(network, "dtype", "float32"))


def valid(network, y):
    """y with zeros for steps behind the end of a sequence, which mean nothing; of vectors all."""
    if y.ndim < 3:
        return y
    past = np.arange(T)[:, None] >= LENGTHS
    return np.where((past.T if network.batch_first else past)[:, :, None], 0, y)


def close(got, want, atol=1e-6):
    assert got.shape == want.shape and got.dtype == want.dtype
    np.testing.assert_allclose(got, want, rtol=0, atol=atol)


#: A few examples, as each is written, read and run.
FEW = settings(max_examples=25, suppress_health_check=list(HealthCheck))


@st.composite
def networks(draw, forms):
    """A network of one to three recurrent layers, and what stands around them.

    Parameters
    ----------
    forms : dict of Recurrent to list of dict
        The options that a layer of a kind may have.
    """
    width, first = draw(st.integers(1, 4)), draw(st.booleans())
    parts = [Embedding(9, width)] if draw(st.booleans()) else []
    for _ in range(draw(st.integers(1, 3))):
        kind, hidden = draw(st.sampled_from([RNN, LSTM, GRU])), draw(st.integers(1, 5))
        both, turned = draw(st.booleans()), draw(st.booleans())
        options = {"bidirectional": both, "batch_first": first, "bias": draw(st.booleans())}
        options |= {"num_layers": draw(st.integers(1, 2)), **draw(st.sampled_from(forms[kind]))}
        parts += [Reverse()] if turned and not both else []
        parts += [kind(width, hidden, **options), Dropout(0.5)]
        width = hidden * (1 + both)
        if both and draw(st.booleans()):
            parts[-1:] = [Merge(draw(st.sampled_from(["sum", "mul", "ave"])))]
            width = hidden
    if draw(st.booleans()):
        parts += [draw(st.sampled_from([Last, Mean, Max]))()]
    if draw(st.booleans()):
        parts += [draw(st.sampled_from([Tanh(), LeakyReLU(0.2), Softmax(), SiLU()])), Linear(width, 2)]
    return filled(Sequential(*parts))
