"""What from_torch asks for, and what it refuses, by name."""

import numpy as np
import pytest
from tables import refused, works

from fastrnn import GRU, LSTM, Embedding, Linear
from fastrnn.interop import from_torch

PAGE = "from_torch"


def lstm(prefix="", hidden=5, features=4, gates=4, suffix="_l0", bias=True, seed=0):
    rng = np.random.default_rng(seed)
    shapes = {"weight_ih": (gates * hidden, features), "weight_hh": (gates * hidden, hidden)}
    shapes |= {"bias_ih": (gates * hidden,), "bias_hh": (gates * hidden,)} if bias else {}
    return {f"{prefix}{name}{suffix}": rng.normal(size=shape).astype("f4") for name, shape in shapes.items()}


def linear(name, rows, columns, bias=True):
    arrays = {f"{name}.weight": np.ones((rows, columns), "f4")}
    return arrays | ({f"{name}.bias": np.ones(rows, "f4")} if bias else {})


def case(what, remark, state, match, **options):
    return pytest.param(state, options, match, marks=refused(PAGE, what, remark), id=f"{what}: {remark}")


STATE = lstm("net.lstm.") | linear("net.fc", 2, 5)
ORDER = {"order": ["lstm", "fc"], "batch_first": True}
QUESTIONS = [
    case(
        "state dict", "without `batch_first`", lstm(), "batch_first must be given: the module does not tell"
    ),
    case(
        "state dict",
        "of several modules without `order`",
        STATE,
        r"order must be given.*net.fc: weight \(2, 5\)",
    ),
    case(
        "`RNN`",
        "without `nonlinearity`",
        lstm(gates=1),
        'nonlinearity must be given.*"tanh" or "relu"',
        batch_first=True,
    ),
    case(
        "`Embedding` or `Linear` without bias",
        "where both fit, without `embedding`",
        lstm("lstm.", features=4) | linear("embedding", 4, 4, bias=False),
        "embedding must be given: module 'embedding'.*Embedding of 4 tokens or a Linear of 4 features",
        order=["embedding", "lstm"],
        batch_first=True,
    ),
    case(
        "checkpoint",
        "with two models, where a name is of both",
        {"model": lstm("lstm."), "ema": lstm("lstm.")},
        "'lstm', which may be each of 'model.lstm', 'ema.lstm'",
        order=["lstm"],
    ),
]
REFUSALS = [
    case(
        "weights that are no tensors",
        "lists, and arrays of other libraries",
        {name: array.tolist() if "bias" in name else array for name, array in lstm().items()},
        "'bias_ih_l0' must be a tensor or an array of numbers, got a list",
        batch_first=True,
    ),
    case(
        "weights that are no tensors",
        "",
        {name: array.tolist() for name, array in lstm().items()},
        "'weight_ih_l0' must be a tensor or an array of numbers, got a list",
        batch_first=True,
    ),
    case(
        "weights that are no tensors",
        "",
        lstm("lstm.") | {"fc.weight": np.ones((2, 5)), "fc.bias": (1.0, 2.0)},
        "'fc.bias' must be a tensor or an array of numbers, got a tuple",
        **ORDER,
    ),
    case(
        "WeightDrop",
        "of AWD-LSTM: `_raw`",
        lstm("rnn.module.") | {"rnn.weight_hh_l0_raw": np.ones((20, 5))},
        "true weights are those named _raw",
        layers=True,
        batch_first=True,
    ),
    case("order", "a name that is not there", STATE, "'gru', which is no module of it", order=["gru"]),
    case(
        "order",
        "a tensor that no name stands for, without `ignore`",
        STATE | {"net.h0": np.zeros((1, 1, 5))},
        "order leaves out net.h0: .*ignore=",
        **ORDER,
    ),
    case(
        "order",
        "a container of a state dict",
        lstm("lstm.") | linear("fc.0", 3, 5) | linear("fc.2", 2, 3),
        "module 'fc' is no recurrent layer.* name each",
        **ORDER,
    ),
    case(
        "order",
        "layers that do not fit",
        lstm("lstm.") | linear("fc", 2, 6),
        "layer lstm gives 5 features",
        **ORDER,
    ),
    case("learned state", "", lstm() | {"h0": np.zeros((1, 1, 5))}, "h0 is not of such", batch_first=True),
    case(
        "weight_norm",
        "`_g` and `_v`",
        lstm() | {"weight_hh_l0_g": np.ones((20, 1)), "weight_hh_l0_v": np.ones((20, 5))},
        "weight_hh_l0_g is not of such a layer.*remove_weight_norm",
        batch_first=True,
    ),
    case(
        "weight_norm",
        "weight drop and others that keep a second weight",
        lstm() | {"weight_hh_l0_raw": np.ones((20, 5))},
        "weight_hh_l0_raw is not of such a layer",
        batch_first=True,
    ),
    case(
        "parametrizations",
        "",
        {
            name: array
            for name, array in (
                lstm() | {f"parametrizations.weight_hh_l0.original{k}": np.ones((20, 1)) for k in (0, 1)}
            ).items()
            if name != "weight_hh_l0"
        },
        "weight_hh_l0 is missing.*remove_parametrizations",
        batch_first=True,
    ),
    case(
        "other names",
        "Keras's",
        {"kernel": np.ones((4, 20)), "recurrent_kernel": np.ones((5, 20)), "bias": np.ones(20)},
        "recurrent_kernel is Keras's, see from_keras",
    ),
    case(
        "other layouts",
        "weights transposed",
        {"weight_ih_l0": np.ones((4, 20)), "weight_hh_l0": np.ones((5, 20))},
        "are of no RNN, GRU or LSTM",
        batch_first=True,
    ),
    case(
        "LSTM",
        "a projection without `weight_hr`",
        {"weight_ih_l0": np.ones((20, 4)), "weight_hh_l0": np.ones((20, 3))},
        "are of no RNN, GRU or LSTM",
        batch_first=True,
    ),
    case(
        "weights that are no tensors",
        "",
        lstm() | {"bias_hh_l0": np.ma.masked_array(np.ones(20), True)},
        "'bias_hh_l0' must be a plain array, got a masked one",
        batch_first=True,
    ),
    case(
        "LSTM",
        "a cell with a projection, which PyTorch has not",
        lstm(suffix="") | {"weight_hr": np.ones((3, 5))},
        "weight_hr is not of such a layer",
    ),
    case(
        "LSTM",
        "layers that do not fit each other",
        lstm() | lstm(features=6, suffix="_l1"),
        r"weight_ih_l1 must have shape \(20, 5\).*got \(20, 6\)",
        batch_first=True,
    ),
    case(
        "LSTM",
        "a bias in one layer alone",
        lstm() | lstm(features=5, suffix="_l1", bias=False),
        "bias_hh_l1 is missing, bias_ih_l1 is missing",
        batch_first=True,
    ),
    case(
        "LSTM",
        "one bias for two",
        {name: array for name, array in lstm().items() if name != "bias_hh_l0"},
        "bias_hh_l0 is missing",
        batch_first=True,
    ),
    case(
        "LSTM",
        "weights of integers",
        lstm(bias=False) | {"weight_hh_l0": np.ones((20, 5), "i1")},
        "'weight_hh_l0' must be of floats, got dtype int8",
        batch_first=True,
    ),
    case(
        "other modules of a state dict",
        "`LayerNorm` and others, by their tensors",
        lstm("lstm.") | {"fc.weight": np.ones(5), "fc.bias": np.ones(5)},
        "module 'fc' is no recurrent layer, Linear or Embedding",
        **ORDER,
    ),
]


@pytest.mark.parametrize("state, options, match", QUESTIONS + REFUSALS)
def test_a_state_dict_is_refused_by_name(state, options, match):
    with pytest.raises(ValueError, match=match):
        from_torch(state, **options)


def test_answers_are_heard():
    assert from_torch(lstm(), batch_first=True).batch_first
    assert from_torch(lstm(gates=1), batch_first=False, nonlinearity="relu").nonlinearity == "relu"
    state = lstm("lstm.") | linear("embedding", 4, 4, bias=False)
    for embedding, kind in ((True, Embedding), (False, Linear)):
        network = from_torch(state, order=["embedding", "lstm"], batch_first=True, embedding=embedding)
        assert type(network.embedding) is kind


@works(PAGE, "`Embedding` or `Linear` without bias", "told by what follows")
def test_what_follows_tells_an_embedding_from_a_linear():
    network = from_torch(
        lstm("a.lstm.") | linear("a.e", 7, 4, bias=False), order=["e", "lstm"], batch_first=True
    )
    assert type(network.a_e) is Embedding
    network = from_torch(
        lstm("a.lstm.") | linear("a.e", 4, 7, bias=False), order=["e", "lstm"], batch_first=True
    )
    assert type(network.a_e) is Linear


@works(PAGE, "names", "any prefix; the end of a name, if no other ends so; `module.` and `_orig_mod.`")
def test_names_are_found_by_their_ends():
    state = lstm("module.encoder._orig_mod.lstm.") | linear("module.encoder.fc", 2, 5)
    for order in (["lstm", "fc"], ["encoder.lstm", "encoder.fc"], ["module.encoder.lstm", "fc"]):
        assert [*from_torch(state, order=order, batch_first=True).parts] == [
            "module_encoder__orig_mod_lstm",
            "module_encoder_fc",
        ]
    several = lstm("fc.") | lstm("decoder.fc.")
    assert len(from_torch(several, order=["fc"], batch_first=True).parts) == 1  # exactly that


@works(PAGE, "`layers=True`", "all recurrent layers by their names, whatever is around them")
def test_layers_are_all_recurrent_layers():
    state = {"model": lstm("a.") | lstm("b.c.", gates=3) | {"h0": np.ones(3), "bn.running_mean": np.ones(3)}}
    found = from_torch(state, layers=True, batch_first=True)
    assert {name: type(layer) for name, layer in found.items()} == {"model.a": LSTM, "model.b.c": GRU}


def test_a_layer_that_is_refused_can_be_left_out():
    state = lstm("a.") | lstm("b.") | {"b.layer_norm.weight": np.ones(20)}
    with pytest.raises(ValueError, match=r"module 'b' does not fit: layer_norm\.weight"):
        from_torch(state, layers=True, batch_first=True)
    assert [*from_torch(state, layers=True, batch_first=True, ignore=["b"])] == ["a"]


def test_two_of_a_name_are_refused():
    tensor = np.ones((20, 5))
    for state in ({"a.b": tensor, "a": {"b": 2 * tensor}}, {"a": {"b": 2 * tensor}, "a.b": tensor}):
        with pytest.raises(ValueError, match=r"it has two (tensors|modules) of the name"):
            from_torch(state, batch_first=True)


def test_what_is_ignored_has_no_part():
    state = STATE | {"net.h0": np.zeros((1, 1, 5))} | linear("net.extra", 3, 3)
    network = from_torch(state, **ORDER, ignore=["net.h0", "net.extra"])
    assert [*network.parts] == ["net_lstm", "net_fc"]
    with pytest.raises(ValueError, match="ignore names 'h1', which is no module or tensor"):
        from_torch(state, **ORDER, ignore=["h1"])


@pytest.mark.parametrize(
    "options, error, match",
    [
        ({"source": 3}, TypeError, "source must be a path, a state dict or a torch.nn.Module, got 3"),
        ({"order": "lstm"}, TypeError, "order must be a list or tuple"),
        ({"order": [3]}, ValueError, "order must name a module"),
        ({"order": ["lstm", 3]}, TypeError, r"order\[1\] must be a name or a fastrnn layer, got 3"),
        ({"order": ["lstm"], "layers": True}, ValueError, "order goes without layers=True"),
        ({"batch_first": 1}, TypeError, "batch_first must be True or False"),
        ({"nonlinearity": "gelu"}, ValueError, "nonlinearity must be one of 'tanh', 'relu'"),
        ({"ignore": "h0"}, TypeError, "ignore must be a list or tuple of names"),
        ({"source": {}}, ValueError, "order must be given.*It has no tensors"),
        ({"source": {}, "layers": True}, ValueError, "no recurrent layer with PyTorch's names"),
    ],
)
def test_arguments_are_refused_by_name(options, error, match):
    with pytest.raises(error, match=match):
        from_torch(**{"source": STATE} | options)
