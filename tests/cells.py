"""The cells that tests run over: all that there are, so that a new one is tried without an edit of a test."""

import pytest

from fastrnn import functional, reference
from fastrnn.layers import CELLS


def cell_of(name):
    """What the reference says of the cell of a layer in `CELLS`."""
    return reference.CELLS[CELLS[name](1, 1)._cell]


FUNCTIONS = [name for name in CELLS if hasattr(functional, name)]
KEEPING = [name for name in CELLS if cell_of(name).keeps]  # with a gate that keeps the state


def torch_class(torch, name, suffix=""):
    """PyTorch's class of the same layer, or of its cell."""
    found = getattr(torch.nn, name.upper() + suffix, None)
    return found or pytest.skip(f"PyTorch has no {name}")


def forward(backend, call):
    """One call alone, by a backend that takes a layer's directions together."""
    return backend.forward_all([call])[0]


def backward(backend, reserve, dy, dstates, *, input_gradient=True, dhidden=None):
    """Its way back."""
    return backend.backward_all([(reserve, dy, dstates, input_gradient, dhidden)])[0]
