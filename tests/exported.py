"""What tests of networks that go out share."""

import numpy as np

from fastrnn.layers import (
    ELU,
    GELU,
    SELU,
    HardSigmoid,
    Layer,
    LeakyReLU,
    LogSoftmax,
    ReLU,
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


def given(network, rng, tokens=None):
    """What the network takes: tokens, if it is said how many there are, or floats."""
    shape = (B, T) if getattr(network, "batch_first", False) else (T, B)
    if tokens:
        return rng.integers(0, tokens, shape)
    return rng.normal(size=(*shape, I)).astype(getattr(network, "dtype", "float32"))


def valid(network, y):
    """y with zeros for steps behind the end of a sequence, which mean nothing; of vectors all."""
    if y.ndim < 3:
        return y
    past = np.arange(T)[:, None] >= LENGTHS
    return np.where((past.T if network.batch_first else past)[:, :, None], 0, y)


def close(got, want, atol=1e-6):
    assert got.shape == want.shape and got.dtype == want.dtype
    np.testing.assert_allclose(got, want, rtol=0, atol=atol)
