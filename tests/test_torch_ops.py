"""The recurrence as PyTorch sees it: operators under PyTorch's checks, both roads against its modules."""

import copy
import gc
import importlib
import itertools
import pickle
import resource
import sys
import threading
import weakref

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch._dynamo.testing import CompileCounterWithBackend  # noqa: E402
from torch.utils.checkpoint import checkpoint  # noqa: E402

import fastrnn.torch  # noqa: E402
from fastrnn.torch.ops import Form, Kept, recurrence  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")

CLASSES = {"lstm": "LSTM", "gru": "GRU", "rnn_tanh": "RNN", "rnn_relu": "RNN"}
T, B, I, H, P = 4, 3, 3, 5, 2
SIZES = [3, 3, 2, 1]


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Case:
    """Arguments of a recurrence, and PyTorch's module of the same weights."""

    def __init__(
        self,
        cell="lstm",
        dtype=torch.float64,
        *,
        states=True,
        biases=True,
        layers=1,
        bidirectional=False,
        batch_first=False,
        packed=False,
        projected=False,
        gradients=True,
        steps=T,
    ):
        torch.manual_seed(0)
        options = {"nonlinearity": cell[4:]} if cell.startswith("rnn") else {}
        options |= {"proj_size": P} if projected else {}
        options |= {
            "bias": biases,
            "bidirectional": bidirectional,
            "batch_first": batch_first,
            "dtype": dtype,
        }
        kind = getattr(torch.nn, CLASSES[cell])
        self.module = kind(I, H, layers, **options).requires_grad_(gradients)

        def normal(*shape):
            return torch.randn(*shape, dtype=dtype, requires_grad=gradients)

        places, width = layers * (2 if bidirectional else 1), P if projected else H
        self.form = Form(cell, biases, layers, bidirectional, batch_first)
        self.batch_sizes = torch.tensor(SIZES) if packed else None
        self.x = normal(sum(SIZES), I) if packed else normal(*((B, steps) if batch_first else (steps, B)), I)
        self.h0 = normal(places, B, width) if states else None
        self.c0 = normal(places, B, H) if states and cell == "lstm" else None
        self.weights = self.module._flat_weights

    @property
    def arguments(self):
        return self.x, self.h0, self.c0, self.weights, self.batch_sizes

    @property
    def inputs(self):
        return [each for each in (self.x, self.h0, self.c0, *self.weights) if each is not None]

    def of(self, *inputs):
        """The outputs, by the kernels, of other values in the places of `inputs`."""
        given = iter(inputs)
        x, h0, c0 = (None if each is None else next(given) for each in (self.x, self.h0, self.c0))
        found = recurrence(x, h0, c0, list(given), self.batch_sizes, **self.form._asdict())
        return tuple(y for y in found if y is not None)

    def ours(self):
        return self.of(*self.inputs)

    def theirs(self):
        """The same by PyTorch's module."""
        state = self.h0 if self.c0 is None else (self.h0, self.c0)
        packed = self.batch_sizes is not None
        x = torch.nn.utils.rnn.PackedSequence(self.x, self.batch_sizes) if packed else self.x
        y, state_n = self.module(x, state)
        return (y.data if packed else y, *(state_n if isinstance(state_n, tuple) else (state_n,)))


class Network(torch.nn.Module):
    """A model with a recurrence in its middle, called as `fastrnn.torch`'s modules call it."""

    def __init__(self, cell="lstm", **options):
        super().__init__()
        case = Case(cell, torch.float32, layers=2, bidirectional=True, **options)
        self.weights = torch.nn.ParameterList(case.weights)
        self.head = torch.nn.Linear(2 * H, 2)
        self.form = case.form._asdict()
        self.same = [case.module]  # of the same weights, out of sight

    def forward(self, x):
        y, h_n, _ = recurrence(x.tanh(), None, None, [*self.weights], None, **self.form)
        return self.head(y), h_n

    def theirs(self, x):
        y, state_n = self.same[0](x.tanh())
        return self.head(y), state_n[0] if isinstance(state_n, tuple) else state_n


def loss(outputs):
    """A number that depends on every output in its own way."""
    return sum((y * torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view_as(y)).sum() for y in outputs)


def settings(*cells, **options):
    """All combinations, but for projections of cells that have none."""
    names, found = ["cell", *options], []
    for values in itertools.product(cells or CLASSES, *options.values()):
        setting = dict(zip(names, values, strict=True))
        if setting["cell"] == "lstm" or not setting.get("projected"):
            found.append(setting)
    return found


def close(ours, theirs):
    torch.testing.assert_close(tuple(ours), tuple(theirs))


# -- what it needs


def test_without_pytorch_or_with_an_old_one_the_error_names_the_extra(monkeypatch):
    monkeypatch.setattr(torch, "__version__", "2.3.1+cpu")
    words = r"fastrnn.torch needs PyTorch 2.4 or later, got 2.3.1\+cpu: pip install 'fastrnn\[torch\]'"
    with pytest.raises(ImportError, match=words):
        importlib.reload(fastrnn.torch)
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ImportError, match=r"fastrnn.torch needs torch: .* the extra fastrnn\[torch\]"):
        importlib.reload(fastrnn.torch)
    monkeypatch.undo()
    importlib.reload(fastrnn.torch)


# -- results


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("projected", [False, True])
@pytest.mark.parametrize("packed", [False, True])
def test_results_and_gradients_are_pytorchs(packed, projected, dtype, backend):
    flags = (False, True)
    for setting in settings(states=flags, biases=flags, bidirectional=flags, batch_first=flags):
        if projected and setting["cell"] != "lstm":
            continue
        case = Case(dtype=dtype, layers=2, packed=packed, projected=projected, **setting)
        theirs = case.theirs()
        ours = case.ours()
        close(ours, theirs)
        close(torch.autograd.grad(loss(ours), case.inputs), torch.autograd.grad(loss(theirs), case.inputs))
        with torch.no_grad():
            inferred = case.ours()
        assert not any(y.requires_grad for y in inferred)
        close(inferred, theirs)


@pytest.mark.parametrize("setting", settings(packed=[False, True]), ids=str)
def test_gradients_and_theirs_in_turn_are_those_of_finite_differences(setting):
    case = Case(projected=setting["cell"] == "lstm", bidirectional=True, **setting)
    assert torch.autograd.gradcheck(case.of, case.inputs, fast_mode=True, check_batched_grad=True)
    assert torch.autograd.gradgradcheck(case.of, case.inputs, fast_mode=True)


def test_gradients_of_gradients_in_float32_are_those_of_float64():
    def second(dtype):
        case = Case(dtype=dtype)
        for tensor, its in zip(case.inputs, Case().inputs, strict=True):
            tensor.data.copy_(its)
        (dx,) = torch.autograd.grad(loss(case.ours()), case.x, create_graph=True)
        return torch.autograd.grad(dx.square().sum(), case.inputs)

    for gradient, precise in zip(second(torch.float32), second(torch.float64), strict=True):
        torch.testing.assert_close(gradient.double(), precise, atol=1e-5, rtol=1e-4)


def test_a_tensor_that_is_given_twice_gets_both_gradients():
    case = Case()
    case.c0 = case.h0

    def of(x, h, *weights):
        return case.of(x, h, h, *weights)

    inputs = (case.x, case.h0, *case.weights)
    assert torch.autograd.gradcheck(of, inputs, fast_mode=True)
    assert torch.autograd.gradgradcheck(of, inputs, fast_mode=True)


@pytest.mark.parametrize("batch_first", [False, True])
def test_tensors_may_lie_in_any_order(batch_first):
    case = Case(batch_first=batch_first, layers=2)
    expected = case.ours()
    case.x = case.x.detach().permute(2, 0, 1).contiguous().permute(1, 2, 0)  # features apart
    case.h0 = case.h0.detach().transpose(0, 1).contiguous().transpose(0, 1)
    close(case.ours(), expected)
    wide = torch.zeros(*case.x.shape[:2], 2 * I, dtype=case.x.dtype)
    wide[..., :I] = case.x
    case.x = wide[..., :I]
    y, *_ = ours = case.ours()
    close(ours, expected)
    case.x, case.h0, case.c0 = (
        torch.ones(1, 1, I).double().expand(case.x.shape),
        *[torch.ones(1, 1, 1).double().expand(2, B, H)] * 2,
    )
    close(case.ours(), case.theirs())
    y.sum().backward()  # whose gradient is one number, expanded
    reverse = case.ours()[0].flip(0).transpose(0, 1)
    close(
        torch.autograd.grad(loss([reverse]), case.weights),
        torch.autograd.grad(loss([case.theirs()[0].flip(0).transpose(0, 1)]), case.weights),
    )


def test_outputs_and_gradients_are_pytorchs_own_to_write_to_and_leave_inputs_resizable():
    case = Case(dtype=torch.float32)
    outputs = case.ours()
    dy = torch.ones_like(outputs[0])
    outputs[0].backward(dy)
    for tensor in (*(y.detach() for y in outputs), *(each.grad for each in case.inputs)):
        assert tensor.is_contiguous()
        tensor.add_(1)
    for tensor in (case.x.detach(), dy):
        tensor.resize_(1000)  # PyTorch forbids it for what NumPy once saw


# -- autograd


def test_only_what_is_wanted_gets_a_gradient():
    case = Case("gru", layers=2)
    full = torch.autograd.grad(loss(case.ours()), case.inputs)
    for k, wanted in enumerate(case.inputs):
        for each in case.inputs:
            each.requires_grad_(each is wanted)
        loss(case.ours()).backward()
        assert [each.grad is not None for each in case.inputs] == [each is wanted for each in case.inputs]
        torch.testing.assert_close(wanted.grad, full[k])
        wanted.grad = None
    for each in case.inputs:
        each.requires_grad_(False)
    assert not any(y.requires_grad for y in case.ours())


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_a_loss_of_some_outputs_alone(cell):
    case = Case(cell, layers=2, bidirectional=True)
    for k in range(len(case.ours())):
        ours, theirs = (torch.autograd.grad(loss([of()[k]]), case.inputs) for of in (case.ours, case.theirs))
        close(ours, theirs)


def test_an_upstream_gradient_of_none_stays_none():
    class Nothing(torch.autograd.Function):
        @staticmethod
        def forward(ctx, y):
            return y.clone()

        @staticmethod
        def backward(ctx, dy):
            return None

    case = Case()
    Nothing.apply(case.ours()[0]).sum().backward()
    assert [each.grad for each in case.inputs] == [None] * len(case.inputs)


@pytest.mark.parametrize("packed", [False, True])
def test_a_graph_that_is_retained_goes_back_again_with_the_same_bits(packed, backend):
    case = Case(layers=2, packed=packed)
    outputs = case.ours()
    first, second = (torch.autograd.grad(loss(outputs), case.inputs, retain_graph=True) for _ in range(2))
    last = torch.autograd.grad(loss(outputs), case.inputs)
    for gradients in (second, last):
        assert all(map(torch.equal, gradients, first))
    with pytest.raises(RuntimeError, match="a second time"):
        torch.autograd.grad(loss(outputs), case.inputs)


@pytest.mark.parametrize("name", ["x", "h0", "weight", "batch_sizes"])
def test_what_is_changed_before_the_way_back_is_pytorchs_error(name):
    case = Case(packed=True)
    outputs = case.ours()
    with torch.no_grad():
        (case.weights[1] if name == "weight" else getattr(case, name)).zero_()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss(outputs[1:]).backward()


@pytest.mark.parametrize("cell", CLASSES)
def test_outputs_may_be_changed_in_place(cell):
    case = Case(cell, layers=2, packed=True)
    found = []
    for y, *state_n in (case.ours(), case.theirs()):
        y.relu_()
        found.append(torch.autograd.grad(loss((y, *state_n)), case.inputs))
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b)


def test_weights_given_other_memory_before_the_way_back_are_no_crash():
    case = Case()
    outputs = case.ours()
    expected = torch.autograd.grad(loss(outputs), case.inputs, retain_graph=True)
    weight = case.weights[0]
    weight.data = weight.data.clone()
    close(torch.autograd.grad(loss(outputs), case.inputs, retain_graph=True), expected)
    weight.data = torch.zeros(2, 2, dtype=weight.dtype)
    with pytest.raises(RuntimeError):
        torch.autograd.grad(loss(outputs), case.inputs)


@pytest.mark.parametrize("reentrant", [False, True])
def test_activations_may_be_computed_again(reentrant):
    case = Case(dtype=torch.float32, layers=2)
    expected = torch.autograd.grad(loss(case.ours()), case.inputs)
    loss(checkpoint(case.of, *case.inputs, use_reentrant=reentrant)).backward()
    assert all(torch.equal(each.grad, its) for each, its in zip(case.inputs, expected, strict=True))


def test_what_is_saved_goes_through_hooks_and_may_come_back_from_elsewhere():
    case = Case(layers=2, packed=True)
    expected = torch.autograd.grad(loss(case.ours()), case.inputs)
    packed = []

    def pack(tensor):
        packed.append(tensor.shape)
        return tensor.clone().numpy()

    for hooks in (
        torch.autograd.graph.save_on_cpu(),
        torch.autograd.graph.saved_tensors_hooks(pack, torch.from_numpy),
        torch.autograd.graph.saved_tensors_hooks(lambda t: t.to_sparse(), lambda t: t.to_dense()),
    ):
        with hooks:
            outputs = case.ours()
        for retain in (True, False):
            close(torch.autograd.grad(loss(outputs), case.inputs, retain_graph=retain), expected)
    assert case.x.shape in packed


def test_hooks_on_outputs_see_and_change_their_gradients():
    case = Case(dtype=torch.float32)
    y, h_n, _ = case.ours()
    seen = []
    y.register_hook(lambda dy: seen.append(dy.clone()) or 2 * dy)
    h_n.retain_grad()
    (y.sum() + h_n.sum()).backward()
    assert torch.equal(seen[0], torch.ones_like(y)) and torch.equal(h_n.grad, torch.ones_like(h_n))
    expected, *_ = torch.autograd.grad([2 * case.theirs()[0].sum() + case.theirs()[1].sum()], case.inputs)
    torch.testing.assert_close(case.x.grad, expected)


def test_a_gradient_becomes_grad_without_a_copy_and_adds_up():
    case = Case()
    addresses = []
    for each in case.weights:
        each.register_hook(lambda gradient: addresses.append(gradient.data_ptr()))
    loss(case.ours()).backward()
    assert {each.grad.data_ptr() for each in case.weights} == set(addresses)
    once = [each.grad.clone() for each in case.weights]
    loss(case.ours()).backward()
    close([each.grad for each in case.weights], [2 * gradient for gradient in once])


def test_inference_mode_gives_inference_tensors():
    case = Case("gru")
    expected = case.theirs()
    with torch.inference_mode():
        outputs = case.ours()
    assert all(y.is_inference() for y in outputs)
    close(outputs, expected)


def test_nothing_is_left_of_a_call():
    kept = Kept()
    case = Case(dtype=torch.float32, layers=2)

    def call():
        y, *_ = recurrence(*case.arguments, **case.form._asdict(), kept=kept)
        return y

    gc.collect()
    gc.disable()
    try:
        for used in (True, False):
            y = call()
            watched = [weakref.ref(y), weakref.ref(y.grad_fn)]
            if used:
                y.sum().backward(inputs=case.inputs)
            del y
            assert [each() for each in watched] == [None, None], used
        storage = weakref.ref(case.weights[0].untyped_storage())
        case.weights[0].data = case.weights[0].data.clone()
        assert storage() is None  # whose address `kept` has
    finally:
        gc.enable()


def test_calls_take_no_memory_for_good():
    case = Case(dtype=torch.float32, steps=500)

    def calls(count):
        for _ in range(count):
            with torch.autograd.graph.save_on_cpu():
                loss(case.ours()).backward(inputs=case.inputs)
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    before = calls(30)
    assert calls(100) - before < 8_000  # KB, of 100 * 500 steps


def test_threads_go_forward_and_back_at_once():
    cases = [Case(dtype=torch.float32, layers=2, steps=30) for _ in range(2)]
    kept, expected = Kept(), torch.autograd.grad(loss(cases[0].ours()), cases[0].inputs)
    problems = []

    def work(case):
        for _ in range(30):
            found = recurrence(*case.arguments, **case.form._asdict(), kept=kept)
            gradients = torch.autograd.grad(loss(found), case.inputs)
            if not all(map(torch.equal, gradients, expected)):
                problems.append(case)

    threads = [threading.Thread(target=work, args=(case,)) for case in cases]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not problems


# -- what a module keeps


def test_weights_that_change_are_seen():
    kept = Kept()
    case = Case(dtype=torch.float32, layers=2, gradients=False)

    def check():
        close(recurrence(*case.arguments, **case.form._asdict(), kept=kept), case.theirs())

    check()
    case.weights[0].mul_(2)  # in place
    check()
    case.weights[1].data.numpy()[:] += 1  # by another's hand
    check()
    case.weights[2].data = case.weights[2].data + 1  # with another memory
    check()
    case.weights[1].t_()  # which has the address that it had
    assert recurrence(*case.arguments, **case.form._asdict(), kept=kept) is None
    case.weights[1].t_()
    check()
    case.module.double()
    case.x, case.h0, case.c0 = case.x.double(), case.h0.double(), case.c0.double()
    case.weights = case.module._flat_weights
    check()


def test_a_copy_of_what_is_kept_is_a_new_one():
    kept, case = Kept(), Case()
    recurrence(*case.arguments, **case.form._asdict(), kept=kept)
    kept.calls[None] += 1
    for other in (copy.copy(kept), copy.deepcopy(kept), pickle.loads(pickle.dumps(kept))):
        assert other is not kept and not other.calls


# -- what kernels do not take


def wrong_arguments():
    x, weights = Case().x.detach(), Case().weights
    yield {"x": x.to(torch.bfloat16)}, "x must be dense, torch.float64 on cpu as weights are"
    yield (
        {"x": x.float()},
        "x must be dense, torch.float64 on cpu as weights are, got (4, 3, 3) torch.float32",
    )
    yield {"x": x[..., 0].long()}, "x must be dense, torch.float64"  # no tokens
    yield {"x": x[0]}, "x must have shape (T, B, 3) and not be empty, got (3, 3)"
    yield {"x": x[..., :2]}, "x must have shape (T, B, 3) and not be empty, got (4, 3, 2)"
    yield {"x": x[:0]}, "x must have shape (T, B, 3) and not be empty, got (0, 3, 3)"
    yield {"x": x.to_sparse()}, "x must be dense"
    yield {"h0": torch.zeros(1, 2, H).double()}, "h0 must have shape (1, 3, 5), got (1, 2, 5)"
    yield {"c0": torch.zeros(B, H).double()}, "c0 must have shape (1, 3, 5), got (3, 5)"
    yield {"c0": torch.zeros(1, B, H)}, "c0 must be dense, torch.float64"
    yield {"weights": []}, "weights must be 4 for each of 1 layers and directions, got 0"
    yield {"weights": weights[:3]}, "weights must be 4 for each of 1 layers and directions, got 3"
    yield {"weights": [weights[0], weights[1][:3], *weights[2:]]}, "weights[0] must have shape (0, 3)"
    yield {"weights": [*weights[:2], weights[2][1:], weights[3]]}, "weights[2] must have shape (20,)"
    yield {"weights": [weights[2], *weights[1:]]}, "weights must begin with two matrices"
    yield {"weights": [*weights[:3], weights[3].float()]}, "weights[3] must be dense, float32 or float64, on"
    yield {"batch_sizes": torch.tensor([3.0])}, "batch_sizes must be int64 of shape (T,) on the CPU"
    yield {"batch_sizes": torch.tensor([3, 9])}, "x must have shape (N, 3) and not be empty, got (4, 3, 3)"
    rows = {"x": x.flatten(0, 1), "h0": None, "c0": None}
    for sizes in ([3, 4, 5], [13], [12, 0], [], [13, -1]):
        yield {**rows, "batch_sizes": torch.tensor(sizes, dtype=torch.int64)}, "batch_sizes must be positive"
    yield (
        {**rows, "batch_sizes": torch.tensor([6, 6]), "h0": torch.zeros(1, 5, H).double()},
        "batch_sizes must",
    )
    yield {"cell": "gru"}, "weights[0] must have shape"
    yield {"cell": "lstm_any"}, "cell must be one of lstm, gru, rnn_tanh, rnn_relu, got 'lstm_any'"


@pytest.mark.parametrize(
    ("change", "words"), [*wrong_arguments()], ids=lambda each: each if isinstance(each, str) else ""
)
def test_what_kernels_do_not_take_is_left_to_pytorch_and_refused_by_the_operator(change, words, backend):
    case = Case(gradients=False)
    arguments = dict(zip(("x", "h0", "c0", "weights", "batch_sizes"), case.arguments, strict=True))
    arguments |= case.form._asdict() | change
    assert recurrence(**arguments) is None
    with pytest.raises((ValueError, RuntimeError, NotImplementedError)) as found:
        torch.ops.fastrnn.recurrence(**arguments, training=True)
    assert words in str(found.value) or change.get("x", case.x).layout is not torch.strided


@pytest.mark.parametrize("name", ["x", "weights"])
def test_kernels_want_aligned_tensors(name):
    def odd(tensor):
        memory = torch.zeros(8 * tensor.numel() + 4, dtype=torch.uint8).numpy()
        return torch.frombuffer(memory, dtype=torch.float64, offset=4).view(tensor.shape)

    case = Case("gru", states=False, gradients=False)
    if name == "x":
        case.x = odd(case.x)
    else:
        case.weights = [*case.weights[:3], odd(case.weights[3])]
    with fastrnn.use_backend("native"):
        assert recurrence(*case.arguments, **case.form._asdict()) is None
        with pytest.raises(ValueError, match="x, h0, c0 and weights must lie aligned in memory"):
            torch.ops.fastrnn.recurrence(*case.arguments, *case.form, True)


def test_the_operator_of_the_way_back_refuses_what_no_call_gave():
    case = Case(gradients=False)
    y, h_n, c_n, memory = torch.ops.fastrnn.recurrence(*case.arguments, *case.form, True)
    good = {"memory": memory, "y": y, "dy": y, "dh_n": h_n, "dc_n": c_n}
    back = torch.ops.fastrnn.recurrence_backward
    rest = {
        **dict(zip(("x", "h0", "c0", "weights", "batch_sizes"), case.arguments, strict=True)),
        **case.form._asdict(),
    }
    back(**good, **rest, input_gradient=True)
    for name, tensor in good.items():
        for other in (tensor[:-1], tensor.float()):
            with pytest.raises(ValueError, match=f"{name}.* must be a call's own"):
                back(**{**good, name: other}, **rest, input_gradient=True)


def test_what_has_no_memory_of_numbers_is_left_to_pytorch():
    case = Case("gru", gradients=False)
    form = case.form._asdict()
    weights = [weight.to("meta") for weight in case.weights]
    assert recurrence(case.x.to("meta"), None, None, weights, None, **form) is None
    assert recurrence(case.x, None, None, weights, None, **form) is None
    assert recurrence(torch._neg_view(case.x), None, None, case.weights, None, **form) is None

    class Own(torch.Tensor):
        pass

    assert recurrence(case.x.as_subclass(Own), None, None, case.weights, None, **form) is None
    case.weights[0].untyped_storage().resize_(0)  # as FSDP does
    assert recurrence(case.x, None, None, case.weights, None, **form) is None


# -- the operators


@pytest.mark.parametrize("setting", settings(packed=[False, True]), ids=str)
def test_opcheck_passes(setting):
    for dtype, states, projected, training in (
        (torch.float64, True, False, True),
        (torch.float32, False, True, True),
        (torch.float64, True, True, False),
    ):
        more = {
            "biases": states,
            "bidirectional": projected,
            "batch_first": not states,
            "gradients": training,
        }
        case = Case(
            dtype=dtype,
            states=states,
            layers=2,
            projected=projected and setting["cell"] == "lstm",
            **more,
            **setting,
        )
        torch.library.opcheck(torch.ops.fastrnn.recurrence, (*case.arguments, *case.form, training))
    with torch.no_grad():
        y, h_n, c_n, memory = torch.ops.fastrnn.recurrence(*case.arguments, *case.form, True)
    some = y, h_n, c_n if setting["cell"] == "lstm" else None
    arguments = (memory, y, *case.arguments, *some, *case.form, True)
    torch.library.opcheck(torch.ops.fastrnn.recurrence_backward, arguments)


def test_the_operator_has_the_eager_roads_gradients_and_theirs():
    case = Case(layers=2, packed=True)

    def of(x, h0, c0, *weights):
        return torch.ops.fastrnn.recurrence(x, h0, c0, weights, case.batch_sizes, *case.form, True)[:3]

    ours, operators = case.ours(), of(*case.inputs)
    assert all(map(torch.equal, ours, operators))
    both = [
        torch.autograd.grad(loss(each), case.inputs, retain_graph=True)
        for each in (ours, operators, operators)
    ]
    assert all(map(torch.equal, both[0], both[1])) and all(map(torch.equal, both[0], both[2]))
    assert torch.autograd.gradgradcheck(of, case.inputs, fast_mode=True)
    case.weights[0].requires_grad_(False)
    loss(of(*case.inputs)).backward()
    assert case.weights[0].grad is None and case.weights[1].grad is not None
    y, *_ = torch.ops.fastrnn.recurrence(*case.arguments, *case.form, False)
    with pytest.raises(RuntimeError, match="training=False"):
        y.sum().backward()


def test_what_watches_the_calls_sees_the_operators():
    from torch.utils._python_dispatch import TorchDispatchMode

    seen = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            seen.append(str(function))
            return function(*args, **(kwargs or {}))

    case = Case()
    with Watch():
        loss(case.ours()).backward()
    assert {"fastrnn.recurrence.default", "fastrnn.recurrence_backward.default"} <= set(seen)


def test_fake_tensors_have_the_shapes_of_the_results():
    from torch._subclasses.fake_tensor import FakeTensorMode

    for packed in (False, True):
        case = Case(packed=packed, bidirectional=True, gradients=False)
        real = torch.ops.fastrnn.recurrence(*case.arguments, *case.form, True)
        with FakeTensorMode() as mode:
            x, h0, c0, sizes = (
                each if each is None else mode.from_tensor(each)
                for each in (case.x, case.h0, case.c0, case.batch_sizes)
            )
            weights = [mode.from_tensor(weight) for weight in case.weights]
            fake = torch.ops.fastrnn.recurrence(x, h0, c0, weights, sizes, *case.form, True)
            assert recurrence(x, h0, c0, weights, sizes, **case.form._asdict())[0].shape == real[0].shape
        assert [each.shape for each in fake] == [each.shape for each in real]


@pytest.mark.parametrize("cell", CLASSES)
def test_a_model_is_compiled_whole_for_any_batch_and_length(cell):
    torch._dynamo.reset()
    network = Network(cell)
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(network, fullgraph=True, backend=counter)
    for steps, batch in ((5, 3), (7, 4), (9, 6)):
        x = torch.randn(steps, batch, I)
        for axis in (0, 1):
            torch._dynamo.mark_dynamic(x, axis)
        close(compiled(x), network.theirs(x))
        parameters = [*network.parameters()]
        ours, theirs = (torch.autograd.grad(loss(of(x)), parameters) for of in (compiled, network.theirs))
        close(ours, theirs)
    assert counter.frame_count == 1
    with torch.no_grad():
        for steps in (5, 7):
            x = torch.randn(steps, 3, I)
            torch._dynamo.mark_dynamic(x, 0)
            close(compiled(x), network.theirs(x))
    assert counter.frame_count == 2


@pytest.mark.parametrize("states", [False, True])
@torch._dynamo.config.patch(capture_dynamic_output_shape_ops=True)  # which PyTorch 2.4 wants
def test_a_packed_batch_of_any_size_is_compiled_whole(states):
    torch._dynamo.reset()
    case = Case("gru", layers=2, bidirectional=True, packed=True, states=states)
    form, weights = case.form._asdict(), torch.nn.ParameterList(case.weights)
    counter = CompileCounterWithBackend("aot_eager")

    @torch.compile(fullgraph=True, backend=counter)
    def compiled(x, batch_sizes, h0):
        y, h_n, _ = recurrence(x.tanh(), h0, None, [*weights], batch_sizes, **form)
        return 2 * y, h_n

    for sizes in (SIZES, [4, 2, 1, 1, 1], [2, 2]):
        x, batch_sizes = torch.randn(sum(sizes), I).double(), torch.tensor(sizes)
        h0 = torch.randn(4, sizes[0], H).double() if states else None
        y, h_n = case.module(torch.nn.utils.rnn.PackedSequence(x.tanh(), batch_sizes), h0)
        for tensor, axis in ((x, 0), (batch_sizes, 0), *([(h0, 1)] if states else [])):
            torch._dynamo.mark_dynamic(tensor, axis)
        ours, theirs = compiled(x, batch_sizes, h0), (2 * y.data, h_n)
        close(ours, theirs)
        close(*(torch.autograd.grad(loss(each), [*weights]) for each in (ours, theirs)))
    assert counter.frame_count == 1


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_inductor_compiles_a_training_step():
    torch._dynamo.reset()
    network = Network("gru")
    compiled = torch.compile(network, fullgraph=True)
    x = torch.randn(T, B, I)
    ours, theirs = (
        torch.autograd.grad(loss(of(x)), [*network.parameters()]) for of in (compiled, network.theirs)
    )
    close(ours, theirs)


@pytest.mark.parametrize("strict", [False, True])
def test_a_model_is_exported_and_runs_with_other_sizes(strict, tmp_path):
    network = Network(batch_first=True)
    sizes = {0: torch.export.Dim("B"), 1: torch.export.Dim("T")}
    x = torch.randn(4, 6, I)
    program = torch.export.export(network, (x,), dynamic_shapes=({**sizes},), strict=strict)
    torch.export.save(program, tmp_path / "network.pt2")
    again = torch.export.load(tmp_path / "network.pt2").module()
    for shape in ((4, 6, I), (2, 9, I), (5, 1, I)):
        x = torch.randn(shape)
        close(again(x), network.theirs(x))
    ours, theirs = again(x), network.theirs(x)
    for outputs in (ours, theirs):
        loss(outputs).backward()
    gradients = {name.removeprefix("p_"): each.grad for name, each in again.named_parameters()}
    for name, parameter in network.named_parameters():
        torch.testing.assert_close(gradients[name], parameter.grad)


def test_backends_share_the_door():
    case = Case(layers=2, packed=True)
    found = []
    for name in ("native", "reference"):
        with fastrnn.use_backend(name):
            found.append(case.ours())
    close(*found)
    assert np.isfinite(found[0][0].detach().numpy()).all()
