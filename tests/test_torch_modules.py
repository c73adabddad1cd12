"""fastrnn.torch's modules are PyTorch's but for speed: each call is compared with the parent class's."""

import copy
import io
import pickle
import warnings

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

from torch import nn  # noqa: E402
from torch.nn.utils import prune  # noqa: E402
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pack_sequence  # noqa: E402

import fastrnn.torch as ours  # noqa: E402
from fastrnn.backend import use_backend  # noqa: E402

LAYERS = {"LSTM": nn.LSTM, "GRU": nn.GRU, "RNN": nn.RNN}
CELLS = {"LSTMCell": nn.LSTMCell, "GRUCell": nn.GRUCell, "RNNCell": nn.RNNCell}
FORMS = {
    "plain": {},
    "stacked": {"num_layers": 2, "bidirectional": True},
    "batch_first": {"num_layers": 2, "batch_first": True},
    "float64": {"bidirectional": True, "batch_first": True, "dtype": torch.float64},
    "no bias": {"num_layers": 2, "bias": False},
}
PROJECTED = {"num_layers": 2, "bidirectional": True, "proj_size": 3}


def pair(name, *args, **options):
    """A module of PyTorch's and ours with the same parameters."""
    torch.manual_seed(0)
    theirs = getattr(nn, name)(*args, **options)
    torch.manual_seed(0)
    return theirs, getattr(ours, name)(*args, **options)


def batch(*shape, dtype=torch.float32, seed=1):
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def tensors(value):
    """All in a result, in their order."""
    if isinstance(value, PackedSequence):
        return [value.data]
    if isinstance(value, (tuple, list)):
        return [tensor for each in value for tensor in tensors(each)]
    return [value]


def kinds(value):
    return type(value), [kinds(each) for each in value] if type(value) in (tuple, list) else None


def assert_refused_alike(modules, calls):
    """Two modules raise the same exception, in the same words, for each of these arguments."""
    for arguments in calls:
        raised = []
        for module in modules:
            with pytest.raises((ValueError, RuntimeError, TypeError, AttributeError, IndexError)) as caught:
                module(*arguments)
            raised.append((caught.type, str(caught.value)))
        assert raised[0] == raised[1], arguments


def assert_same(module, twin, call, *, reason=None):
    """Both give the same to a call, or raise the same; ours for this reason by PyTorch."""
    outcomes = []
    for each in (module, twin):
        for parameter in each.parameters():
            parameter.grad = None
        torch.manual_seed(2)
        leaves = []
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # what PyTorch warns of, it warns of twice
                found = call(each, leaves)
        except Exception as error:
            outcomes.append(error)
            continue
        wanted = [tensor for tensor in tensors(found) if tensor.requires_grad]
        if wanted:
            generator = torch.Generator().manual_seed(3)
            torch.autograd.backward(
                wanted, [torch.randn(t.shape, dtype=t.dtype, generator=generator) for t in wanted]
            )
        outcomes.append((found, [leaf.grad for leaf in [*leaves, *each.parameters()]]))
    expected, got = outcomes
    if isinstance(expected, Exception):
        assert (type(got), str(got)) == (type(expected), str(expected))
        return None
    if isinstance(got, Exception):
        raise got
    assert kinds(got[0]) == kinds(expected[0])
    for theirs, own in zip(tensors(expected[0]), tensors(got[0]), strict=True):
        assert_close(own, theirs, check_stride=True)
        assert own.requires_grad == theirs.requires_grad
        assert own.is_inference() == theirs.is_inference()
    for theirs, own in zip(expected[1], got[1], strict=True):
        assert (own is None) == (theirs is None)
        if own is not None:
            assert_close(own, theirs)
    calls = {why: n for part in twin.modules() for why, n in getattr(part, "_kept", NONE).calls.items()}
    assert reason in calls, calls
    return got[0]


class NONE:
    calls = {}  # noqa: RUF012


def assert_close(own, theirs, **options):
    if own.dtype == torch.float32:
        options |= {"rtol": 1e-4, "atol": 2e-5}
    torch.testing.assert_close(own, theirs, **options)


def plain(x, hx=None):
    """A call with a leaf for each tensor."""

    def call(module, leaves):
        made = [leaf(each) for each in (x, *([] if hx is None else tensors(hx)))]
        leaves += made
        if hx is None:
            return module(made[0])
        return module(made[0], tuple(made[1:]) if isinstance(hx, tuple) else made[1])

    return call


def leaf(tensor):
    return tensor.clone().requires_grad_() if tensor.is_floating_point() else tensor


def state(module, batch_size=None, seed=4):
    """An initial state for B sequences; for one without an axis of its own."""
    places = module.num_layers * (2 if module.bidirectional else 1)
    dtype = next(module.parameters()).dtype
    B = () if batch_size is None else (batch_size,)
    h = batch(places, *B, module.proj_size or module.hidden_size, dtype=dtype, seed=seed)
    if module.mode != "LSTM":
        return h
    return h, batch(places, *B, module.hidden_size, dtype=dtype, seed=seed + 1)


@pytest.fixture(params=LAYERS)
def layer(request):
    return request.param


@pytest.fixture(params=CELLS)
def cell(request):
    return request.param


ALL_FORMS = [(name, form) for name in LAYERS for form in FORMS] + [("LSTM", "projected")]


@pytest.fixture(params=ALL_FORMS, ids=lambda each: "-".join(each))
def modules(request):
    """PyTorch's module and ours, in each form."""
    name, form = request.param
    return pair(name, 4, 5, **(FORMS | {"projected": PROJECTED})[form])


def of(module):
    return next(module.parameters()).dtype


# -- layers


def test_results_and_gradients_are_the_parents(modules):
    x = batch(3, 6, 4, dtype=of(modules[0]))
    hx = state(modules[0], 3 if modules[0].batch_first else 6)
    assert_same(*modules, plain(x))
    assert_same(*modules, plain(x, hx))
    assert_same(*modules, lambda module, _: module(x, hx))
    with torch.no_grad():
        assert_same(*modules, lambda module, _: module(x, hx))
    with torch.inference_mode():
        assert_same(*modules, lambda module, _: module(x))


def test_the_reference_computes_them_too(layer):
    with use_backend("reference"):
        modules = pair(layer, 4, 5, num_layers=2, bidirectional=True)
        packed = pack_sequence([batch(3, 4), batch(2, 4)])
        assert_same(*modules, plain(batch(3, 2, 4), state(modules[0], 2)))
        assert_same(*modules, lambda module, _: module(packed))


def test_unbatched_input_has_unbatched_results(modules):
    x = batch(7, 4, dtype=of(modules[0]))
    assert_same(*modules, plain(x))
    assert_same(*modules, plain(x, state(modules[0])))


def test_packed_sequences_go_in_and_come_out(modules):
    theirs = modules[0]
    rows = [batch(steps, 4, dtype=of(theirs), seed=steps) for steps in (2, 6, 3, 3)]
    for ordered in (False, True):
        parts = sorted(rows, key=len, reverse=True) if ordered else rows
        packed = pack_sequence(parts, enforce_sorted=ordered)
        for hx in (None, state(theirs, 4)):

            def call(module, leaves, packed=packed, hx=hx):
                data, *start = [leaf(each) for each in (packed.data, *([] if hx is None else tensors(hx)))]
                leaves += [data, *start]
                start = start if len(start) == 2 else start[0] if start else None
                return module(packed._replace(data=data), start)

            y, _ = assert_same(*modules, call)
            assert type(y) is PackedSequence
            for got, given in zip(y[1:], packed[1:], strict=True):
                assert got is given


def test_dropout_draws_the_parents_masks(layer):
    for options, lengths in (({}, [3] * 8), ({"batch_first": True, "bidirectional": True}, [8, 5, 1])):
        modules = pair(layer, 4, 5, num_layers=3, dropout=0.4, **options)
        x = batch(3, 8, 4)
        packed = pack_padded_sequence(x, lengths, options.get("batch_first", False))
        hx = state(modules[0], len(lengths))
        assert_same(*modules, plain(x))
        assert_same(*modules, plain(x, hx))
        assert_same(*modules, plain(batch(5, 4)))
        assert_same(*modules, lambda module, _, packed=packed, hx=hx: module(packed, hx))
        with torch.no_grad():
            assert_same(*modules, lambda module, _, x=x: module(x))
            left = [(torch.manual_seed(5), module(x), torch.rand(2))[2] for module in modules]
        assert left[0].equal(left[1])
        for module in modules:
            module.eval()
        assert_same(*modules, plain(x))


def test_all_is_dropped_where_the_probability_is_one():
    assert_same(*pair("GRU", 4, 5, num_layers=2, dropout=1.0), plain(batch(3, 2, 4)))


@pytest.mark.parametrize(
    "lay",
    [
        lambda x: x.transpose(0, 1).contiguous().transpose(0, 1),
        lambda x: torch.stack([x, x], dim=2).flatten(1, 2)[:, ::2],
        lambda x: torch.cat([x, x], dim=-1)[..., :4],
        lambda x: torch.stack([x, x], dim=-1)[..., 0],
        lambda x: x[:, :1].expand(x.shape),
        lambda x: x[:1].expand(x.shape),
        lambda x: x.flip(0)[:, 1:2],
        lambda x: x.permute(2, 0, 1).contiguous().permute(1, 2, 0),
        lambda x: nn.Parameter(x),
    ],
    ids="transposed sliced narrowed strided rows steps one_row permuted parameter".split(),
)
@pytest.mark.parametrize("layer", ["LSTM"])
def test_inputs_may_lie_as_they_like(layer, lay):
    for options in ({}, {"batch_first": True}):
        modules = pair(layer, 4, 5, num_layers=2, **options)
        x = lay(batch(3, 3, 4))
        assert_same(*modules, lambda module, _, x=x: module(x.requires_grad_() if x.is_leaf else x))
        rows = x.shape[0 if modules[0].batch_first else 1]
        h = [each[:, :1].expand(-1, rows, -1) for each in tensors(state(modules[0], 1))]
        assert_same(*modules, lambda module, _, x=x, h=h: module(x, tuple(h) if len(h) == 2 else h[0]))


def test_frozen_weights_have_no_gradients(layer):
    x = batch(3, 2, 4)
    modules = pair(layer, 4, 5, num_layers=2)
    for module in modules:
        module.weight_hh_l0.requires_grad_(False)
        module.bias_ih_l1.requires_grad_(False)
    assert_same(*modules, plain(x))
    for module in modules:
        module.requires_grad_(False)
    assert_same(*modules, plain(x))
    assert_same(*modules, lambda module, _: module(x))


def test_what_pytorch_refuses_is_refused_in_its_words(layer):
    modules = pair(layer, 4, 5, num_layers=2)
    x, h = batch(3, 2, 4), state(modules[0], 2)

    def told(shape, *more):
        made = [torch.zeros(shape, **each) for each in (more or [{}])]
        return (made[0], made[-1]) if layer == "LSTM" else made[0]

    calls = [
        (batch(4),),
        (batch(1, 3, 2, 4),),
        (batch(3, 2, 5),),
        (batch(0, 2, 4),),
        (batch(3, 2, 4).double(),),
        (torch.zeros(3, 2, dtype=torch.int64),),
        (torch.zeros(3, 2, 4, dtype=torch.int64),),
        (x, told((2, 3, 5))),
        (x, told((1, 2, 5))),
        (x, told((2, 2, 4))),
        (x, told((2, 5))),
        (x, told((2, 2, 5), {"dtype": torch.float64})),
        (x[:, 0], told((2, 2, 5))),
        (x, (h, h)),
        (x, 0),
        ([1, 2],),
        (x.numpy(),),
        (pack_sequence([batch(3, 4), batch(2, 4)]), told((2, 1, 5))),
        (pack_sequence([batch(2, 4), batch(3, 4)], enforce_sorted=False), told((2, 1, 5))),
        (PackedSequence(batch(4, 4), torch.tensor([1, 3])),),
        (PackedSequence(batch(4, 4), torch.tensor([2, 3])),),
        (PackedSequence(torch.zeros(4, dtype=torch.int64), torch.tensor([2, 2])),),
    ]
    if layer == "LSTM":
        calls += [(x, (h[0],)), (x, (*h, h[0])), (x, h[0]), (x, (h[0], None)), (x, (h[0], h[1][..., :4]))]
    assert_refused_alike(modules, calls)


def test_an_empty_batch_has_empty_results(layer):
    modules = pair(layer, 4, 5)
    assert_same(*modules, lambda module, _: module(torch.zeros(3, 0, 4)), reason="empty input")


# -- what goes to PyTorch


def test_other_dtypes_go_to_pytorch(layer):
    x = batch(3, 2, 4)
    for dtype in (torch.float16, torch.bfloat16):
        modules = pair(layer, 4, 5, dtype=dtype)
        why = f"{str(dtype)[6:]} weights"
        assert_same(*modules, lambda module, _, dtype=dtype: module(x.to(dtype)), reason=why)
    modules = pair(layer, 4, 5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert_same(*modules, lambda module, _: module(x), reason="autocast")
    with torch.no_grad(), torch.device("meta"):
        found = [each.__class__(4, 5, batch_first=True)(torch.empty(3, 2, 4))[0] for each in modules]
    assert found[0].shape == found[1].shape and found[1].is_meta


def test_transforms_go_to_pytorch(layer):
    theirs, own = pair(layer, 4, 5)
    x, tangent = batch(3, 2, 4), batch(3, 2, 4, seed=9)

    def loss(parameters, x, module):
        return torch.func.functional_call(module, parameters, (x,))[0].square().sum()

    def forward_mode(module, _):
        with torch.autograd.forward_ad.dual_level():
            dual = torch.autograd.forward_ad.make_dual(x, tangent)
            return torch.autograd.forward_ad.unpack_dual(module(dual)[0]).tangent

    calls = {
        "torch.func": [
            lambda module, _: tuple(
                torch.func.grad(loss)(dict(module.named_parameters()), x, module).values()
            ),
            lambda module, _: torch.vmap(lambda x: module(x)[0], randomness="same")(torch.stack([x, 2 * x])),
            lambda module, _: torch.func.jvp(lambda x: module(x)[0], (x,), (tangent,)),
        ],
        "forward-mode differentiation": [forward_mode],
    }
    for reason, each in calls.items():
        for call in each:
            assert_same(theirs, own, call, reason=reason)


def test_gradients_of_gradients(layer):
    def twice(module, leaves):
        x = leaf(batch(3, 2, 4, dtype=torch.float64))
        leaves.append(x)
        (dx,) = torch.autograd.grad(module(x)[0].square().sum(), x, create_graph=True)
        return dx.square().sum()

    assert_same(*pair(layer, 4, 5, dtype=torch.float64), twice)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
def test_tracing_and_scripting_take_the_parents_code(layer):
    theirs, own = pair(layer, 4, 5, num_layers=2)
    x = batch(3, 2, 4)
    expected = theirs(x)[0]
    traced = torch.jit.trace(own, (x,))
    assert_close(traced(x)[0], expected)
    assert own._kept.calls["torch.jit tracing"]

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = own

        def forward(self, x):
            return self.layer(x)[0]

    model = Model()
    scripted = torch.jit.script(model)
    assert_close(scripted(x), expected)
    assert scripted.layer.weight_hh_l0.data_ptr() == own.weight_hh_l0.data_ptr()


def test_tensors_of_other_kinds_go_to_pytorch(layer):
    class Marked(torch.Tensor):
        pass

    modules = pair(layer, 4, 5)
    x = batch(3, 2, 4)
    assert_same(*modules, lambda module, _: module(x.as_subclass(Marked)), reason="Marked as input")
    conjugated = torch.view_as_complex(torch.stack([x, x], dim=-1)).conj()
    assert conjugated.imag.is_neg()
    assert_same(*modules, lambda module, _: module(conjugated.imag), reason="arguments of another kind")
    assert_same(*modules, lambda module, _: module(x.to_sparse()))


# -- weights that change


@pytest.mark.parametrize("layer", ["GRU"])
def test_weights_written_to_between_calls_are_seen(layer):
    modules = pair(layer, 4, 5, num_layers=2)
    x = batch(3, 6, 4)
    other = getattr(nn, layer)(4, 5, num_layers=2)

    def assign(module):
        module.weight_hh_l0 = nn.Parameter(module.weight_hh_l0.detach() * 0.5)

    def transpose(module):
        module.weight_hh_l1.data = torch.cat([w.t() for w in module.weight_hh_l1.data.split(5)]).contiguous()

    writes = [
        lambda module: [
            p.data.copy_(q) for p, q in zip(module.parameters(), other.parameters(), strict=True)
        ],
        lambda module: [p.data.mul_(0.9) for p in module.parameters()],
        lambda module: module.load_state_dict(copy.deepcopy(other.state_dict())),
        lambda module: module.load_state_dict(copy.deepcopy(other.state_dict()), assign=True),
        assign,
        transpose,
        lambda module: nn.utils.vector_to_parameters(
            nn.utils.parameters_to_vector(module.parameters()) * 1.5, module.parameters()
        ),
        lambda module: module.share_memory(),
        lambda module: module.flatten_parameters(),
        lambda module: module.double(),
        lambda module: module.float(),
        lambda module: module.to(memory_format=torch.contiguous_format),
        lambda module: torch.optim.Adam(module.parameters(), lr=0.1).step(),
        lambda module: module.reset_parameters(),
    ]
    for write in writes:
        for module in modules:
            torch.manual_seed(6)
            write(module)
        dtype = of(modules[0])
        with torch.no_grad():
            assert_same(*modules, lambda module, _, dtype=dtype: module(x.to(dtype)))
        assert_same(*modules, plain(x.to(dtype)))
    assert set(modules[1]._kept.calls) == {None}


@pytest.mark.parametrize("layer", ["LSTM"])
def test_parametrized_and_pruned_weights(layer):
    old, new = nn.utils.weight_norm, nn.utils.parametrizations.weight_norm
    x = batch(3, 2, 4)
    for change in (
        lambda module: new(module, "weight_hh_l0"),
        lambda module: nn.utils.parametrizations.spectral_norm(module, "weight_ih_l0"),
        lambda module: nn.utils.spectral_norm(module, "weight_hh_l0"),
        lambda module: prune.l1_unstructured(module, "weight_hh_l0", amount=0.3),
        lambda module: old(module, "weight_hh_l0"),
    ):
        modules = pair(layer, 4, 5)
        for module in modules:
            torch.manual_seed(7)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)
                change(module)
        for _ in range(2):
            assert_same(*modules, plain(x))
        assert set(modules[1]._kept.calls) == {None}
        assert list(modules[0].state_dict()) == list(modules[1].state_dict())


def test_functional_calls_use_the_weights_they_are_given(layer):
    modules = pair(layer, 4, 5)
    x = batch(3, 2, 4)
    given = {name: leaf(2 * value.detach()) for name, value in modules[0].named_parameters()}
    for _ in range(2):
        assert_same(*modules, lambda module, _: torch.func.functional_call(module, given, (x,)))
        assert_same(*modules, plain(x))


# -- what else PyTorch does with modules


def test_a_module_is_its_parent(layer):
    torch.manual_seed(0)
    theirs = getattr(nn, layer)(4, 5, 2, bidirectional=True, batch_first=True)
    rest = torch.rand(1)
    torch.manual_seed(0)
    own = getattr(ours, layer)(4, 5, 2, bidirectional=True, batch_first=True)
    assert torch.rand(1) == rest
    own(batch(3, 2, 4))
    assert isinstance(own, type(theirs)) and repr(own) == repr(theirs)
    assert list(own.state_dict()) == list(theirs.state_dict())
    assert all(map(torch.equal, own.state_dict().values(), theirs.state_dict().values()))
    assert [name for name, _ in own.named_buffers()] == [] and set(own.state_dict()) == set(
        theirs.state_dict()
    )
    theirs.load_state_dict(own.state_dict())
    with pytest.raises(ValueError, match="greater than zero"):
        getattr(ours, layer)(4, 0)


def test_copies_and_files_are_modules_of_their_own(layer):
    own = getattr(ours, layer)(4, 5)
    x = batch(3, 2, 4)
    expected = own(x)[0]
    file = io.BytesIO()
    torch.save(own, file)
    file.seek(0)
    copies = [copy.deepcopy(own), pickle.loads(pickle.dumps(own)), torch.load(file, weights_only=False)]
    copies.append(torch.optim.swa_utils.AveragedModel(own).module)
    for each in copies:
        assert type(each) is type(own) and each._kept is not own._kept and not each._kept.calls
        with torch.no_grad():
            each.weight_hh_l0.zero_()
        assert not each(x)[0].equal(expected)
    assert own(x)[0].equal(expected)


def test_a_class_assigned_makes_a_module_ours(layer):
    theirs = getattr(nn, layer)(4, 5)
    x = batch(3, 2, 4)
    expected = theirs(x)[0]
    theirs.__class__ = getattr(ours, layer)
    assert_close(theirs(x)[0], expected)
    theirs.__class__ = getattr(nn, layer)
    assert theirs(x)[0].equal(expected)


def test_torch_fx_takes_modules_whole(layer):
    own = nn.Sequential(getattr(ours, layer)(4, 5))
    graph = torch.fx.symbolic_trace(own)
    assert [node.op for node in graph.graph.nodes] == ["placeholder", "call_module", "output"]
    assert graph(batch(3, 2, 4))[0].equal(own(batch(3, 2, 4))[0])


def test_torch_fx_refuses_a_forward_around_a_layer_and_a_layer_alone_as_it_does_pytorchs(layer):
    for modules in (nn, ours):
        parent = getattr(modules, layer)

        class Twice(parent):
            def forward(self, x):
                return super().forward(2 * x)

        for module in (nn.Sequential(Twice(4, 5)), parent(4, 5)):
            with pytest.raises(torch.fx.proxy.TraceError):
                torch.fx.symbolic_trace(module)


def test_hooks_and_containers(layer):
    seen = []
    own = getattr(ours, layer)(4, 5)
    own.register_forward_pre_hook(lambda module, inputs: seen.append("before"))
    own.register_forward_hook(lambda module, inputs, output: seen.append("after"))
    own.register_full_backward_hook(lambda module, dx, dy: seen.append("backward"))
    x = batch(3, 2, 4).requires_grad_()
    nn.DataParallel(own)(x)[0].sum().backward()
    assert seen == ["before", "after", "backward"]


def test_why_not_says_what_keeps_a_module_with_pytorch():
    from fastrnn.torch.modules import why_not

    class Other(nn.LSTM):
        pass

    parametrized = nn.utils.parametrizations.weight_norm(nn.GRU(4, 5), "weight_hh_l0")
    own = nn.LSTM(4, 5)
    own.forward = lambda x: x
    assert why_not(nn.LSTM(4, 5)) is why_not(ours.GRU(4, 5)) is why_not(ours.RNNCell(4, 5)) is None
    assert why_not(nn.utils.parametrizations.weight_norm(ours.GRU(4, 5), "weight_hh_l0")) is None
    assert why_not(Other(4, 5)) is None
    assert why_not(parametrized) == "parametrized before it was accelerated"
    assert why_not(own) == "a forward of its own"
    assert why_not(nn.LSTM(4, 5).half()) == "float16 weights"
    assert why_not(nn.LSTM(4, 5, device="meta")) == "weights on meta"
    assert why_not(nn.Linear(4, 5)) == "no recurrent module of PyTorch's: Linear"


# -- cells


@pytest.mark.parametrize("options", [{}, {"bias": False}, {"dtype": torch.float64}, {"nonlinearity": "relu"}])
def test_cells_are_the_parents(backend, cell, options):
    if "nonlinearity" in options and cell != "RNNCell":
        pytest.skip("an option of the RNNCell")
    modules = pair(cell, 4, 5, **options)
    dtype = of(modules[0])
    for shape in ((3, 4), (1, 4), (4,)):
        x = batch(*shape, dtype=dtype)
        h, c = [batch(*shape[:-1], 5, dtype=dtype, seed=seed) for seed in (2, 3)]
        hx = (h, c) if cell == "LSTMCell" else h
        why = "gradients of one step" if cell == "RNNCell" else None
        assert_same(*modules, plain(x), reason=why)
        assert_same(*modules, plain(x, hx), reason=why)
        with torch.no_grad():
            assert_same(*modules, lambda module, _, x=x: module(x))
            assert_same(*modules, lambda module, _, x=x, hx=hx: module(x, hx))
            strided = batch(*shape[:-1], 10, dtype=dtype)[..., ::2]
            hx = (strided, c) if cell == "LSTMCell" else strided
            assert_same(*modules, lambda module, _, x=x, hx=hx: module(x, hx))


@pytest.mark.parametrize("learning", [False, True])
def test_what_pytorch_refuses_of_a_cell_is_refused_in_its_words(cell, learning):
    modules = [module.requires_grad_(learning) for module in pair(cell, 4, 5)]
    x = batch(3, 4)

    def told(*shape, dtype=torch.float32):
        h = torch.zeros(shape, dtype=dtype)
        return (h, h) if cell == "LSTMCell" else h

    calls = [
        (batch(2, 3, 4),),
        (batch(3, 5),),
        (x.double(),),
        (x.long(),),
        (x, told(2, 5)),
        (x, told(3, 4)),
        (x, told(5)),
        (x[0], told(3, 5)),
        (x, told(1, 3, 5)),
        (x, told(3, 5, dtype=torch.float64)),
        ([1],),
        (x, 1),
    ]
    if cell == "LSTMCell":
        calls += [(x, told(3, 5)[:1]), (x, (*told(3, 5), x)), (x, told(3, 5)[0]), (x, (told(3, 5)[0], None))]
    if cell == "RNNCell":
        for module in modules:
            module.nonlinearity = "sigmoid"
        calls += [(x,)]
    assert_refused_alike(modules, calls)


def test_cells_see_weights_written_to_and_go_to_pytorch_too(cell):
    modules = pair(cell, 4, 5)
    x = batch(3, 4)
    for write in (
        lambda module: [p.data.mul_(0.5) for p in module.parameters()],
        lambda module: setattr(module, "weight_hh", nn.Parameter(module.weight_hh.detach() * 2)),
        lambda module: nn.utils.parametrizations.weight_norm(module, "weight_ih"),
        lambda module: prune.l1_unstructured(module, "weight_hh", amount=0.3),
    ):
        for module in modules:
            write(module)
        with torch.no_grad():
            assert_same(*modules, lambda module, _: module(x))
        assert_same(*modules, plain(x), reason="gradients of one step" if cell == "RNNCell" else None)
    with torch.no_grad():
        assert_same(*modules, lambda module, _: module(torch.zeros(0, 4)), reason="empty input")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert_same(*modules, lambda module, _: module(x), reason="autocast")
    assert_same(*modules, lambda module, _: torch.vmap(module)(x), reason="torch.func")


def test_a_step_takes_a_sign_that_waits_into_the_numbers(cell):
    modules, x, h = pair(cell, 4, 5), batch(3, 4), batch(3, 5)

    def step(x, h):
        return lambda module, _: module(x, (h, h) if cell == "LSTMCell" else h)

    with torch.no_grad():
        for call in step(torch._neg_view(x), h), step(x, torch._neg_view(h)):
            assert_same(*modules, call, reason="arguments of another kind")


def test_cells_go_with_autograd_as_pytorchs(backend, cell):
    def through_time(module, leaves):
        """Some steps, whose states are used twice and changed in place."""
        hx, total = None, 0
        leaves += [leaf(x) for x in batch(4, 3, 4, dtype=torch.float64)]
        for x in leaves:
            hx = module(x, hx)
            h = hx[0] if cell == "LSTMCell" else hx
            total = total + h.clone().relu_().sum() * h.sum()
        return total, h

    def twice(module, leaves):
        leaves.append(leaf(batch(3, 4, dtype=torch.float64)))
        (dx,) = torch.autograd.grad(
            module(leaves[0])[0].square().sum(), leaves, create_graph=True, retain_graph=True
        )
        return dx.square().sum()

    def retained(module, leaves):
        leaves.append(leaf(batch(3, 4, dtype=torch.float64)))
        loss = module(leaves[0])[0].square().sum()
        return [torch.autograd.grad(loss, leaves, retain_graph=True)[0] for _ in range(2)]

    reason = "gradients of one step" if cell == "RNNCell" else None
    for call in (through_time, twice, retained):
        assert_same(*pair(cell, 4, 5, dtype=torch.float64), call, reason=reason)


# -- compilers


@pytest.mark.parametrize("name", ["GRU", "LSTMCell"])
def test_compilers_take_them_whole(name):
    theirs, own = pair(name, 4, 5)
    compiled = torch.compile(own, fullgraph=True, backend="aot_eager")
    for rows in (3, 4):
        x = batch(rows, 2, 4) if name == "GRU" else batch(rows, 4)
        expected, got = theirs(x)[0], compiled(x)[0]
        assert_close(got, expected, check_stride=True)
        gradients = [
            torch.autograd.grad(y.sum(), list(m.parameters())) for y, m in ((expected, theirs), (got, own))
        ]
        for one, other in zip(*gradients, strict=True):
            assert_close(one, other)
