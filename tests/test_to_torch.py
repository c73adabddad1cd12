"""Networks as PyTorch modules, beside themselves."""

import copy
import doctest
import pickle

import numpy as np
import pytest
from exported import ACTIVATIONS, FEW, LENGTHS, B, Doubled, H, I, close, filled, networks, sample, valid
from hypothesis import given
from hypothesis import strategies as st
from tables import refused, works

import fastrnn
from fastrnn.interop import from_torch, to_torch, torch_writer
from fastrnn.layers import (
    GRU,
    LSTM,
    RNN,
    Composite,
    Dropout,
    Embedding,
    HardSigmoid,
    Last,
    Linear,
    Masking,
    Max,
    Mean,
    Merge,
    ReLU,
    Reverse,
    Sequential,
    Sigmoid,
    Tanh,
)

torch = pytest.importorskip("torch")
pytestmark = [
    pytest.mark.usefixtures("one_torch_thread"),
    pytest.mark.filterwarnings(
        "ignore:LSTM with projections is not supported with oneDNN",
        "ignore:The tensor attributes:UserWarning",  # of torch.export
        "ignore:.*jit.script:DeprecationWarning",
    ),
]


def call(module, x, lengths=None):
    with torch.no_grad():
        y = module(torch.from_numpy(x), *([] if lengths is None else [torch.from_numpy(lengths)]))
    return y.numpy()


RECURRENT = {
    "rnn": pytest.param(RNN(I, H), marks=works("to_torch", "RNN", "tanh, relu")),
    "relu": RNN(I, H, nonlinearity="relu", bias=False),
    "lstm": pytest.param(LSTM(I, H), marks=works("to_torch", "LSTM")),
    "projected": pytest.param(
        LSTM(I, H, 2, bidirectional=True, proj_size=2), marks=works("to_torch", "LSTM", "proj_size")
    ),
    "stack": pytest.param(
        LSTM(I, H, 3, bidirectional=True, batch_first=True, dropout=0.3),
        marks=works("to_torch", "Recurrent layers", "num_layers, bidirectional, batch_first, dropout, bias"),
    ),
    "gru": pytest.param(GRU(I, H), marks=works("to_torch", "GRU", "reset_after=True")),
    "float64": pytest.param(
        GRU(I, H, 2, dtype="float64", batch_first=True, recurrent_dropout=0.3),
        marks=works("to_torch", "float64"),
    ),
}


@pytest.mark.parametrize("layer", RECURRENT.values(), ids=RECURRENT)
def test_recurrent_layers_are_pytorchs(layer, rng):
    filled(layer)
    module, x = to_torch(layer), sample(layer, rng)
    assert type(module) is getattr(torch.nn, type(layer).__name__) and not module.training
    close(call(lambda x: module(x)[0], x), layer(x)[0])
    assert list(module.state_dict()) == list(layer.state_dict())


CHAINS = {
    "steps": pytest.param(lambda n, first: [Linear(n * H, 4), Tanh()], marks=works("to_torch", "Linear")),
    "last": pytest.param(
        lambda n, first: [Dropout(0.5), Last(), Linear(n * H, 2, bias=False)],
        marks=[works("to_torch", "Last"), works("to_torch", "Dropout")],
    ),
    "last of others": lambda n, first: [Linear(n * H, 4), Sigmoid(), Last()],
    "mean": pytest.param(lambda n, first: [Linear(n * H, 4), Mean()], marks=works("to_torch", "Mean")),
    "max": pytest.param(lambda n, first: [Linear(n * H, 4), Max()], marks=works("to_torch", "Max")),
    "merged": pytest.param(
        lambda n, first: [Linear(n * H, 8), Merge("ave"), Merge("mul"), Merge("sum")],
        marks=works("to_torch", "Merge", "sum, mul, ave"),
    ),
    "all features": pytest.param(
        lambda n, first: [Last(bidirectional=False)], marks=works("to_torch", "Last", "of all features")
    ),
    "halves": lambda n, first: [Linear(n * H, 4), Last(bidirectional=True), Merge("sum")],
    "reverse": pytest.param(
        lambda n, first: [Reverse(), Linear(n * H, 2)], marks=works("to_torch", "Reverse")
    ),
    "reverse, last": lambda n, first: [Reverse(), Last()],
    "nested": pytest.param(
        lambda n, first: [
            Sequential(RNN(n * H, 4, batch_first=first), Last()),
            Sequential(head=Sequential(ReLU(), Linear(4, 2))),
        ],
        marks=works("to_torch", "Sequential", "within another"),
    ),
}


@pytest.mark.parametrize("first", [False, True], ids=["time first", "batch first"])
@pytest.mark.parametrize("sides", [False, True], ids=["forwards", "both directions"])
@pytest.mark.parametrize("layers", CHAINS.values(), ids=CHAINS)
def test_networks(layers, sides, first, rng):
    after = layers(1 + sides, first)
    made = filled(Sequential(Embedding(9, I), GRU(I, H, bidirectional=sides, batch_first=first), *after))
    module, x = to_torch(made), sample(made, rng)
    close(call(module, x), made(x))
    got, want = call(module, x, LENGTHS), made(x, LENGTHS)
    close(valid(made, got), valid(made, want))
    arrays = {name: torch.from_numpy(array) for name, array in made.state_dict().items()}
    assert list(module.state_dict()) == list(arrays)
    module.load_state_dict(arrays, strict=True)


@works("to_torch", "Sequential", "to be pickled, scripted and exported")
def test_a_network_is_pickled_scripted_and_exported(rng):
    made = filled(
        Sequential(Embedding(9, I), LSTM(I, H, 2, bidirectional=True), Sequential(Last()), Linear(2 * H, 2))
    )
    module, x = to_torch(made), sample(made, rng)
    exported = torch.export.export(module, (torch.from_numpy(x),)).module()
    close(call(exported, x), made(x))
    for other in (pickle.loads(pickle.dumps(module)), copy.deepcopy(module), torch.jit.script(module)):
        close(call(other, x), made(x))
        close(call(other, x, LENGTHS), made(x, LENGTHS))


@works("to_torch", "Tokens", "to a recurrent layer: one-hot, `tokens=True`")
def test_tokens_to_a_recurrent_layer(rng):
    made = filled(Sequential(GRU(9, H, batch_first=True), Linear(H, 9)))
    x = sample(made, rng, tokens=9)
    module = to_torch(made, tokens=True)
    close(call(module, x), made(x))
    assert list(module.state_dict()) == list(made.state_dict())
    close(call(torch.jit.script(module), x), made(x))


FORMS = {RNN: [{}, {"nonlinearity": "relu"}], LSTM: [{}, {"dropout": 0.2, "num_layers": 2}], GRU: [{}]}


@FEW
@given(networks(FORMS), st.booleans())
def test_any_network_comes_back_with_the_same_bits(made, lengths):
    x, steps = sample(made, np.random.default_rng(0)), LENGTHS if lengths else None
    module, want = to_torch(made), made(x, steps)
    got, again = call(module, x, steps), from_torch(module)(x, steps)
    close(valid(made, got) if lengths else got, valid(made, want) if lengths else want)
    np.testing.assert_array_equal(again, want)


FUNCTIONS = [
    pytest.param(layer, marks=works("to_torch", "Activations", type(layer).__name__))
    for layer in ACTIVATIONS
    if repr(layer) != "HardSigmoid(slope=0.2)"
]


@pytest.mark.parametrize("layer", FUNCTIONS)
def test_activations(layer, rng):
    x = rng.normal(size=(B, I)).astype("float32") * 3
    module = to_torch(layer)
    assert type(module).__name__.lower() == type(layer).__name__.lower()
    close(call(module, x), layer(x))


def test_layers_by_themselves(rng):
    x = sample(Mean(), rng)
    for layer in (Linear(I, 2), Mean(), Last(), Dropout(0.3)):
        close(call(to_torch(layer), x), layer(x))
    embedding = Embedding(9, 2)
    assert type(to_torch(embedding)) is torch.nn.Embedding


@works("to_torch", "Training", "goes on there, with gradients and dropout")
def test_training_goes_on_there(rng):
    made = Sequential(LSTM(I, H, 2, dropout=0.5), Last(), Linear(H, 1))
    module, x = to_torch(made).train(), torch.from_numpy(sample(made, rng))
    before = made.state_dict()
    assert not torch.equal(module(x), module(x))
    module(x).sum().backward()
    torch.optim.SGD(module.parameters(), 0.1).step()
    assert not np.array_equal(module.state_dict()["0.weight_ih_l0"], before["0.weight_ih_l0"])
    assert all(np.array_equal(before[name], array) for name, array in made.parameters.items())
    made.load_state_dict({name: tensor.numpy() for name, tensor in module.state_dict().items()})  # and back
    close(call(module.eval(), x.numpy()), made(x.numpy()))


REFUSED = {
    "peephole": (LSTM(I, H, peephole=True), "LSTM", "peephole"),
    "coupled": (LSTM(I, H, coupled=True), "LSTM", "coupled"),
    "clip": (GRU(I, H, clip=1.0), "GRU", "clip"),
    "activation": (LSTM(I, H, output_activation="relu"), "LSTM", "output_activation"),
    "gate": (GRU(I, H, gate_activation="hard_sigmoid"), "GRU", "gate_activation"),
    "nonlinearity": (RNN(I, H, nonlinearity="sigmoid"), "RNN", "nonlinearity"),
    "before": (GRU(I, H, reset_after=False), "GRU", "reset_after=False"),
    "layer_norm": (GRU(I, H, layer_norm=True), "GRU", "layer_norm"),
    "learned_state": (LSTM(I, H, learned_state=True), "LSTM", "learned_state"),
}


@pytest.mark.parametrize(
    ("layer", "kind", "option"),
    [pytest.param(*case, marks=refused("to_torch", *case[1:])) for case in REFUSED.values()],
    ids=REFUSED,
)
def test_forms_that_pytorch_has_not(layer, kind, option):
    with pytest.raises(ValueError, match=rf"layer 0, {kind}\(.*\): PyTorch's {kind} has no {option}"):
        to_torch(Sequential(layer))


@refused("to_torch", "Activations", "HardSigmoid, but with the slope 1/6")
def test_hard_sigmoid_has_one_slope():
    with pytest.raises(ValueError, match=r"layer 0, HardSigmoid\(slope=0.2\): PyTorch's Hardsigmoid has"):
        to_torch(Sequential(HardSigmoid(0.2)))


@refused("to_torch", "Masking")
@refused("to_torch", "Layers of one's own")
def test_layers_of_ones_own():
    with pytest.raises(
        ValueError, match=r"layer 1.own, Doubled\(\): PyTorch has no such layer; known are RNN"
    ):
        to_torch(Sequential(RNN(I, H), Sequential(own=Doubled())))
    with pytest.raises(ValueError, match=r"layer 0, Masking\(\): PyTorch has no such layer"):
        to_torch(Sequential(Masking(), RNN(I, H)))
    with pytest.raises(ValueError, match="layer composite, Composite"):
        to_torch(Composite(lstm=LSTM(I, H)))


def test_names_that_pytorch_needs(rng):
    with pytest.raises(
        ValueError, match="a part of a name that PyTorch needs: attribute 'half' already exists"
    ):
        to_torch(Sequential(RNN(I, H), half=Linear(H, 1)))
    made = filled(Sequential(tokens=RNN(9, H)))
    close(call(to_torch(made, tokens=True), x := sample(made, rng, tokens=9)), made(x))


def test_what_is_no_network():
    with pytest.raises(TypeError, match="network must be a layer or a Sequential, got None"):
        to_torch(None)
    for network in (LSTM(I, H), Sequential(Linear(I, 2))):
        with pytest.raises(
            ValueError, match="tokens must be False: there is no Sequential whose first layer"
        ):
            to_torch(network, tokens=True)


def test_examples():
    results = doctest.testmod(torch_writer, extraglobs={"fastrnn": fastrnn})
    assert results.attempted and not results.failed
