"""PyTorch's tests of graphs through recurrent modules and of their weights, for `fastrnn.torch`."""

import copy

import pytest
from twins import (
    CELLS,
    agree,
    cells,
    flat,
    fresh,
    kinds,
    layers,
    make,
    modules,
    outcome,
    packed,
    results,
    same_outcome,
    state,
    taken_over,
    torch,
    twins,
)

pytestmark = [
    pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN"),
    pytest.mark.usefixtures("one_torch_thread"),
]

# Graphs


@kinds
def test_a_retained_graph_gives_the_same_gradients_again(kind):
    mine, theirs = twins(kind, 10, 20, *([] if kind in CELLS else [2]))
    x = make(6, 10)
    outputs = flat(mine(x))[0]
    found = [torch.autograd.grad(outputs.sum(), [x, *mine.parameters()], retain_graph=True) for _ in range(3)]
    expected = results(theirs, x)
    assert len(expected)
    for again in found[1:]:
        agree(again, found[0], rtol=0, atol=0)
    agree(found[0], torch.autograd.grad(flat(theirs(x))[0].sum(), [x, *theirs.parameters()]))
    flat(mine(x))[0].sum().backward()
    outputs = flat(mine(x))[0].sum()
    outputs.backward()
    assert same_outcome(lambda: outputs.backward(), lambda: second_backward(theirs, x))[0] is RuntimeError


def second_backward(module, x):
    outputs = flat(module(x))[0].sum()
    outputs.backward()
    outputs.backward()


@layers
@pytest.mark.parametrize("batch_first", [False, True])
def test_gradients_that_are_differentiated_again(kind, batch_first):
    found, (mine, theirs) = [], twins(kind, 4, 5, 3, batch_first=batch_first, bidirectional=True)
    for module in (mine, theirs):
        torch.manual_seed(2)
        x, hx = make(3, 3, 4), state(kind, 6, 3, hidden=5)
        y = module(x, hx)[0]
        dx, *rest = torch.autograd.grad(y.square().sum(), [x, *module.parameters()], create_graph=True)
        penalty = dx.square().sum() + sum(each.sum() for each in rest)
        penalty.backward()
        found.append([dx, *rest, x.grad, *(h.grad for h in flat(hx)), *(p.grad for p in module.parameters())])
    agree(*found)
    assert not taken_over(mine)


@kinds
def test_what_backward_needs_may_not_be_overwritten(kind):
    mine, theirs = twins(kind, 3, 4)

    def overwritten(module, what):
        x = make(5, 3).mul(1)
        y = flat(module(x))[0]
        with torch.no_grad():
            {"input": x, "weight": next(module.parameters())}[what].mul_(2)
        y.sum().backward()

    for what in ("input", "weight"):
        for module in (mine, theirs):
            with pytest.raises(RuntimeError, match="modified by an inplace operation"):
                overwritten(module, what)


@layers
@pytest.mark.parametrize("form", ["batch", "sequence", "packed"])
def test_outputs_may_be_overwritten(kind, form):
    found, (mine, theirs) = [], twins(kind, 3, 4, 2, bidirectional=True, batch_first=True)
    x = {"batch": make(2, 5, 3), "sequence": make(5, 3), "packed": packed(make(2, 5, 3), [5, 2], True)}[form]
    for module in (mine, theirs):
        y, *_ = flat(module(x))
        torch.relu_(y)
        found.append([y, *torch.autograd.grad(y.square().sum(), [flat(x)[0], *module.parameters()])])
    agree(*found)


# Weights that are made, shared, cut and replaced


@layers
def test_tied_biases_train_as_one(kind):
    found = []
    for module in twins(kind, 10, 20, batch_first=True, bidirectional=True):
        module.bias_ih_l0_reverse = module.bias_ih_l0
        torch.manual_seed(0)
        optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
        x, hx = make(5, 4, 10), state(kind, 2, 5, hidden=20)
        for _ in range(2):
            optimizer.zero_grad()
            module(x, hx)[0].sum().backward()
            optimizer.step()
        found.append([*results(module, x, hx), *module.parameters()])
    agree(*found)


@kinds
def test_weights_may_move_in_memory_and_be_shared(kind):
    mine, theirs = twins(kind, 10, 20)
    x = make(4, 10)
    expected = results(mine, x)
    weight = next(mine.parameters())
    values = weight.detach().clone()
    with torch.no_grad():
        weight.set_(values)
    for _ in range(2):
        agree(results(mine, x), expected, rtol=0, atol=0)
    values[:] = 0.25  # the module's own: changed from outside
    assert torch.equal(values, weight)
    theirs.load_state_dict(mine.state_dict())
    agree(results(mine, x), results(theirs, x))
    for module in (mine, theirs):
        next(module.parameters()).data = values.mul(2)
    agree(results(mine, x), results(theirs, x))


@layers
def test_a_weight_may_be_away_for_a_while(kind):
    mine, _ = twins(kind, 10, 6, 2)
    x = make(3, 2, 10)
    expected = results(mine, x)
    weight = mine.weight_hh_l0
    del mine.weight_hh_l0
    assert not hasattr(mine, "weight_hh_l0")
    mine.to("cpu").double()
    with pytest.raises((AttributeError, TypeError, RuntimeError)):
        mine(x)
    mine.weight_hh_l0 = weight
    agree(flat(mine(x)), expected[: len(flat(mine(x)))])


@pytest.mark.parametrize(
    "kind, name, own",
    [
        ("LSTM", "weight_hh_l0", {}),
        ("LSTM", "weight_hr_l0", {"proj_size": 3}),
        ("GRU", "weight_ih_l0", {}),
        ("RNN", "weight_hh_l0", {}),
    ],
)
@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated")
def test_weight_norm_on_a_layer(kind, name, own):
    mine, theirs = twins(kind, 10, 6, **own)
    x = make(7, 6, 10)
    expected = mine(x)
    count = len(list(mine.parameters()))
    for module in (mine, theirs):
        torch.nn.utils.weight_norm(module, name=name)
        names = dict(module.named_parameters())
        assert len(names) == count + 1 and f"{name}_g" in names and f"{name}_v" in names and name not in names
    agree(mine(x), expected)
    with torch.no_grad():
        for module in (mine, theirs):
            getattr(module, f"{name}_g").mul_(2)
    agree(results(mine, x), results(theirs, x))
    assert not torch.allclose(flat(mine(x))[0], flat(expected)[0])
    for module in (mine, theirs):
        torch.nn.utils.remove_weight_norm(module, name=name)
    agree(results(mine, x), results(theirs, x))
    assert len(list(mine.parameters())) == count


@kinds
@pytest.mark.parametrize(
    "make_parametrized",
    [
        torch.nn.utils.parametrizations.weight_norm,
        torch.nn.utils.parametrizations.spectral_norm,
        torch.nn.utils.parametrizations.orthogonal,
    ],
)
def test_parametrized_weights(kind, make_parametrized):
    mine, theirs = twins(kind, 6, 6)
    name = next(name for name, _ in mine.named_parameters() if name.startswith("weight_hh"))
    x, found = make(3, 6), []
    for module in (mine, theirs):
        torch.manual_seed(0)
        make_parametrized(module, name)
        optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
        for _ in range(3):
            optimizer.zero_grad()
            y = flat(module(x))[0]
            y.sum().backward()
            optimizer.step()
        found.append([y, *module.parameters()])
    agree(*found)


@kinds
def test_pruned_weights(kind):
    prune = pytest.importorskip("torch.nn.utils.prune")
    mine, theirs = twins(kind, 6, 5)
    name = next(name for name, _ in mine.named_parameters())
    x = make(3, 6)
    for module in (mine, theirs):
        prune.l1_unstructured(module, name, amount=0.5)
        assert f"{name}_orig" in dict(module.named_parameters()) and f"{name}_mask" in dict(
            module.named_buffers()
        )
        assert len(list(module.parameters())) == 4
    agree(results(mine, x), results(theirs, x))
    assert int((getattr(mine, name) == 0).sum()) == getattr(mine, name).numel() // 2
    for module in (mine, theirs):
        prune.remove(module, name)
    agree(results(mine, x), results(theirs, x))


@cells
def test_construction_without_initial_values(kind):
    mine = torch.nn.utils.skip_init(getattr(modules, kind), 3, 4)
    assert {p.device.type for p in mine.parameters()} == {"cpu"}
    _, theirs = twins(kind, 3, 4, dtype=torch.float32)
    mine.load_state_dict(theirs.state_dict())
    x = make(5, 3, dtype=torch.float32)
    agree(results(mine, x), results(theirs, x))


@kinds
def test_frozen_parameters_and_hooks(kind):
    mine, theirs = twins(kind, 3, 4)
    seen = []
    for module in (mine, theirs):
        first, second, *_ = module.parameters()
        first.requires_grad_(False)
        second.register_hook(lambda g: g * 2)
        module.register_forward_hook(lambda module, args, output: seen.append(flat(output)[0].shape))
        module.register_forward_pre_hook(lambda module, args: (args[0] * 2,))
        module.register_full_backward_hook(lambda module, dx, dy: seen.append(dx[0].shape))
    x = make(5, 3)
    agree(results(mine, x), results(theirs, x))
    assert seen[: len(seen) // 2] == seen[len(seen) // 2 :] and seen


def test_copies_of_a_graph_are_refused_in_the_parents_words():
    mine, theirs = twins("LSTM", 3, 4)
    y = [module(make(5, 3))[0] for module in (mine, theirs)]
    assert outcome(lambda: copy.deepcopy(y[0])) == outcome(lambda: copy.deepcopy(y[1]))
    assert fresh(y[0]).is_leaf
