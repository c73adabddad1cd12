"""A good call of everything that is public: what the battery spoils."""

import functools
import importlib.util
import inspect
from collections.abc import Callable, Mapping, Sequence, Set
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from test_estimator import ALL_MODELS
from test_files import FOLDER

import fastrnn
from fastrnn import (
    checkpoint,
    data,
    diagnostics,
    functional,
    interop,
    layers,
    losses,
    metrics,
    optim,
    training,
)
from fastrnn.layers import GRU, LSTM, RNN, Embedding, Last, Linear, Sequential
from fastrnn.models import SequenceRegressor, many

from . import _layers
from ._layers import normal, one_of
from ._spoilt import ANY_FLOATS, ANY_NUMBERS, ANY_SHAPE


class Good(NamedTuple):
    """A call with arguments by name, none of which may change, nor what else it holds."""

    call: Callable[..., Any]
    given: dict[str, Any]
    holders: tuple[Any, ...] = ()
    called: Mapping[str, Sequence[str]] = MappingProxyType({})  # what else errors may call an argument
    takes: Mapping[str, Set[str]] = MappingProxyType({})  # in what ways an argument may differ


T, B, I, H = 4, 3, 5, 6


# -- functions


def functions(rng):
    for kind, gates in ("rnn", 1), ("lstm", 4), ("gru", 3):
        given = {
            "x": normal(rng, "f4", T, B, I),
            "w_ih": normal(rng, "f4", gates * H, I),
            "w_hh": normal(rng, "f4", gates * H, H),
            "b_ih": normal(rng, "f4", gates * H),
            "b_hh": normal(rng, "f4", gates * H),
            "state": normal(rng, "f4", B, H),
            "lengths": rng.integers(1, T + 1, B),
            "reverse": True,
        }
        more = (
            {"nonlinearity": "relu"} if kind == "rnn" else {"activation": "relu", "gate_activation": "tanh"}
        )
        more["clip"] = 1.5
        if kind == "lstm":
            given["state"] = given["state"], normal(rng, "f4", B, H)
            more |= {"peephole": normal(rng, "f4", 3 * H), "coupled": True, "output_activation": "relu"}
        if kind == "gru":
            more["reset_after"] = False
        function = getattr(functional, kind)
        tokens = {**given, "x": rng.integers(0, I, (T, B))}
        anew = {**given, "starts": rng.integers(0, 2, (T, B)) > 0, "start_state": given["state"]}
        yield kind, Good(function, one_of(rng, [{**given, **more}, given, tokens, anew]))
        yield f"{kind}_forward", Good(function.forward, {**one_of(rng, [given, anew]), "recompute": False})
        *_, reserve = function.forward(**given)
        back = {"reserve": reserve, "dy": normal(rng, "f4", T, B, H), "dstate_n": given["state"]}
        yield f"{kind}_backward", Good(function.backward, {**back, "input_gradient": True}, (reserve,))
    x, weight, bias = normal(rng, "f4", B, I), normal(rng, "f4", H, I), normal(rng, "f4", H)
    takes = {"x": {"an axis more"}}
    yield "linear", Good(functional.linear, {"x": x, "weight": weight, "bias": bias}, takes=takes)
    yield (
        "linear_backward",
        Good(functional.linear_backward, {"x": x, "weight": weight, "dy": normal(rng, "f4", B, H)}),
    )
    layer = GRU(I, H, 2, seed=0)
    given = {
        "cell": "gru",
        "x": normal(rng, "f4", T, B, I),
        "parameters": [layer._parameters_of(suffix) for suffix in layer._names],
        "state": normal(rng, "f4", 2, B, H),
        "lengths": rng.integers(1, T + 1, B),
        "bidirectional": False,
        "batch_first": False,
    }
    packed = {**given, "x": normal(rng, "f4", 6, I), "batch_sizes": np.array([3, 2, 1])}
    del packed["lengths"]
    given |= one_of(rng, [{}, {"starts": rng.integers(0, 2, (T, B)) > 0, "start_state": given["state"]}])
    takes = {"parameters": {"a NoneType"}}  # no bias, no projection
    yield "stack", Good(functional.stack, one_of(rng, [given, packed]), takes=takes)
    kept = {**given, "recompute": False, "reusable": True}
    yield "stack.forward", Good(functional.stack.forward, kept, takes=takes)
    *_, reserve = functional.stack.forward(**kept)
    back = {"reserve": reserve, "dy": normal(rng, "f4", T, B, H), "dstate_n": given["state"]}
    yield "stack.backward", Good(functional.stack.backward, {**back, "input_gradient": True}, (reserve,))


# -- layers


def constructors(rng):
    sizes = {"input_size": I, "hidden_size": H, "num_layers": 2}
    shared = {
        **sizes,
        **dict.fromkeys(("bias", "batch_first", "bidirectional", "learned_state", "recompute"), True),
        **{"dropout": 0.25, "recurrent_dropout": 0.25, "dtype": "float32", "seed": 3},
    }
    own = {
        RNN: {"nonlinearity": "relu", "clip": 1.5},
        LSTM: {"proj_size": 2, "peephole": True, "gate_activation": "tanh", "coupled": True, "clip": 1.5},
        GRU: {"reset_after": False, "activation": "relu", "clip": 1.5},
    }
    for kind, options in own.items():
        yield kind.__name__, Good(kind, {**shared, **options})
    yield (
        "Linear",
        Good(Linear, {"in_features": I, "out_features": H, "bias": True, "dtype": "float32", "seed": 3}),
    )
    yield (
        "Embedding",
        Good(Embedding, {"num_embeddings": I, "embedding_dim": H, "dtype": "float32", "seed": 3}),
    )
    yield (
        "Attention",
        Good(layers.Attention, {"query_size": I, "memory_size": H, "dtype": "float32", "seed": 3}),
    )
    yield "Dropout", Good(layers.Dropout, {"p": 0.25, "seed": 3})
    yield "Merge", Good(layers.Merge, {"mode": "sum"})
    yield "Last", Good(layers.Last, {"bidirectional": True})
    yield "Masking", Good(layers.Masking, {"value": 0.5, "fill": "hold"})
    yield "LeakyReLU", Good(layers.LeakyReLU, {"negative_slope": 0.5})
    yield "ELU", Good(layers.ELU, {"alpha": 0.5})
    yield "HardSigmoid", Good(layers.HardSigmoid, {"slope": 0.25})
    yield "GELU", Good(layers.GELU, {"approximate": "tanh"})
    named = {"one": GRU(I, H, seed=0), "last": Last(), "head": Linear(H, 2, seed=0)}
    yield "Sequential", Good(Sequential, {"bptt_steps": 3, **named}, tuple(named.values()))
    yield "Composite", Good(layers.Composite, named, tuple(named.values()))
    yield (
        "Parallel",
        Good(layers.Parallel, {"layers": [named["one"]]}, (named["one"],), {"layers": ("member", "part")}),
    )


def calls_of_layers(rng):
    layer = _layers.recurrent(rng, I, H)
    given = _layers.arguments(rng, layer, T, B)
    takes = {"x": other_steps(given)}
    axes = (B, T) if layer.batch_first else (T, B)
    given |= one_of(rng, [{}, {"starts": rng.integers(0, 2, axes) > 0}])
    yield "layer", Good(layer, {**given, "return_all_states": False}, (layer,), takes=takes)
    yield "layer.forward", Good(layer.forward, given, (layer,), takes=takes)
    gradients = _layers.upstream(rng, layer, given)
    *_, back = layer.forward(**given)
    yield "back", Good(back, {**gradients, "input_gradient": True}, (layer,))
    yield "layer.stream", Good(LSTM(I, H, seed=0).stream, {"batch": 2})
    whole = Sequential(LSTM(I, H, seed=0), Linear(H, 2, seed=0))
    yield "layer.compress", Good(whole.compress, {"weights": "int8", "activations": 8}, (whole,))
    looked = {"weights": "bfloat16", "check": normal(rng, "f4", T, B, I)}
    yield (
        "network.compress",
        Good(whole.compress, looked, (whole,), {"check": ("x",)}),
    )
    yield from of_a_network(rng)
    yield from of_many(rng)
    yield from of_streams(rng)
    yield from of_one(
        "linear", Linear(I, H, seed=0), {"x": normal(rng, "f4", T, B, I)}, rng, {"an axis more"}
    )
    yield from of_one("dropout", layers.Dropout(0.5, seed=0), {"x": normal(rng, "f4", B, I)}, rng, ANY_FLOATS)
    for each in _layers.activations():
        yield from of_one(type(each).__name__, each, {"x": normal(rng, "f4", B, I)}, rng, ANY_FLOATS)
    yield from of_one("merge", layers.Merge("mul"), {"x": normal(rng, "f4", B, 4)}, rng, ANY_FLOATS)
    yield from of_one("embedding", Embedding(I, H, seed=0), {"x": rng.integers(0, I, (T, B))}, rng, ANY_SHAPE)
    steps = {"x": normal(rng, "f4", T, B, I), "lengths": rng.integers(1, T + 1, B)}
    for each in layers.Last(), layers.Mean(), layers.Max(), layers.Reverse():
        yield from of_one(
            type(each).__name__, each, steps, rng, {"longer", "without a feature", "of the other dtype"}
        )
    yield (
        "masking",
        Good(layers.Masking(), steps, takes={"x": {"longer", "without a feature", "of the other dtype"}}),
    )
    attention = layers.Attention(I, H, seed=0)
    looked = {"queries": normal(rng, "f4", T, B, I), "memory": normal(rng, "f4", 2, B, H)}
    looked["lengths"] = rng.integers(1, 3, B)
    yield from of_one("attention", attention, looked, rng)
    yield "attention.weights", Good(attention.weights, looked, (attention,))
    yield "initial.forget_bias", Good(layers.initial.forget_bias, {"layer": LSTM(I, H), "value": 1.0})
    yield "initial.identity", Good(layers.initial.identity, {"layer": RNN(I, H), "scale": 1.0})
    yield "initial.orthogonal", Good(layers.initial.orthogonal, {"layer": GRU(I, H), "gain": 1.0, "seed": 3})


def other_steps(given):
    """Ways in which tokens may differ, whose last axis is that of steps or of rows: more of them, or none."""
    return {"longer", "without a feature"} if given["x"].dtype.kind == "i" else frozenset()


def of_one(name, layer, given, rng, takes=frozenset()):
    how = {"called": {"x": ("features",)}, "takes": {"x": takes}}
    yield name, Good(layer, given, (layer,), **how)
    y, back = layer.forward(**given)
    yield f"{name}.forward", Good(layer.forward, given, (layer,), **how)
    yield f"{name}.back", Good(back, {"dy": normal(rng, y.dtype, *y.shape)}, (layer,))


def of_many(rng):
    parallel = layers.Parallel([LSTM(I, H, seed=0), GRU(I, H, seed=0)])
    x = [normal(rng, "f4", T, B, I) for _ in range(2)]
    given = {"x": x, "lengths": [rng.integers(1, T + 1, B) for _ in range(2)], "return_state": False}
    given["state"] = [(normal(rng, "f4", 1, B, H),) * 2, normal(rng, "f4", 1, B, H)]
    how = {"takes": {"lengths": {"a NoneType"}}}
    yield "parallel", Good(parallel, given, (parallel,), **how)
    yield "parallel.forward", Good(parallel.forward, given, (parallel,), **how)
    y, back = parallel.forward(x)
    yield "parallel.back", Good(back, {"dy": y, "input_gradient": True}, (parallel,))


def of_a_network(rng):
    network = _layers.network(rng)
    given = _layers.arguments(rng, network, T, B)
    takes = {"x": other_steps(given)}
    yield "network", Good(network, {**given, "return_state": False}, (network,), takes=takes)
    yield "network.forward", Good(network.forward, given, (network,), takes=takes)
    gradients = _layers.upstream(rng, network, given)
    _, back = network.forward(**given)
    yield "network.back", Good(back, {**gradients, "input_gradient": True}, (network,))


def of_streams(rng):
    layer = LSTM(I, H, 2, seed=0)
    stream = layer.stream(B)
    yield "step", Good(stream.step, {"x": normal(rng, "f4", B, I), "out": np.zeros((B, H), "f4")}, (stream,))
    yield "step of tokens", Good(stream.step, {"x": rng.integers(0, I, B)}, (stream,))
    yield "reset", Good(stream.reset, {"rows": rng.integers(0, 2, B) > 0}, (stream,))
    yield "step_many", Good(stream.step_many, {"x": normal(rng, "f4", T, B, I)}, (stream,))
    state = normal(rng, "f4", 2, B, H), normal(rng, "f4", 2, B, H)
    yield "stream.state", Good(functools.partial(_assign, stream), {"state": state}, (stream,))
    embedded = Sequential(Embedding(I, 4, seed=0), GRU(4, H, seed=0), Linear(H, 2, seed=0)).stream(B)
    yield "network's step", Good(embedded.step, {"x": rng.integers(0, I, B)}, (embedded,))


def _assign(stream, state):
    stream.state = state


def of_parameters(rng):
    yield from of_optimizers(rng)
    layer = GRU(I, H, seed=0)
    state = {name: normal(rng, "f4", *array.shape) for name, array in layer.parameters.items()}
    yield (
        "load_state_dict",
        Good(layer.load_state_dict, {"state": state}, (layer,), takes={"state": ANY_NUMBERS - {"of bools"}}),
    )


# -- losses, optimizers, metrics


def of_losses(rng):
    prediction, target = normal(rng, "f4", T, B, I), normal(rng, "f4", T, B, I)
    how = {"weights": rng.uniform(0.1, 1, (T, B)), "lengths": rng.integers(1, T + 1, B)}
    pair = {"prediction": prediction, "target": target}
    yield "mean_squared_error", Good(losses.mean_squared_error, {**pair, **how})
    yield "mean_absolute_error", Good(losses.mean_absolute_error, {**pair, **how})
    yield "huber", Good(losses.huber, {**pair, "delta": 0.5, **how})
    three = {"prediction": normal(rng, "f4", T, B, 2), "target": normal(rng, "f4", T, B)}
    yield "gaussian_nll", Good(losses.gaussian_nll, {**three, **how})
    yield "quantile_loss", Good(losses.quantile_loss, {**three, "quantiles": np.array([0.2, 0.7]), **how})
    classes = {"logits": prediction, "targets": rng.integers(0, I, (T, B))}
    more = {"ignore_index": 2, "label_smoothing": 0.25}
    yield "softmax_cross_entropy", Good(losses.softmax_cross_entropy, {**classes, **more, **how})
    binary = {"logits": prediction, "targets": rng.uniform(0, 1, (T, B, I)).astype("f4")}
    yield "binary_cross_entropy_with_logits", Good(losses.binary_cross_entropy_with_logits, {**binary, **how})
    yield "get", Good(losses.get, {"loss": "huber"})


def of_optimizers(rng):
    own = {
        optim.SGD: {"lr": 0.1, "momentum": 0.5, "weight_decay": 0.1},
        optim.RMSprop: {"lr": 0.1, "alpha": 0.5, "eps": 1e-6},
        optim.Adam: {"lr": 0.1, "betas": (0.5, 0.5), "eps": 1e-6},
        optim.AdamW: {"lr": 0.1, "betas": (0.5, 0.5), "eps": 1e-6, "weight_decay": 0.1},
    }
    arrays = {"one": normal(rng, "f4", 3, 2), "two": normal(rng, "f4", 4)}
    gradients = {name: normal(rng, "f4", *array.shape) for name, array in arrays.items()}
    for kind, options in own.items():
        yield kind.__name__, Good(kind, {"parameters": arrays, **options})
        optimizer = kind({name: array.copy() for name, array in arrays.items()}, 0.1)
        yield f"{kind.__name__}.step", Good(optimizer.step, {"gradients": gradients}, (optimizer,))
    yield "grad_norm", Good(optim.grad_norm, {"gradients": gradients})
    yield "clip_grad_norm", Good(optim.clip_grad_norm, {"gradients": gradients, "max_norm": 1e9})
    yield (
        "clip_grad_value",
        Good(optim.clip_grad_value, {"gradients": gradients, "clip_value": 1e9}),
    )


def of_metrics(rng):
    true, predicted = rng.normal(size=20), rng.normal(size=20)
    yield (
        "coverage",
        Good(metrics.coverage, {"y_true": true, "lower": true - 1, "upper": true + 1}),
    )
    past = rng.normal(size=30)
    yield (
        "mase",
        Good(metrics.mase, {"y_true": true, "y_pred": predicted, "y_train": past, "season": 2}),
    )
    quantiles = {"y_pred": rng.normal(size=(20, 2)), "quantiles": np.array([0.2, 0.7])}
    yield "pinball_loss", Good(metrics.pinball_loss, {"y_true": true, **quantiles})
    yield (
        "edit_distance",
        Good(metrics.edit_distance, {"a": "kitten", "b": "sitting"}),
    )
    yield (
        "error_rate",
        Good(
            metrics.error_rate,
            {"y_true": ["abc", "de"], "y_pred": ["abd", "de"]},
        ),
    )


# -- training, models and files


def of_training(rng):
    X = [normal(rng, "f4", int(n), I) for n in rng.integers(2, 6, 6)]
    y = rng.integers(0, 2, 6)
    network = Sequential(GRU(I, 4, seed=0), Last(), Linear(4, 2, seed=0))
    given = {
        **{"network": network, "data": (X, y), "loss": "softmax_cross_entropy", "epochs": 1, "batch_size": 3},
        **{"max_steps": 1, "max_seconds": 9.0, "schedule": "constant", "clip_norm": 1.0, "accumulate": 1},
        **{"callbacks": (), "seed": 3},
    }
    yield "fit", Good(_trained, given, (network,), called={"data": ("targets",)})
    sequences = {"value": X, "layout": "NTC", "dtype": "float32"}
    yield "sequences", Good(functools.partial(data.sequences, "value"), sequences)
    yield "Vocabulary", Good(data.Vocabulary, {"text": "abcab"})
    yield "Words", Good(data.Words, {"text": "a cat and a dog", "size": 3})
    layer, x = GRU(I, H, seed=0), normal(rng, "f4", T, B, I)
    looked = {"layer": layer, "x": x, "dy": normal(rng, "f4", T, B, H), "lengths": rng.integers(1, T + 1, B)}
    yield "diagnose", Good(diagnostics.diagnose, looked, (layer,))


def _trained(network, data, **options):
    training.fit(network, data, **options)
    return network.state_dict()


#: Parameters of models, and their methods with what these take.
CONSTRUCTED = {"cell": "gru", "hidden_size": 4, "num_layers": 1, "dropout": 0.0, "batch_size": 4, "seed": 3}
CONSTRUCTED |= {
    "epochs": 1,
    "learning_rate": 0.01,
    "optimizer": "adam",
    "clip_norm": 1.0,
    "weight_decay": 0.0,
}


def of_models(rng):
    make = one_of(rng, ALL_MODELS)
    name, (model, given) = make.__name__.strip("_"), make()
    kind = type(model)
    names = [*inspect.signature(kind.fit).parameters][1 : 1 + len(given)]
    arguments = dict(zip(names, given, strict=True))
    options = {key: value for key, value in CONSTRUCTED.items() if key in model.get_params()}
    for key in rng.permutation([*options])[:3]:
        yield (
            f"{kind.__name__} with {key}",
            Good(functools.partial(_fit, kind, options, arguments), {key: options[key]}),
        )
    yield f"{kind.__name__}.fit", Good(functools.partial(_fit, kind, options, {}), arguments)
    fitted = kind.load(FOLDER / str(checkpoint.FORMAT) / f"{name}.safetensors")
    if hasattr(fitted, "score"):
        yield f"{kind.__name__}.score", Good(fitted.score, arguments, (fitted,))
    if "X" in arguments:
        yield f"{kind.__name__}.predict", Good(fitted.predict, {"X": arguments["X"]}, (fitted,))
    if hasattr(fitted, "predict_proba"):
        yield f"{kind.__name__}.predict_proba", Good(fitted.predict_proba, {"X": arguments["X"]}, (fitted,))
    if hasattr(fitted, "generate"):
        what = {"prompt": arguments["text"][:5]} if "text" in arguments else {"X": arguments["X"][:2]}
        what |= {"n": 2, "temperature": 0.5, "top_k": 2, "top_p": 0.5, "seed": 3}
        yield f"{kind.__name__}.generate", Good(fitted.generate, what, (fitted,))
    if name == "forecaster":
        yield f"{kind.__name__}.predict_interval", Good(fitted.predict_interval, {"coverage": 0.8}, (fitted,))
        yield f"{kind.__name__}.predict", Good(fitted.predict, {"horizon": 3}, (fitted,))


def of_members(rng):
    model = SequenceRegressor(hidden_size=4, epochs=1, validation_fraction=0, seed=3)
    members = [(normal(rng, "f4", 5, T, I), normal(rng, "f4", 5)) for _ in range(2)]
    called = {"data": ("member", "X", "y")}
    takes = {"data": {"an axis less"}}  # X of one feature
    yield "many", Good(_fit_many, {"estimator": model, "data": members}, (), called, takes)
    crowd = many(model).fit(members)
    yield "Many.predict", Good(crowd.predict, {"data": [X for X, _ in members]}, (crowd,), called)
    yield "Many.score", Good(crowd.score, {"data": members}, (crowd,), called)


def _fit_many(estimator, data):
    return [member.network_.state_dict() for member in many(estimator).fit(data)]


def _fit(kind, options, arguments, **changed):
    """The loss of a model that learns of these arguments, which are its constructor's or `fit`'s."""
    given = {**options, **arguments, **changed}
    own = {name: value for name, value in given.items() if name in options}
    model = kind(**own).fit(**{name: given[name] for name in given.keys() - own.keys()})
    return {name: value for name, value in model.history_[-1].items() if "second" not in name}


def _read(**given):
    return {name: layer.state_dict() for name, layer in interop.from_torch(**given).items()}


def _names_read(**given):
    return [*interop.from_onnx(**given)]


def of_files(rng):
    file = FOLDER / str(checkpoint.FORMAT) / f"{one_of(rng, ALL_MODELS).__name__.strip('_')}.safetensors"
    called = {"path": ("os.PathLike", "No such file", "null byte", "spoilt")}
    yield "load", Good(fastrnn.load, {"path": str(file)}, called=called)
    yield "checkpoint.load", Good(checkpoint.load, {"path": str(file)}, called=called)
    network = Sequential(GRU(I, H, seed=0), Last(), Linear(H, 2, seed=0))
    state = {f"gru.{name}": array for name, array in GRU(I, H, seed=0).parameters.items()}
    given, called = (
        {"source": state, "batch_first": False, "layers": True},
        {"source": ("module", "tensor", "input_size", "No such file")},
    )
    yield "from_torch", Good(_read, given, called=called)
    if importlib.util.find_spec("onnx") is not None:
        written = interop.to_onnx(network).SerializeToString()
        given, called = {"model": written, "layers": True}, {"model": ("ONNX", "No such file")}
        yield "from_onnx", Good(_names_read, given, called=called)
        yield "to_onnx", Good(interop.to_onnx, {"network": network, "lengths": False, "states": False})
    if importlib.util.find_spec("torch") is not None:
        yield "to_torch", Good(interop.to_torch, {"network": network, "tokens": False})
    yield "use_backend", Good(fastrnn.use_backend, {"name": "native"})
    yield "set_num_threads", Good(fastrnn.set_num_threads, {"n": 0})


def of_torch(rng):
    """Modules are PyTorch's, whose errors they have: see test_torch_modules."""
    import torch

    import fastrnn.torch

    for name in "accelerate", "report":
        module = torch.nn.Sequential(torch.nn.Embedding(5, 4), torch.nn.GRU(4, 3))
        given = {"module": module, "strict": False} if name == "accelerate" else {"module": module}
        yield f"torch.{name}", Good(functools.partial(_table, getattr(fastrnn.torch, name)), given)


def _table(function, **given):
    return str(function(**given))


SOURCES = [functions, constructors, calls_of_layers, of_losses, of_parameters, of_metrics]
SOURCES += [of_training, of_models, of_members, of_files]
SOURCES += [of_torch] if importlib.util.find_spec("torch") else []
