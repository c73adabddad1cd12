"""Networks from ONNX models that PyTorch's exporters, tf2onnx and ONNX Runtime have written."""

import io
from pathlib import Path

import numpy as np
import pytest
from tables import works

from fastrnn.interop import from_onnx

onnx = pytest.importorskip("onnx")
pytestmark = pytest.mark.filterwarnings("ignore")  # of the frameworks

RECORDED = Path(__file__).parent / "recorded" / "onnx"


def case(name, what, remark="", *values):
    return pytest.param(name, *values, marks=works("from_onnx", what, remark), id=name)


@pytest.mark.parametrize(
    "name",
    [
        case("lstm_steps", "tf2onnx", "LSTM, GRU"),
        case("lstm_last", "tf2onnx", "LSTM, GRU"),
        case("gru_after", "tf2onnx", "LSTM, GRU"),
        case("both_steps", "tf2onnx", "Bidirectional"),
        case("both_last", "tf2onnx", "Bidirectional"),
        case("both_gru_last", "tf2onnx", "Bidirectional"),
        case("sum", "tf2onnx", "merge modes"),
        case("mul", "tf2onnx", "merge modes"),
        case("ave", "tf2onnx", "merge modes"),
        case("backwards", "tf2onnx", "go_backwards"),
        case("backwards_steps", "tf2onnx", "go_backwards"),
        case("mean", "tf2onnx", "GlobalAveragePooling1D, GlobalMaxPooling1D"),
        case("max", "tf2onnx", "GlobalAveragePooling1D, GlobalMaxPooling1D"),
        case("stack", "tf2onnx", "LSTM, GRU"),
        case("tokens", "tf2onnx", "Embedding"),
        case("torch_states", "torch.onnx.export", "dynamo=True"),
        case("torch_learned", "torch.onnx.export", "an initial state that is a parameter"),
    ],
)
def test_recorded(backend, name):
    arrays = np.load(RECORDED / "arrays" / f"{name}.npz")
    network = from_onnx(RECORDED / f"{name}.onnx")
    np.testing.assert_allclose(network(arrays["x"]), arrays["y"], atol=1e-5)


@pytest.mark.parametrize(
    "name",
    [
        case("quantized_tensor", "quantized weights", "quantize_dynamic, one scale for all"),
        case("quantized_channel", "quantized weights", "quantize_dynamic, one for each channel"),
    ],
)
def test_recorded_quantized(name):
    """ONNX Runtime rounds what layers give besides."""
    arrays = np.load(RECORDED / "arrays" / f"{name}.npz")
    network = from_onnx(RECORDED / f"{name}.onnx")
    np.testing.assert_allclose(network(arrays["x"]), arrays["y"], atol=5e-3)
    layers = from_onnx(RECORDED / f"{name}.onnx", layers=True)
    assert [str(layer) for layer in layers.values()] == [
        "LSTM(4, 5)",
        "LSTM(5, 5)",
    ]


# -- PyTorch


def module(forward, **parts):
    """A module of some others, used as a function says."""
    from torch import nn

    class Module(nn.Module):
        def __init__(self):
            super().__init__()
            for name, part in parts.items():
                setattr(self, name, part)

        def forward(self, *x):
            return forward(self, *x)

    return Module()


def models():
    """By name a module and what it takes: batch first or time first, floats or tokens."""
    torch = pytest.importorskip("torch")
    nn = torch.nn

    def last(m, x):
        return m.fc(m.rnn(m.e(x))[0][:, -1])

    def ends(y):
        return torch.cat([y[:, -1, :5], y[:, 0, 5:]], 1)

    def head(m, h):
        return torch.sigmoid(m.fc(torch.cat([h[-2], h[-1]], 1)))

    def learned(m, x):
        B = x.shape[0]
        return m.rnn(x, (m.h.expand(-1, B, -1).contiguous(), m.c.expand(-1, B, -1).contiguous()))[0]

    def pooled(m, x):
        return m.fc(nn.functional.adaptive_avg_pool1d(m.rnn(x)[0].transpose(1, 2), 1).squeeze(2))

    def directions(m, x):
        y = m.rnn(x)[0]
        return m.fc(y[..., :5] + y[..., 5:])

    def net(forward, rnn, fc=None, **more):
        return module(forward, rnn=rnn, **({} if fc is None else {"fc": nn.Linear(*fc)}), **more)

    def e():
        return nn.Embedding(10, 4)

    bi = dict(bidirectional=True)
    first = dict(batch_first=True)
    mlp = [
        nn.ReLU(),
        nn.Linear(5, 8),
        nn.LeakyReLU(0.2),
        nn.Dropout(0.3),
        nn.Linear(8, 4),
        nn.ELU(),
        nn.Softmax(1),
    ]
    start = {name: nn.Parameter(torch.randn(2, 1, 5)) for name in "hc"}
    return {
        "lstm": (nn.LSTM(3, 5), "floats"),
        "gru both": (nn.GRU(3, 5, **bi, **first), "batch floats"),
        "rnn stack": (nn.RNN(3, 5, 2, nonlinearity="relu"), "floats"),
        "last": (net(last, nn.LSTM(4, 5, 2, **first), (5, 3), e=e()), "batch tokens"),
        "h_n": (net(lambda m, x: m.fc(m.rnn(m.e(x))[1][-1]), nn.GRU(4, 5, 2), (5, 3), e=e()), "tokens"),
        "h_n both": (
            net(lambda m, x: head(m, m.rnn(m.e(x))[1][0]), nn.LSTM(4, 5, 2, **bi, **first), (10, 1), e=e()),
            "batch tokens",
        ),
        "last both": (
            net(lambda m, x: m.fc(m.rnn(x)[0][:, -1]), nn.LSTM(3, 5, **bi, **first), (10, 2)),
            "batch floats",
        ),
        "layers": (
            net(
                lambda m, x: head(m, m.rnn(x)[1][0].view(2, 2, x.shape[0], 5)[-1]),
                nn.LSTM(3, 5, 2, **bi, **first),
                (10, 2),
            ),
            "batch floats",
        ),
        "ends": (
            net(lambda m, x: m.fc(ends(m.rnn(x)[0])), nn.GRU(3, 5, **bi, **first), (10, 2)),
            "batch floats",
        ),
        "mean": (
            net(lambda m, x: m.fc(m.rnn(x)[0].mean(1)), nn.GRU(3, 5, **bi, **first), (10, 2)),
            "batch floats",
        ),
        "max": (
            net(lambda m, x: m.fc(m.rnn(x)[0].max(1)[0]), nn.LSTM(3, 5, **first), (5, 2)),
            "batch floats",
        ),
        "amax": (net(lambda m, x: m.fc(m.rnn(x)[0].amax(0)), nn.LSTM(3, 5), (5, 2)), "floats"),
        "adaptive": (net(pooled, nn.GRU(3, 5, **first), (5, 2)), "batch floats"),
        "tagger": (
            net(
                lambda m, x: torch.log_softmax(m.fc(m.rnn(m.e(x))[0]), -1),
                nn.LSTM(4, 5, **bi, **first),
                (10, 6),
                e=e(),
            ),
            "batch tokens",
        ),
        "mlp": (
            module(
                lambda m, x: m.fc(m.rnn(m.pre(x))[0][:, -1]),
                pre=nn.Sequential(nn.Linear(3, 6), nn.Tanh()),
                rnn=nn.GRU(6, 5, **first),
                fc=nn.Sequential(*mlp),
            ),
            "batch floats",
        ),
        "no bias": (
            net(lambda m, x: m.out(m.rnn(x)[0]), nn.LSTM(3, 5, bias=False), out=nn.Linear(5, 2, bias=False)),
            "floats",
        ),
        "flat": (
            net(
                lambda m, x: torch.log_softmax(m.fc(m.rnn(m.e(x))[0]).view(-1, 9), 1),
                nn.LSTM(4, 5, 2),
                (5, 9),
                e=e(),
            ),
            "tokens",
        ),
        "squeeze": (
            net(lambda m, x: m.fc(m.rnn(x)[0][:, -1, :]).squeeze(-1), nn.LSTM(3, 5, **first), (5, 1)),
            "batch floats",
        ),
        "sum": (net(directions, nn.GRU(3, 5, **bi), (5, 2)), "floats"),
        "view": (
            net(lambda m, x: m.rnn(x)[0].view(x.shape[0], x.shape[1], 2, 5).sum(2), nn.GRU(3, 5, **bi)),
            "floats",
        ),
        "transposed": (
            net(lambda m, x: m.rnn(x.transpose(0, 1))[0].transpose(0, 1), nn.GRU(3, 5)),
            "batch floats",
        ),
        "learned": (net(learned, nn.LSTM(3, 5, 2, **first), **start), "batch floats"),
        "zeros": (
            net(lambda m, x: m.rnn(x, torch.zeros(1, x.size(0), 5))[0], nn.GRU(3, 5, **first)),
            "batch floats",
        ),
        "h_n transposed": (
            net(
                lambda m, x: m.fc(m.rnn(x)[1].transpose(0, 1).reshape(x.shape[0], -1)),
                nn.GRU(3, 5, **bi, **first),
                (10, 2),
            ),
            "batch floats",
        ),
        "functions": (
            net(lambda m, x: nn.functional.gelu(m.fc(nn.functional.silu(m.rnn(x)[0]))), nn.GRU(3, 5), (5, 2)),
            "floats",
        ),
        "more functions": (
            net(lambda m, x: nn.functional.softplus(nn.functional.hardsigmoid(m.rnn(x)[0])), nn.GRU(3, 5)),
            "floats",
        ),
    }


REMARKS = {
    "lstm": "a recurrent module alone",
    "gru both": "a recurrent module alone",
    "rnn stack": "a recurrent module alone",
    "last": "output[:, -1]",
    "h_n": "h_n[-1]",
    "h_n both": "h_n[-2] and h_n[-1]",
    "last both": "output[:, -1]",
    "layers": "h_n as (L, D, B, H)",
    "ends": "output[:, -1, :H] and output[:, 0, H:]",
    "mean": "mean, max",
    "max": "mean, max",
    "amax": "mean, max",
    "adaptive": "AdaptiveAvgPool1d(1)",
    "tagger": "Linear at each step",
    "mlp": "Linear before and after",
    "no bias": "no biases",
    "flat": "view(-1, V)",
    "squeeze": "squeeze(-1)",
    "sum": "the sum of both directions",
    "view": "the sum of both directions",
    "transposed": "transpose(0, 1) around a module",
    "learned": "an initial state that is a parameter",
    "zeros": "zeros as initial state",
    "h_n transposed": "h_n of both directions, reshaped",
    "functions": "SiLU, GELU, Hardsigmoid, Softplus",
    "more functions": "SiLU, GELU, Hardsigmoid, Softplus",
}

NEWER = [
    "ends",
    "layers",
    "lstm",
    "gru both",
    "last",
    "h_n",
    "h_n both",
    "last both",
    "mean",
    "max",
    "tagger",
    "mlp",
]


@pytest.fixture(scope="module")
def made():
    return models()


def check(made, name, export):
    """What comes of an exported file computes what the module does."""
    import torch

    torch.manual_seed(0)
    model, kind = made[name]
    B, T = 3, 6
    shape = (B, T) if "batch" in kind else (T, B)
    x = torch.randint(0, 10, shape) if "tokens" in kind else torch.randn(*shape, 3)
    proto = export(model.eval(), x, {"x": {0: "a", 1: "b"}})
    with torch.no_grad():
        expected = model(x)
    expected = expected[0] if isinstance(expected, tuple) else expected
    y = from_onnx(proto)(x.numpy())
    np.testing.assert_allclose(y.reshape(expected.shape), expected.numpy(), atol=1e-5)


@works("from_onnx", "torch.onnx.export", "dynamo=False")
@pytest.mark.parametrize("sizes", ["varying", "fixed"])
@pytest.mark.parametrize("name", [case(name, "torch.onnx.export", of) for name, of in REMARKS.items()])
def test_pytorchs_older_exporter(made, name, sizes):
    torch = pytest.importorskip("torch")

    def export(model, x, axes):
        file = io.BytesIO()
        axes = axes if sizes == "varying" else None
        torch.onnx.export(model, (x,), file, dynamo=False, input_names=["x"], dynamic_axes=axes)
        return file.getvalue()

    check(made, name, export)


@works("from_onnx", "torch.onnx.export", "pack_padded_sequence with lengths as an input")
@pytest.mark.parametrize("directions", [1, 2])
def test_packed_sequences_of_pytorch(directions):
    torch = pytest.importorskip("torch")
    of = torch.nn.utils.rnn
    torch.manual_seed(0)

    def forward(m, x, lengths):
        y, _ = m.rnn(of.pack_padded_sequence(x, lengths, batch_first=True))
        return m.fc(of.pad_packed_sequence(y, batch_first=True)[0])

    rnn = torch.nn.LSTM(3, 5, 2, batch_first=True, bidirectional=directions == 2)
    model, file = module(forward, rnn=rnn, fc=torch.nn.Linear(5 * directions, 2)), io.BytesIO()
    x, lengths = torch.randn(3, 6, 3), torch.tensor([6, 4, 1])
    torch.onnx.export(model.eval(), (x, lengths), file, dynamo=False, input_names=["x", "lengths"])
    y = from_onnx(file.getvalue())(x.numpy(), lengths=lengths.numpy())
    for row, (length, expected) in enumerate(zip(lengths, model(x, lengths).detach().numpy(), strict=True)):
        np.testing.assert_allclose(y[row, :length], expected[:length], atol=1e-5)


@works("from_onnx", "torch.onnx.export", "states as inputs and outputs")
def test_states_of_pytorch():
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    layer, file = torch.nn.LSTM(3, 5, 2, batch_first=True), io.BytesIO()
    x, state = torch.randn(3, 6, 3), (torch.randn(2, 3, 5), torch.randn(2, 3, 5))
    torch.onnx.export(layer, (x, state), file, dynamo=False, input_names=["x", "h", "c"])
    network = from_onnx(file.getvalue())
    h, c = (each.numpy() for each in state)
    states = (h[:1], c[:1]), (h[1:], c[1:])
    y, found = network(x.numpy(), state=states, return_state=True)
    with torch.no_grad():
        expected, (h_n, c_n) = layer(x, state)
    np.testing.assert_allclose(y, expected.numpy(), atol=1e-5)
    np.testing.assert_allclose(np.concatenate([each[0] for each in found]), h_n.numpy(), atol=1e-5)
    np.testing.assert_allclose(np.concatenate([each[1] for each in found]), c_n.numpy(), atol=1e-5)


@works("from_onnx", "torch.onnx.export", "dynamo=True")
@pytest.mark.parametrize("name", NEWER)
def test_pytorchs_newer_exporter(made, name):
    torch = pytest.importorskip("torch")
    pytest.importorskip("onnxscript")
    check(
        made, name, lambda model, x, _: torch.onnx.export(model, (x,), dynamo=True, verbose=False).model_proto
    )
