"""Modules of `fastrnn.torch` and their parents, built and called at random: equal results and gradients."""

import copy

import numpy as np
import pytest
from twins import CELLS, LAYERS, agree, flat, modules, packed, taken_over, torch, twins

pytestmark = [
    pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN"),
    pytest.mark.filterwarnings("ignore:dropout option adds dropout after all but last"),
    pytest.mark.usefixtures("one_torch_thread"),
]


def strided(rng, t):
    """The same values in another layout, or one of their rows instead of all, as often as not."""
    layout = rng.integers(5)
    if layout == 1:  # gaps between entries
        return t.repeat_interleave(2, dim=-1)[..., ::2]
    if layout == 2 and t.dim() > 1:  # axes laid out the other way
        return t.transpose(0, -1).contiguous().transpose(0, -1)
    if layout == 3 and t.dim() > 1 and len(t):  # one row, expanded
        return t[:1].expand(t.shape)
    if layout == 4:  # a part of something larger
        return torch.nn.functional.pad(t, (1, 1)).narrow(-1, 1, t.shape[-1])
    return t


def drawn(rng, *shape, dtype):
    """A tensor at random, of some layout, that is asked for its gradient or not."""
    values = torch.from_numpy(rng.normal(size=shape)).to(dtype)
    return strided(rng, values).detach().requires_grad_(bool(rng.integers(2)))


def some(rng, *choices):
    return choices[rng.integers(len(choices))]


def module_and_call(rng, limits):
    """Twins of random options, and a function that calls one of them with random arguments."""
    kind, dtype = some(rng, *LAYERS, *CELLS), some(rng, torch.float64, torch.float64, torch.float32)
    width, hidden, batch, length = (int(rng.integers(1, limit)) for limit in limits)
    options = {"bias": bool(rng.integers(2)), "dtype": dtype}
    if kind.startswith("RNN"):
        options["nonlinearity"] = some(rng, "tanh", "relu")
    count = ()
    if kind in LAYERS:
        options["num_layers"] = int(rng.integers(1, 4))
        options["bidirectional"], options["batch_first"] = bool(rng.integers(2)), bool(rng.integers(2))
        options["dropout"] = some(rng, 0.0, 0.0, 0.3)
        count = (options["num_layers"] * (1 + options["bidirectional"]),)
    projected = int(rng.integers(1, hidden)) if kind == "LSTM" and hidden > 1 and rng.integers(3) == 0 else 0
    if projected:
        options["proj_size"] = projected
    mine, theirs = twins(kind, width, hidden, **options)
    if rng.integers(2):
        mine = copy.deepcopy(theirs)
        modules.accelerate(mine)
    for a, b in zip(mine.parameters(), theirs.parameters(), strict=True):
        b.requires_grad_(a.requires_grad_(bool(rng.integers(4))).requires_grad)
    training = bool(rng.integers(4))

    rows = some(rng, (), (batch,), (batch,))
    ragged = kind in LAYERS and rows and rng.integers(3) == 0
    if kind in CELLS:
        x = drawn(rng, *rows, width, dtype=dtype)
    elif ragged:
        lengths = rng.integers(1, length + 1, batch)
        by_length = bool(rng.integers(2))
        lengths = torch.from_numpy(np.sort(lengths)[::-1].copy() if by_length else lengths)
        x = drawn(rng, int(lengths.max()), batch, width, dtype=dtype)
        x = packed(x, lengths, enforce_sorted=by_length)
    else:
        x = drawn(rng, *((*rows, length) if options["batch_first"] else (length, *rows)), width, dtype=dtype)
    hx = drawn(rng, *count, *rows, projected or hidden, dtype=dtype)
    if kind.startswith("LSTM"):
        hx = (hx, drawn(rng, *count, *rows, hidden, dtype=dtype))
    args = some(rng, (x,), (x, hx), (x, hx))
    described = (
        f"{kind}({width}, {hidden}, {options}), {training=}, {rows=}, {ragged=}, state={len(args) > 1}"
    )
    return mine.train(training), theirs.train(training), args, described


def agree_at_random(seed, limits=(20, 40, 10, 9)):
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    mine, theirs, args, described = module_and_call(rng, limits)
    noise, chosen = int(rng.integers(1 << 30)), rng.integers(1, 8)
    found = []
    for module in (mine, theirs):
        torch.manual_seed(noise)
        results = []
        for _ in range(2):
            outputs = flat(module(*args))
            sources = [t for t in [*flat(args), *module.parameters()] if t is not None and t.requires_grad]
            made = [
                t
                for k, t in enumerate(outputs)
                if t is not None and t.requires_grad and chosen >> (k % 3) & 1
            ]
            weights = [
                strided(np.random.default_rng(noise), torch.randn(t.shape, dtype=t.dtype)) for t in made
            ]
            gradients = (
                torch.autograd.grad(made, sources, weights, allow_unused=True) if made and sources else ()
            )
            with torch.no_grad():
                results += [*outputs, *gradients, *flat(module(*args))]
                for parameter in module.parameters():  # as an optimizer does
                    parameter.mul_(0.9)
        found.append(results)
    assert not taken_over(mine), (described, taken_over(mine))
    # Where a weight has no part in the outputs chosen (a projection, in c_n after one step), we say 0.
    pairs = [(a, b) for a, b in zip(*found, strict=True) if b is not None or a is None or a.any()]
    try:
        agree([a for a, _ in pairs], [b for _, b in pairs])
    except AssertionError as error:
        raise AssertionError(f"{described}\n{error}") from error


@pytest.mark.parametrize("block", range(8))
def test_whatever_is_built_and_called_is_the_parents(block):
    for seed in range(20):
        agree_at_random(100 * block + seed)
