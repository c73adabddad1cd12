"""Models from PyTorch: what PyTorch has written, and what was recorded of it, against its own outputs."""

import importlib.util
import sys
from pathlib import Path

import fuzz_readers
import numpy as np
import pytest
from mutations import survives
from tables import works

from fastrnn import Last
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


def test_mutated_files_load_or_are_refused(tmp_path):
    files = [each for each in RECORDED.iterdir() if each.is_file() and each.suffix != ".py"]
    assert survives(fuzz_readers.torch, files, 300, tmp_path) > 100
