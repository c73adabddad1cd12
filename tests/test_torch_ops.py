"""The recurrence as PyTorch sees it: operators under PyTorch's checks, both roads against its modules."""

import itertools

import pytest

torch = pytest.importorskip("torch")

from fastrnn.torch.ops import Form, recurrence  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")

CLASSES = {"lstm": "LSTM", "gru": "GRU", "rnn_tanh": "RNN", "rnn_relu": "RNN"}
T, B, I, H, P = 5, 3, 4, 5, 3
SIZES = [3, 3, 2, 1, 1]


class Case:
    """Arguments of a recurrence, with gradients wanted of all of them."""

    def __init__(
        self,
        cell,
        dtype=torch.float64,
        *,
        states=True,
        biases=True,
        layers=2,
        bidirectional=True,
        batch_first=False,
        packed=False,
        projected=False,
        gradients=True,
    ):
        torch.manual_seed(0)
        options = {"nonlinearity": cell[4:]} if cell.startswith("rnn") else {}
        options |= {"proj_size": P} if projected else {}
        kind = getattr(torch.nn, CLASSES[cell])
        options |= {
            "bias": biases,
            "bidirectional": bidirectional,
            "batch_first": batch_first,
            "dtype": dtype,
        }
        self.module = kind(I, H, layers, **options).requires_grad_(gradients)

        def normal(*shape):
            return torch.randn(*shape, dtype=dtype, requires_grad=gradients)

        places, width = layers * (2 if bidirectional else 1), P if projected else H
        self.form = Form(cell, biases, layers, bidirectional, batch_first)
        self.batch_sizes = torch.tensor(SIZES) if packed else None
        self.x = normal(sum(SIZES), I) if packed else normal(B, T, I) if batch_first else normal(T, B, I)
        self.h0 = normal(places, B, width) if states else None
        self.c0 = normal(places, B, H) if states and cell == "lstm" else None
        self.weights = self.module._flat_weights

    @property
    def arguments(self):
        return self.x, self.h0, self.c0, self.weights, self.batch_sizes

    @property
    def wanted(self):
        return [each for each in (self.x, self.h0, self.c0, *self.weights) if each is not None]

    def ours(self, *, kept=None):
        return recurrence(*self.arguments, **self.form._asdict(), kept=kept)

    def theirs(self):
        """PyTorch's module of the same weights."""
        state = self.h0 if self.c0 is None else (self.h0, self.c0)
        packed = self.batch_sizes is not None
        x = torch.nn.utils.rnn.PackedSequence(self.x, self.batch_sizes) if packed else self.x
        y, state_n = self.module(x, state)
        return (y.data if packed else y, *(state_n if isinstance(state_n, tuple) else (state_n,)))


def loss(outputs):
    """A number that depends on every output in its own way."""
    terms = [
        (y * torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view_as(y)).sum()
        for y in outputs
        if y is not None
    ]
    return sum(terms)


def settings(*cells, **options):
    """Cases of all combinations, but for projections of cells that have none."""
    names = ["cell", *options]
    for values in itertools.product(cells or CLASSES, *options.values()):
        case = dict(zip(names, values, strict=True))
        if case["cell"] == "lstm" or not case.get("projected"):
            yield case


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_results_and_gradients_are_pytorchs(dtype, backend):
    flags = (False, True)
    for setting in settings(
        states=flags, biases=flags, batch_first=flags, packed=flags, projected=flags, bidirectional=flags
    ):
        case = Case(dtype=dtype, **setting)
        theirs = [y.detach() for y in case.theirs()]
        ours = case.ours()
        for y, expected in zip(ours, theirs, strict=False):
            torch.testing.assert_close(y, expected)
        gradients = torch.autograd.grad(loss(ours), case.wanted)
        expected = torch.autograd.grad(loss(case.theirs()), case.wanted)
        for gradient, its in zip(gradients, expected, strict=True):
            torch.testing.assert_close(gradient, its)


@pytest.mark.parametrize(
    "setting", [*settings(states=[True], projected=[False, True], packed=[False, True])], ids=str
)
def test_opcheck_passes(setting):
    case = Case(**setting)
    arguments = (*case.arguments, *case.form, True)
    torch.library.opcheck(torch.ops.fastrnn.recurrence, arguments)
