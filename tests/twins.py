"""Modules of `fastrnn.torch` beside the classes of PyTorch that they stand for: same weights, same calls."""

import itertools

import pytest

torch = pytest.importorskip("torch", minversion="2.4")
modules = pytest.importorskip("fastrnn.torch")
rnn = torch.nn.utils.rnn

CELLS = ("RNNCell", "GRUCell", "LSTMCell")
LAYERS = ("RNN", "GRU", "LSTM")
TOLERANCES = {torch.float32: {"rtol": 1e-4, "atol": 1e-5}, torch.float64: {"rtol": 1e-10, "atol": 1e-12}}

cells = pytest.mark.parametrize("kind", CELLS)
layers = pytest.mark.parametrize("kind", LAYERS)
kinds = pytest.mark.parametrize("kind", LAYERS + CELLS)


def twins(kind, *args, **options):
    """A module of ours and one of PyTorch's with the same weights, float64 unless told."""
    options.setdefault("dtype", torch.float64)
    mine, theirs = getattr(modules, kind)(*args, **options), getattr(torch.nn, kind)(*args, **options)
    theirs.load_state_dict(mine.state_dict())
    return mine, theirs


def flat(tree):
    """The tensors, and what is None, of nested tuples in order."""
    if tree is None or isinstance(tree, torch.Tensor):
        return [tree]
    return [t for each in tree for t in flat(each)]


def fresh(tree):
    """The same values in the same memory, as leaves of a new graph."""
    if isinstance(tree, rnn.PackedSequence):
        return like(tree, [fresh(tree.data), *tree[1:]])
    if isinstance(tree, tuple):
        return tuple(map(fresh, tree))
    return tree if tree is None else tree.detach().requires_grad_(tree.requires_grad)


def like(tree, tensors):
    """These tensors in the places of a tree's, as `flat` orders them."""
    left = iter(tensors)

    def put(each):
        if isinstance(each, rnn.PackedSequence):
            return type(each)(*map(put, each))
        return tuple(map(put, each)) if isinstance(each, tuple) else next(left)

    return put(tree)


def results(module, *args, **grad_options):
    """Of a call: the outputs and, some weights given to them, the gradients of arguments and parameters."""
    args = fresh(args)
    outputs = flat(module(*args))
    sources = [t for t in [*flat(args), *module.parameters()] if t is not None and t.requires_grad]
    made = [t for t in outputs if t is not None and t.requires_grad]
    noise = torch.Generator().manual_seed(7)
    weights = [torch.randn(t.shape, generator=noise, dtype=torch.float64).to(t.dtype) for t in made]
    gradients = torch.autograd.grad(made, sources, weights, allow_unused=True, **grad_options) if made else ()
    return [*outputs, *gradients]


def agree(found, expected, **tolerance):
    """Equal but for rounding, in dtype, shape and what is None."""
    found, expected = flat(found), flat(expected)
    assert [t is None for t in found] == [t is None for t in expected]
    for a, b in zip(found, expected, strict=True):
        if b is not None:
            torch.testing.assert_close(a, b, **(tolerance or TOLERANCES.get(b.dtype, {"rtol": 0, "atol": 0})))


def taken_over(module):
    """Why PyTorch computed calls of a module of ours; empty where the kernels computed all of them."""
    (row,) = modules.report(module)
    assert row.kernel_calls or row.pytorch_calls
    return set(row.pytorch_calls) - {"gradients of one step"}  # which an RNNCell leaves to it


def outcome(function, *args):
    """What a call gives: its tensors, or the kind and words of what it raises."""
    try:
        return flat(function(*args))
    except Exception as error:
        return type(error), str(error)


def same_outcome(mine, theirs, *args):
    """Both give the same numbers, or both refuse in the same words, which are returned with their kind."""
    found, expected = outcome(mine, *args), outcome(theirs, *args)
    if not isinstance(expected, tuple):
        return agree(found, expected)
    names = type(mine).__name__, type(theirs).__name__
    assert found == (expected[0], expected[1].replace(*reversed(names)))
    return expected


def make(*shape, grad=True, dtype=torch.float64):
    return torch.randn(shape, dtype=dtype).requires_grad_(grad)


def state(kind, *rows, hidden, projected=0, **how):
    """A state of these rows as a module of this kind takes it: h, or (h, c)."""
    h = make(*rows, projected or hidden, **how)
    return (h, make(*rows, hidden, **how)) if kind.startswith("LSTM") else h


def packed(x, lengths, batch_first=False, **how):
    """A packed sequence whose data is a leaf."""
    sequence = rnn.pack_padded_sequence(x.detach(), lengths, batch_first=batch_first, **how)
    return like(sequence, [sequence.data.requires_grad_(x.requires_grad), *sequence[1:]])


# The constructors that PyTorch's module_db tries its recurrent modules with; `inputs` are its, and batches.
_OWN = {
    "RNN": [{"nonlinearity": "tanh"}, {"nonlinearity": "relu"}],
    "GRU": [{}],
    "LSTM": [{}, {"proj_size": 2}],
}
_FLAGS = [
    dict(zip(("bias", "batch_first", "bidirectional"), flags, strict=True))
    for flags in itertools.product((False, True), repeat=3)
]
CONSTRUCTORS = [
    *((kind, {**flags, **own}) for kind in LAYERS for own in _OWN[kind] for flags in _FLAGS),
    *(
        (kind, {"bias": bias, **own})
        for kind in CELLS
        for own in (_OWN["RNN"] if kind == "RNNCell" else [{}])
        for bias in (False, True)
    ),
]
constructed = pytest.mark.parametrize(
    "kind, options",
    CONSTRUCTORS,
    ids=["-".join([k, *(n if v is True else str(v) for n, v in o.items() if v)]) for k, o in CONSTRUCTORS],
)


def sizes(kind):
    """The arguments of the constructor that are sizes: input, hidden and, of layers, how many."""
    return (5, 10) if kind in CELLS else (2, 3, 2)


def inputs(kind, options, measures=None, **how):
    """Arguments of `forward` by what they are."""
    width, hidden, *stacked = measures or sizes(kind)
    if kind in CELLS:
        for name, rows in {"row": (), "batch": (2,)}.items():
            yield name, (make(*rows, width, **how),)
            yield f"{name} and state", (make(*rows, width, **how), state(kind, *rows, hidden=hidden, **how))
        return
    count = stacked[0] * (1 + options["bidirectional"])
    sized = {"hidden": hidden, "projected": options.get("proj_size", 0), **how}
    for name, rows in {"sequence": (), "batch": (4,)}.items():
        shape = (*rows, 3, width) if options["batch_first"] else (3, *rows, width)
        yield name, (make(*shape, **how),)
        yield f"{name} and state", (make(*shape, **how), state(kind, count, *rows, **sized))
    for lengths in ([5, 3], [5, 3, 3, 2, 2]):
        x = make(5, len(lengths), width, **how)
        yield f"packed {lengths}", (packed(x, lengths),)
        yield f"packed {lengths} and state", (packed(x, lengths), state(kind, count, len(lengths), **sized))


def wrong_arguments(kind):
    """Arguments that a module of 10 inputs and 20 units refuses."""
    dtype = torch.float64
    x, rows = (make(3, 10), (3,)) if kind in CELLS else (make(6, 3, 10), (1, 3))
    good = state(kind, *rows, hidden=20)
    yield (make(*x.shape[:-1], 11),)
    yield (make(*x.shape[:-1], 1), good)
    yield (make(2, *x.shape, 10),)
    yield (make(10, 1)[0, 0],)
    yield (x.float(),)
    yield (x.detach().to(torch.int64),)
    yield (torch.empty(x.shape, dtype=dtype, device="meta"),)
    ends = [(*rows, 21), (*rows, 1), (*rows[:-1], 5, 20), (*rows[:-1], 1, 20), (3, 1, 1, 20), (2, *rows, 20)]
    for h in [make(*shape) for shape in ends]:
        for hx in [(h, h), (h, good[0]), (good[0], h)] if kind.startswith("LSTM") else [h]:
            yield x, hx
    for h in (good[0].float(), good[0].detach().to("meta")) if kind.startswith("LSTM") else (good.float(),):
        yield x, ((h, h) if kind.startswith("LSTM") else h)
    yield x, (good[0] if kind.startswith("LSTM") else (good, good))
    if kind not in CELLS:
        yield (make(0, 3, 10),)
        yield x, state(kind, 2, 3, hidden=20)
        yield x[:, 0], good
        yield x, state(kind, 1, hidden=20)
        yield (like(packed(x, [6, 4, 1]), [make(11, 9), torch.tensor([3, 2, 2, 2, 1, 1]), None, None]),)
        yield packed(x, [6, 4, 1]), state(kind, 1, 4, hidden=20)
