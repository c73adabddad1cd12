"""Models from PyTorch: what PyTorch has written, and what was recorded of it, against its own outputs."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
from tables import refused, works

import fastrnn
from fastrnn import Last, Tanh
from fastrnn.interop import from_torch

pytestmark = pytest.mark.filterwarnings(  # PyTorch's own
    "ignore::DeprecationWarning:torch",
    "ignore:Couldn't retrieve source code",
    "ignore:.*torch.jit",
    "ignore:Converting a tensor",
    "ignore:LSTM with projections",
)

RECORDED = Path(__file__).parent / "recorded" / "torch"
PAGE = "from_torch"


@pytest.fixture(scope="module")
def writer():
    """The script that wrote the recorded files, as a module, whose classes can be pickled."""
    pytest.importorskip("torch")
    spec = importlib.util.spec_from_file_location("write_torch", RECORDED / "write_torch.py")
    module = sys.modules["write_torch"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    del sys.modules["write_torch"]


@pytest.fixture
def torch(one_torch_thread):
    return pytest.importorskip("torch")


def case(file, what, remark, **options):
    return pytest.param(file, options, marks=works(PAGE, what, remark), id=file)


TAGGER = {"order": ["embedding", "rnn", "fc"]}
CLASSIFIER = {"order": ["embedding", "rnn", Last(), "fc"]}
CASES = [
    case("state_dict.pt", "state dict", "", **TAGGER, batch_first=True),
    case("checkpoint.pt", "checkpoint", "state dicts in it, by name", **CLASSIFIER, batch_first=True),
    case("whole.pt", "whole module", "nothing of it runs", **CLASSIFIER),
    case("sequential.pt", "`nn.Sequential`", "whole, without `order`"),
    case("script.pt", "TorchScript", "scripted", **TAGGER),
    case("trace.pt", "TorchScript", "traced", order=["lstm", "head"], batch_first=False),
    case("legacy.pth", "file of PyTorch before 1.6", "", batch_first=False, nonlinearity="tanh"),
    case("legacy_whole.pth", "file of PyTorch before 1.6", "whole module", order=["lstm", "head"]),
    case("half.safetensors", "safetensors", "float16", order=["lstm", "head"], batch_first=True),
    case("bfloat16.safetensors", "safetensors", "bfloat16", order=["lstm", "head"], batch_first=True),
    case("double.safetensors", "safetensors", "float64", order=["lstm", "head"], batch_first=True),
    case("bfloat16.pt", "state dict", "bfloat16", batch_first=False),
    case("arrays.npz", "npz", "with PyTorch's names", order=["lstm", "head"], batch_first=True),
    case("lstm_cell.pt", "`LSTMCell`, `GRUCell`, `RNNCell`", "as layers"),
    case("gru_cell.pt", "`LSTMCell`, `GRUCell`, `RNNCell`", "as layers"),
    case("projected.pt", "`LSTM`", "`proj_size`, without bias, bidirectional, layers", batch_first=False),
]


def require_same(path, options, x, y):
    network = from_torch(path, **options)
    found = network(x)
    found = found[0] if isinstance(found, tuple) else found
    assert found.dtype == y.dtype
    np.testing.assert_allclose(found, y, rtol=0, atol=1e-5)


@pytest.mark.parametrize("file, options", CASES)
def test_recorded_files_give_what_pytorch_gave(file, options):
    with np.load(RECORDED / "expected" / "arrays.npz") as expected:
        require_same(RECORDED / file, options, expected[f"{file}.x"], expected[f"{file}.y"])


@pytest.mark.parametrize("file, options", CASES)
def test_files_give_what_pytorch_gives(file, options, writer, torch, tmp_path):
    x, y = writer.FILES[file](tmp_path / file)
    require_same(tmp_path / file, options, x.numpy(), y.numpy())


def test_every_recorded_file_is_read():
    files = {each.name for each in RECORDED.iterdir() if each.is_file() and each.suffix != ".py"}
    assert files == {each.values[0] for each in CASES}
    assert all(each.stat().st_size <= 20_000 for each in RECORDED.rglob("*"))


# -- live modules


def require_same_as(model, x, **options):
    """A live model's output."""
    x, y = y_of(model, x)
    require_same(model, options, x.numpy(), y.numpy())


def y_of(model, x):
    import torch

    with torch.no_grad():
        y = model.eval()(x)
    return x, y[0] if isinstance(y, tuple) else y


@works(PAGE, "live module", "also compiled, parallel, scripted, of `fastrnn.torch`")
def test_live_modules_tell_what_they_are(writer, torch):
    nn = torch.nn
    model = writer.Classifier(nn.GRU(4, 5, batch_first=True), 5, nn.Sequential(nn.Linear(5, 3), nn.ELU(0.5)))
    order = ["embedding", "rnn", Last(), "fc"]
    require_same_as(model, writer.tokens(), order=order)
    network = from_torch(nn.DataParallel(model), order=order)
    assert [*network.parts] == ["module_embedding", "module_rnn", "last", "module_fc_0", "module_fc_1"]
    assert [*from_torch({"model": model, "epoch": 1}, order=["rnn"]).parts] == ["model_rnn"]
    lstm = nn.LSTM(4, 5, 2, dropout=0.5, proj_size=2, bidirectional=True)
    require_same_as(lstm, writer.floats())
    assert from_torch(lstm).dropout == 0.5
    assert repr(from_torch(torch.compile(lstm))) == repr(from_torch(lstm))
    x, y = y_of(lstm, writer.floats())
    require_same(torch.jit.script(lstm), {"batch_first": False}, x.numpy(), y.numpy())


def test_modules_of_fastrnn_torch_are_pytorchs(writer, torch):
    import fastrnn.torch

    model = writer.Regressor(torch.nn.LSTM(4, 5, batch_first=True), 5)
    x, y = y_of(model, writer.floats())
    fastrnn.torch.accelerate(model)
    require_same(model, {"order": ["lstm", "head"]}, x.numpy(), y.numpy())
    assert from_torch(fastrnn.torch.GRU(3, 4, batch_first=True)).batch_first


ACTIVATIONS = [
    *("Tanh()", "Sigmoid()", "ReLU()", "LeakyReLU(0.2)", "ELU(0.5)", "SELU()", "SiLU()", "GELU()"),
    *("GELU('tanh')", "Softplus()", "Softsign()", "Hardsigmoid()", "Softmax(dim=-1)", "LogSoftmax(dim=2)"),
    *("Identity()", "Dropout(0.5)"),
]


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=works(PAGE, "`Linear`, `Embedding`, `Dropout`, activations", f"`{name}`"))
        for name in ACTIVATIONS
    ],
)
def test_activations_are_pytorchs(name, writer, torch):
    nn = torch.nn
    model = writer.Tagger(nn.RNN(4, 5), 5, nn.Sequential(nn.Linear(5, 3), eval(f"nn.{name}")))
    require_same_as(model, writer.tokens(), order=["embedding", "rnn", "fc"])


@works(PAGE, "`output[:, -1]` of a bidirectional layer", "`Last(bidirectional=False)`")
def test_last_of_two_directions(writer, torch):
    model = writer.Classifier(torch.nn.LSTM(4, 5, batch_first=True, bidirectional=True), 10)
    require_same_as(model, writer.tokens(), order=["embedding", "rnn", Last(bidirectional=False), "fc"])


@works(PAGE, "`cat(h_n[-2], h_n[-1])` of a bidirectional layer", "`Last(bidirectional=True)`")
def test_last_states_of_two_directions(torch):
    lstm, x = torch.nn.LSTM(4, 5, bidirectional=True), torch.randn(6, 3, 4)
    with torch.no_grad():
        h = lstm(x)[1][0]
        y = lstm(x)[0]
    for bidirectional, expected in ((True, torch.cat([h[-2], h[-1]], 1)), (False, y[-1])):
        network = from_torch({"lstm": lstm}, order=["lstm", Last(bidirectional=bidirectional)])
        np.testing.assert_allclose(network(x.numpy()), expected.numpy(), atol=1e-6)
    with pytest.raises(ValueError, match="order must say which Last"):
        from_torch({"lstm": lstm}, order=["lstm", Last()])


@works(PAGE, "cells in a loop", "with layers of fastrnn between")
def test_cells_in_a_loop(torch):
    nn = torch.nn
    cells, fc, x = nn.ModuleList([nn.LSTMCell(4, 5), nn.RNNCell(5, 3)]), nn.Linear(3, 2), torch.randn(6, 3, 4)
    first, second, y = None, None, []
    with torch.no_grad():
        for step in x:
            first = cells[0](step, first)
            second = cells[1](torch.tanh(first[0]), second)
            y.append(fc(second))
    state = nn.ModuleDict({"cells": cells, "fc": fc}).state_dict()
    order = ["cells.0", Tanh(), "cells.1", "fc"]
    require_same(state, {"order": order, "nonlinearity": "tanh"}, x.numpy(), torch.stack(y).numpy())


def hooked(torch):
    module = torch.nn.LSTM(3, 4)
    module.register_forward_hook(lambda module, inputs, outputs: None)
    return module


def assigned(torch):
    module = torch.nn.Linear(3, 4)
    module.forward = lambda x: 2 * x
    return torch.nn.Sequential(module)


def normed(torch):
    return torch.nn.utils.parametrizations.weight_norm(torch.nn.LSTM(3, 4), "weight_hh_l0")


def old_normed(torch):
    return torch.nn.utils.weight_norm(torch.nn.LSTM(3, 4), "weight_hh_l0")


def own_forward(torch):
    class Mine(torch.nn.LSTM):
        def forward(self, x):
            return 2 * x

    return Mine(3, 4)


def own_call(torch):
    class Mine(torch.nn.LSTM):
        def __call__(self, x):
            return 2 * x

    return Mine(3, 4)


def hooked_around(torch):
    module = torch.nn.DataParallel(torch.nn.LSTM(3, 4))
    module.register_forward_hook(lambda module, inputs, outputs: None)
    return module


def in_net(kind, *arguments, **options):
    def make(torch):
        torch.manual_seed(0)
        return torch.nn.Sequential(getattr(torch.nn, kind)(*arguments, **options), torch.nn.RNN(4, 4))

    return make


def in_own(kind):
    def make(torch):
        return torch.nn.Sequential(type("Mine", (getattr(torch.nn, kind),), {})(), torch.nn.RNN(4, 4))

    return make


def net(torch):
    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm = torch.nn.LSTM(3, 4)

    return Net()


def quantized(torch):
    kinds = {torch.nn.LSTM}
    return torch.ao.quantization.quantize_dynamic(torch.nn.Sequential(torch.nn.LSTM(3, 4)), kinds)


def on_meta(torch):
    return torch.nn.LSTM(3, 4, device="meta")


def contradictory(torch):
    module = torch.nn.LSTM(3, 4)
    module.bidirectional = True
    return module


REFUSED = [
    ("module", "with hooks", hooked, "has hooks or a forward of its own"),
    ("module", "with a `forward` assigned to it", assigned, "module '0' has hooks or a forward of its own"),
    ("weight_norm", "of a live module", old_normed, "has hooks .*remove_weight_norm"),
    ("parametrizations", "of a live module", normed, "ParametrizedLSTM, which is no class of PyTorch's"),
    ("module", "a subclass with a `forward` of its own", own_forward, "Mine, which is no class of PyTorch's"),
    ("module", "", own_call, "Mine, which is no class of PyTorch's"),
    ("module", "with hooks", hooked_around, "has hooks or a forward of its own"),
    ("other modules", "`EmbeddingBag`", in_net("EmbeddingBag", 4, 4), "EmbeddingBag, which is not supported"),
    ("module", "of a class of one's own without `order`", net, "order must be given.*Net uses its modules"),
    ("quantized modules", "", quantized, "quantized modules are not supported"),
    ("module", "without numbers, on the device meta", on_meta, "must be dense floats"),
    ("module", "whose options are not those of its tensors", contradictory, "says bidirectional=True"),
    (
        "other modules",
        "a class of one's own",
        in_own("Module"),
        "module '0' is a .*Mine, which is not supported",
    ),
    ("other modules", "`LayerNorm`", in_net("LayerNorm", 4), "torch.nn.modules.normalization.LayerNorm"),
    ("other modules", "`BatchNorm1d`", in_net("BatchNorm1d", 4), "BatchNorm1d, which is not supported"),
    (
        "other modules",
        "`Conv1d`",
        in_net("Conv1d", 4, 4, 1),
        "Conv1d, which is not supported: Embedding, Linear",
    ),
    (
        "`Embedding`",
        "with `max_norm`",
        in_net("Embedding", 4, 4, max_norm=1.0),
        "max_norm=1.0 is not supported",
    ),
    ("`Softplus`", "of another `beta`", in_net("Softplus", 2.0), "beta=2.0 is not supported, beta=1 is"),
    ("`Softmax`", "over another axis", in_net("Softmax", 0), "dim=0 is not supported"),
]


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize(
    "make, match", [pytest.param(*rest, marks=refused(PAGE, what, remark)) for what, remark, *rest in REFUSED]
)
def test_live_modules_are_refused_by_name(make, match, torch):
    with pytest.raises(ValueError, match=match):
        from_torch(make(torch))


@works(PAGE, "modules that `to_torch` made", "whole, without `order`")
def test_what_went_out_comes_in_again(torch, rng, tmp_path):
    layers = [
        fastrnn.Linear(3, 4, seed=0),
        fastrnn.Reverse(),
        fastrnn.GRU(4, 5, bidirectional=True, batch_first=True, seed=0),
        fastrnn.Merge("ave"),
        fastrnn.LSTM(5, 4, bidirectional=True, batch_first=True, seed=0),
        Last(),
        fastrnn.Linear(8, 2, seed=0),
        fastrnn.Softmax(),
    ]
    network, x = fastrnn.Sequential(*layers), rng.normal(size=(3, 6, 3)).astype("f4")
    module = fastrnn.interop.to_torch(network)
    torch.save(module, tmp_path / "network.pt")
    torch.jit.save(torch.jit.script(module), tmp_path / "script.pt")
    for source in (module, tmp_path / "network.pt", tmp_path / "script.pt"):
        np.testing.assert_array_equal(from_torch(source)(x, [6, 2, 4]), network(x, [6, 2, 4]))
    tokens = fastrnn.interop.to_torch(
        fastrnn.Sequential(fastrnn.RNN(7, 4, seed=0), fastrnn.Max()), tokens=True
    )
    x, y = y_of(tokens, torch.randint(0, 7, (5, 2)))
    require_same(tokens, {}, x.numpy(), y.numpy())


@refused(PAGE, "files of fastrnn's own", "`fastrnn.load` reads them")
def test_files_of_fastrnn_are_not_pytorchs(tmp_path):
    """A GRU of another form has the same names."""
    layer = fastrnn.GRU(3, 4, reset_after=False, seed=0)
    fastrnn.checkpoint.save(tmp_path / "a.safetensors", layer.state_dict(), {})
    with pytest.raises(ValueError, match=r"fastrnn\.load reads it"):
        from_torch(tmp_path / "a.safetensors", batch_first=True)


@works(PAGE, "checkpoint", "with plain objects beside them: options, paths, times, states of optimizers")
def test_checkpoints_have_anything_beside_the_weights(writer, torch, tmp_path):
    import argparse
    import collections
    import datetime
    import fractions
    import types

    model = writer.Regressor(torch.nn.LSTM(4, 5, batch_first=True), 5)
    optimizer = torch.optim.Adam(model.parameters())
    model(writer.floats()).sum().backward()
    optimizer.step()
    content = {
        "state_dict": {f"model.{name}": tensor for name, tensor in model.state_dict().items()},
        "optimizer_states": [optimizer.state_dict()],
        "hyper_parameters": {"bias": True, "weight": [1.0, 2.0], "data": tmp_path, "seed": 1},
        "callbacks": {"ModelCheckpoint{'monitor': 1}": {"best": torch.tensor(1.0)}},
        "arguments": argparse.Namespace(lr=np.float32(0.1), step=np.int64(3), times=range(3)),
        "when": [datetime.datetime.now(datetime.timezone.utc), datetime.timedelta(1), datetime.time(3)],
        "numpy": [np.random.default_rng(0), np.array(["a"]), np.datetime64("2020")],
        "last": collections.deque([torch.ones(1)]),
        "more": [types.SimpleNamespace(a=1), fractions.Fraction(1, 2), bytearray(b"a"), {1, 2}, 1j, slice(3)],
    }
    x, y = y_of(model, writer.floats())
    for protocol in (2, 5):
        torch.save(content, tmp_path / "a.ckpt", pickle_protocol=protocol)
        options = {"order": ["lstm", "head"], "batch_first": True}
        require_same(tmp_path / "a.ckpt", options, x.numpy(), y.numpy())


def test_a_vocabulary_beside_the_weights(torch, tmp_path):
    words = [f"word {k}" for k in range(50_000)]
    state = torch.nn.LSTM(3, 4).state_dict()
    torch.save(
        {"model": state, "words": words, "tokens": {word: k for k, word in enumerate(words)}},
        tmp_path / "a.pt",
    )
    assert repr(from_torch(tmp_path / "a.pt", batch_first=False)) == "LSTM(3, 4)"


def test_arrays_in_pickles_are_read_or_refused(torch, tmp_path):
    """An array that is left out would be a layer without bias."""
    state = {name: tensor.numpy() for name, tensor in torch.nn.LSTM(3, 4).state_dict().items()}
    turned = state | {"weight_hh_l0": np.asfortranarray(state["weight_hh_l0"])}
    for protocol in (2, 5):
        torch.save(turned, tmp_path / "a.pt", pickle_protocol=protocol)
        found = from_torch(tmp_path / "a.pt", batch_first=True).parameters
        assert all((found[name] == array).all() for name, array in state.items())
    for dtype in (">f4", "g", "O"):
        changed = {name: array.astype(dtype) for name, array in state.items() if "bias" in name}
        torch.save(state | changed, tmp_path / "a.pt")
        with pytest.raises(
            ValueError, match=r"'bias_ih_l0' must be a tensor or an array .* got a numpy\.ndarray"
        ):
            from_torch(tmp_path / "a.pt", batch_first=True)


@refused(PAGE, "TorchScript", "after `torch.jit.freeze`: it has no tensors then")
def test_frozen_scripts_have_no_tensors(writer, torch, tmp_path):
    model = torch.jit.script(writer.Regressor(torch.nn.LSTM(4, 5), 5).eval())
    torch.jit.freeze(model).save(tmp_path / "a.pt")
    with pytest.raises(ValueError, match=r"no tensors; torch\.jit\.freeze puts them into the code"):
        from_torch(tmp_path / "a.pt", layers=True)


@refused(PAGE, "`.pt2` of `torch.export`", "")
def test_exported_programs_are_refused_by_name(torch, tmp_path):
    torch.export.save(torch.export.export(torch.nn.Linear(3, 2), (torch.ones(1, 3),)), tmp_path / "a.pt2")
    for read in (from_torch, fastrnn.load):
        with pytest.raises(
            ValueError, match=r"a\.pt2' is an archive of torch\.export, which is not supported"
        ):
            read(tmp_path / "a.pt2")


@refused(PAGE, "one file of several", "that hold a model together")
def test_a_part_of_a_model_is_refused(torch, tmp_path):
    """Where the biases are in another file, it would be a layer without."""
    state = {name: tensor for name, tensor in torch.nn.LSTM(3, 4).state_dict().items() if "weight" in name}
    torch.save(state, tmp_path / "model-00001-of-00002.bin")
    with pytest.raises(ValueError, match=r"00002\.bin' is one of 2 files that hold a model together"):
        from_torch(tmp_path / "model-00001-of-00002.bin", batch_first=True)


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
def test_what_pytorch_can_write_and_is_not_plain(torch, tmp_path):
    path, lstm = tmp_path / "a.pt", torch.nn.LSTM(3, 4)

    def saved(**changed):
        torch.save(lstm.state_dict() | changed, path)
        return from_torch(path, batch_first=True)

    parameter = torch.nn.Parameter(torch.ones(16, 4))
    parameter.note = "with a state"
    assert (saved(weight_hh_l0=parameter).parameters["weight_hh_l0"] == 1).all()
    turned = torch.arange(64.0).reshape(4, 16)
    assert (saved(weight_hh_l0=turned.T).parameters["weight_hh_l0"] == turned.T.numpy()).all()
    part = torch.arange(200.0)[40:104].reshape(16, 4)
    assert (saved(weight_hh_l0=part).parameters["weight_hh_l0"] == part.numpy()).all()
    for changed, match in (
        (torch.ones(16, 1).expand(16, 4), "expanded tensor"),
        (torch.ones(16, 4).to_sparse(), "_rebuild_sparse_tensor', a sparse tensor is not supported"),
        (torch.ones(16, 4, dtype=torch.complex64), "tensor of ComplexFloatStorage is not supported"),
        (torch.quantize_per_tensor(torch.ones(16, 4), 1.0, 0, torch.qint8), "a quantized tensor is not"),
        (torch.ones(16, 4, dtype=torch.int8), "must be of floats, got dtype int8"),
    ):
        with pytest.raises(ValueError, match=match):
            saved(weight_hh_l0=changed)
    with pytest.raises(ValueError, match="batch_first=True was given, but the module has batch_first=False"):
        torch.save(lstm, path)
        from_torch(path, batch_first=True)
