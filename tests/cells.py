"""The cells that tests run over: all that there are, and all forms that options give them, so that a new one
is tried without an edit of a test."""

from functools import partial
from typing import NamedTuple

import numpy as np
import pytest

from fastrnn import functional, reference
from fastrnn.functional import variants
from fastrnn.layers import CELLS
from fastrnn.reference import ACTIVATIONS, Options, Parameters

# -- cells as the kernels and the reference have them


class Form(NamedTuple):
    """A cell as a call may have it."""

    cell: str
    options: Options = Options()
    projected: bool = False

    @property
    def facts(self):
        return reference.CELLS[self.cell]

    def widths(self, H):
        """Those of the states."""
        P = max(1, H // 2) if self.projected else H
        return [P, *[H] * (len(self.facts.states) - 1)]

    def shapes(self, I, H):
        """Those of the parameters, by field; the cell's own are under ``vectors``."""
        rows, P = len(self.facts.gates) * H, self.widths(H)[0]
        shapes = {"w_ih": (rows, I), "w_hh": (rows, P), "b_ih": (rows,), "b_hh": (rows,)}
        shapes |= {"w_hr": (P, H)} if self.projected else {}
        return shapes | {"vectors": [(len(letters) * H,) for letters in self.facts.vectors.values()]}

    def parameters(self, I, H, make):
        """What ``make(shape)`` makes."""
        shapes = self.shapes(I, H)
        vectors = tuple(map(make, shapes.pop("vectors")))
        return Parameters(**{name: make(shape) for name, shape in shapes.items()}, vectors=vectors)


def _forms():
    for cell, facts in reference.CELLS.items():
        yield cell, Form(cell)
        if facts.projected and not facts.options:
            yield f"{cell} projected", Form(cell, projected=True)
        told = {"gate": "hard_sigmoid", "state": "relu", "output": "linear", "clip": 0.7, "coupled": True}
        if facts.options:
            yield f"{cell} told", Form(cell, Options(**{name: told[name] for name in facts.options}))


FORMS = dict(_forms())


def every_activation(cell):
    """Forms of a cell that is told its activations, with each of them in each place."""
    facts = reference.CELLS[cell]
    for place in set(facts.options) & {"gate", "state", "output"}:
        for name in ACTIVATIONS:
            yield Form(cell, Options(**{place: name}))


def offered(form):
    """Whether users see it: whether it is of the family of a function."""
    return any(issubclass(form.facts, getattr(functional, name)._family) for name in FUNCTIONS)


def function_of(form):
    """The function of a form, and what it is called with besides the arrays of a plain one."""
    kind = next(name for name in FUNCTIONS if issubclass(form.facts, getattr(functional, name)._family))
    told = form.options if form.facts.options else form.facts.usual
    fields = {name: field for name, field in variants.FIELDS.items() if name in variants.OPTIONS[kind]}
    options = {name: getattr(told, field) for name, field in fields.items()}
    return kind, {**options, **({"reset_after": False} if "before" in form.cell else {})}


def forward(backend, call):
    """One call alone, by a backend that takes a layer's directions together."""
    return backend.forward_all([call])[0]


def backward(backend, reserve, dy, dstates, *, input_gradient=True, dhidden=None):
    """Its way back."""
    return backend.backward_all([(reserve, dy, dstates, input_gradient, dhidden)])[0]


def flat(gradients):
    """The arrays of gradients in a row."""
    dx = [] if gradients.x is None else [gradients.x]
    return [*dx, *gradients.parameters.arrays(), *gradients.state]


# -- layers


def _layers():
    """Every kind of layer as it is usually, with each of its options alone, and told all that it can be."""
    for kind, layer in CELLS.items():
        yield kind, layer
        own = dict(layer._options)
        if own.pop("proj_size", None) is not None:
            yield f"{kind} proj_size", _projected(layer)
        flags = {name: not value for name, value in own.items() if isinstance(value, bool)}
        told = {name: value for name, value in TOLD.items() if name in own}
        yield f"{kind} told", partial(layer, **told)
        for name, value in flags.items():
            if name not in told:
                yield f"{kind} {name}", partial(layer, **{name: value})
                if name != "layer_norm":
                    yield f"{kind} {name} told", partial(layer, **{name: value}, **told)


TOLD = {
    "gate_activation": "hard_sigmoid_6",
    "activation": "tanh",
    "nonlinearity": "hard_sigmoid",
    "output_activation": "linear",
    "clip": 0.9,
    "coupled": True,
}


def _projected(layer):
    return lambda inputs, hidden, *args, **options: layer(
        inputs, hidden, *args, proj_size=hidden // 2, **options
    )


LAYERS = dict(_layers())


def cell_of(name):
    """What the reference says of the cell of a layer in `LAYERS`."""
    return reference.CELLS[LAYERS[name](1, 2)._cell]


FUNCTIONS = list(CELLS)
KEEPING = [name for name in LAYERS if cell_of(name).keeps]  # with a gate that keeps the state
WITH_C = [name for name in LAYERS if len(cell_of(name).states) == 2]


def members(state):
    """The arrays of a state: h, or h and c."""
    return state if isinstance(state, tuple) else (state,)


def state_of(layer, make, batch):
    """A state for a layer, of what ``make(shape, k)`` makes for its k-th member."""
    shapes = [(layer._states.places, batch, width) for width in layer._states.widths]
    found = tuple(make(shape, k) for k, shape in enumerate(shapes))
    return found if len(found) > 1 else found[0]


def torch_class(torch, name, suffix=""):
    """PyTorch's class of the same layer, or of its cell."""
    found = getattr(torch.nn, name.upper() + suffix, None)
    return found or pytest.skip(f"PyTorch has no {name}")


def normal(*shape, dtype="float64", seed=0):
    """The same numbers for the same shape and seed."""
    return np.random.default_rng([*np.ravel(seed), *shape]).standard_normal(shape).astype(dtype)
