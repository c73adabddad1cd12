"""PyTorch's tests of recurrent modules under function transforms, tracing, compilation and modes.

The table of PyTorch's cases is in test_torch_cases.py.
"""

import functools

import pytest
from twins import CELLS, agree, flat, kinds, layers, make, results, rnn, same_outcome, state, torch, twins

pytestmark = [
    pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN"),
    pytest.mark.filterwarnings("ignore:TF32 acceleration on top of oneDNN"),
    pytest.mark.filterwarnings(
        "ignore:The .grad attribute of a Tensor that is not a leaf"
    ),  # looked at by Dynamo
    pytest.mark.filterwarnings("ignore:.torch.cpu.amp.autocast"),  # PyTorch 2.4's, as the next two
    pytest.mark.filterwarnings("ignore:Graph break due to unsupported builtin"),
    pytest.mark.filterwarnings("ignore:At pre-dispatch tracing, we will assume"),
    pytest.mark.filterwarnings("ignore:There is a performance drop because we have not yet implemented"),
    pytest.mark.usefixtures("one_torch_thread"),
]


@kinds
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
def test_transforms_of_functions_do_what_they_do_with_the_parent(kind, dtype):
    mine, theirs = twins(kind, 3, 4, dtype=dtype)
    samples = make(6, 5, 3, dtype=dtype, grad=False)
    x, v = samples[:2]

    def first(module, parameters, x):
        return flat(torch.func.functional_call(module, parameters, (x,)))[0]

    def per_sample(module):
        parameters = {name: p.detach() for name, p in module.named_parameters()}
        gradients = torch.func.grad(lambda p, t: first(module, p, t).square().sum())
        return [*torch.func.vmap(gradients, (None, 0))(parameters, samples).values()]

    transforms = {
        "functional_call": lambda module: first(module, dict(module.named_parameters()), x),
        "gradients for each sample": per_sample,
        "jacrev": lambda module: torch.func.jacrev(lambda t: flat(module(t))[0])(x),
        "jvp": lambda module: torch.func.jvp(lambda t: flat(module(t))[0], (x,), (v,)),
        "vmap": lambda module: torch.func.vmap(lambda t: flat(module(t))[0], randomness="same")(samples),
    }
    said = {name: same_outcome(lambda f=f: f(mine), lambda f=f: f(theirs)) for name, f in transforms.items()}
    if (kind, dtype) == ("LSTM", torch.float32):  # the one that PyTorch itself can take for each sample
        assert said["gradients for each sample"] is None


@kinds
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
def test_derivatives_of_other_kinds_do_what_they_do_with_the_parent(kind, dtype):
    mine, theirs = twins(kind, 3, 4, dtype=dtype)
    x, forward = make(5, 3, dtype=dtype), torch.autograd.forward_ad

    def batched(module):
        directions = torch.eye(20, dtype=dtype).view(20, 5, 4)
        return torch.autograd.grad(
            flat(module(x))[0], [*module.parameters()], directions, is_grads_batched=True
        )

    def dual(module):
        with forward.dual_level():
            return forward.unpack_dual(flat(module(forward.make_dual(x.detach(), torch.ones_like(x))))[0])[1]

    derivatives = {
        "gradients of a batch of directions": batched,
        "jacobian": lambda m: torch.autograd.functional.jacobian(lambda t: flat(m(t))[0], x, vectorize=True),
        "hessian": lambda m: torch.autograd.functional.hessian(lambda t: flat(m(t))[0].sum(), x),
        "tangents": dual,
    }
    said = {name: same_outcome(lambda f=f: f(mine), lambda f=f: f(theirs)) for name, f in derivatives.items()}
    assert {name for name, problem in said.items() if problem} <= {"tangents"}


@layers
def test_expanded_weights_do_what_they_do_with_the_parent(kind):
    sampled = pytest.importorskip("torch.nn.utils._per_sample_grad").call_for_per_sample_grads
    x = make(6, 5, 3, grad=False)

    def gradients(module):
        sampled(module, batch_size=6)(x)[0].sum().backward()
        return [p.grad_sample for p in module.parameters()]

    mine, theirs = twins(kind, 3, 4, batch_first=True)
    same_outcome(lambda: gradients(mine), lambda: gradients(theirs))


# Tracing


class Around(torch.nn.Module):
    """A module around one, as scripting and exporting want it."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return self.inner(x)


@kinds
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
def test_a_traced_module_is_the_parent_traced(kind):
    mine, theirs = twins(kind, 3, 4)
    traced = torch.jit.trace(mine, make(5, 3, grad=False))
    for x in (make(5, 3), make(5, 3)):
        agree(results(traced, x), results(theirs, x))


@kinds
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_scripted_module_is_the_parent_scripted(kind):
    mine, theirs = twins(kind, 3, 4)
    scripted = torch.jit.script(Around(mine))
    x = make(5, 2, 3) if kind not in CELLS else make(5, 3)
    agree(results(scripted, x), results(theirs, x))


@layers
def test_a_graph_of_operators_computes_from_other_inputs(kind):
    make_fx = pytest.importorskip("torch.fx.experimental.proxy_tensor").make_fx
    mine, theirs = twins(kind, 3, 4)
    graph = make_fx(lambda x: mine(x)[0])(make(5, 2, 3, grad=False))
    x = make(5, 2, 3, grad=False)
    agree(graph(x), theirs(x)[0])


@kinds
def test_fake_tensors_have_the_shapes_of_true_ones(kind):
    mine, theirs = twins(kind, 3, 4)
    x = make(5, 2, 3) if kind not in CELLS else make(5, 3)
    with torch._subclasses.FakeTensorMode(allow_non_fake_inputs=True) as mode:
        fake = flat(mine(mode.from_tensor(x)))
    assert [(t.shape, t.dtype) for t in fake] == [(t.shape, t.dtype) for t in flat(theirs(x))]


# Compilation


@pytest.fixture
def fresh_compiler():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@kinds
@pytest.mark.usefixtures("fresh_compiler")
def test_compiled_without_a_break_for_any_size(kind):
    options = {} if kind in CELLS else {"num_layers": 2, "bidirectional": True, "batch_first": True}
    mine, theirs = twins(kind, 3, 4, **options)
    compiled = torch.compile(mine, backend="aot_eager", fullgraph=True, dynamic=True)
    for batch in (2, 5):
        x = make(batch, 6, 3) if kind not in CELLS else make(batch, 3)
        hx = state(kind, *([4] if options else []), batch, hidden=4)
        agree(results(compiled, x, hx), results(theirs, x, hx))


@pytest.mark.usefixtures("fresh_compiler")
def test_compiled_around_packed_sequences_of_changing_size():
    mine, theirs = twins("LSTM", 3, 4)

    def tagged(module, x, lengths):
        y, hn = module(rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False))
        return rnn.pad_packed_sequence(y, batch_first=True)[0], hn

    compiled = torch.compile(functools.partial(tagged, mine), backend="eager")
    for lengths in ([4, 6, 1], [2, 7, 7, 3]):
        x = make(len(lengths), 7, 3)
        agree(compiled(x, torch.tensor(lengths)), tagged(theirs, x, torch.tensor(lengths)))


@kinds
def test_an_exported_program_is_the_module(kind):
    mine, theirs = twins(kind, 3, 4)
    x = make(6, 5, 3, grad=False) if kind not in CELLS else make(6, 3, grad=False)
    rows = torch.export.Dim("rows", min=2, max=64)
    program = torch.export.export(Around(mine), (x,), dynamic_shapes=({0: rows},))
    assert "fastrnn" in str(program.graph) and set(program.state_dict) == {
        f"inner.{n}" for n in mine.state_dict()
    }
    for length in (2, 9):
        x = make(length, *x.shape[1:], grad=False)
        agree(program.module()(x), theirs(x))


# Modes


@kinds
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bfloat16", "float16"])
def test_under_autocast_the_parent_decides(kind, dtype):
    mine, theirs = twins(kind, 3, 4, dtype=torch.float32)
    x = make(5, 2, 3, dtype=torch.float32) if kind not in CELLS else make(5, 3, dtype=torch.float32)
    with torch.autocast("cpu", dtype=dtype):
        same_outcome(lambda: results(mine, x), lambda: results(theirs, x))


@kinds
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.complex64])
def test_other_dtypes_are_the_parents(kind, dtype):
    mine, theirs = twins(kind, 3, 4, dtype=dtype)
    same_outcome(
        mine, theirs, make(5, 2, 3, dtype=dtype, grad=False) if kind not in CELLS else make(5, 3, dtype=dtype)
    )


@layers
def test_numbers_are_the_parents_with_and_without_onednn(kind):
    mine, theirs = twins(kind, 3, 4, 2, bidirectional=True, dtype=torch.float32)
    x = make(5, 2, 3, dtype=torch.float32)
    for enabled in (True, False):
        with torch.backends.mkldnn.flags(enabled=enabled):
            agree(results(mine, x), results(theirs, x))


@kinds
def test_without_gradients(kind):
    mine, theirs = twins(kind, 3, 4)
    x = make(5, 3)
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            found, expected = flat(mine(x)), flat(theirs(x))
            assert [t.is_inference() for t in found] == [t.is_inference() for t in expected]
            assert not any(t.requires_grad for t in found)
            agree(found, expected)
    with torch.inference_mode():
        x = make(5, 3, grad=False)
    same_outcome(mine, theirs, x)


@kinds
@pytest.mark.parametrize("reentrant", [True, False])
def test_activations_are_computed_again(kind, reentrant):
    mine, theirs = twins(kind, 3, 4)
    x = make(5, 3)
    y = torch.utils.checkpoint.checkpoint(lambda x: tuple(flat(mine(x))), x, use_reentrant=reentrant)
    sum(t.square().sum() for t in y).backward()
    expected = flat(theirs(x))
    agree(y, expected)
    sources = [x, *theirs.parameters()]
    gradients = torch.autograd.grad(sum(t.square().sum() for t in expected), sources)
    agree([x.grad, *(p.grad for p in mine.parameters())], gradients)


@kinds
def test_what_is_saved_may_be_kept_elsewhere(kind):
    mine, theirs = twins(kind, 3, 4)
    x, kept = make(5, 3), []
    expected = results(theirs, x)
    with torch.autograd.graph.saved_tensors_hooks(
        lambda t: kept.append(t.clone()) or len(kept) - 1, kept.__getitem__
    ):
        agree(results(mine, x), expected)
    assert kept
    with torch.autograd.graph.save_on_cpu():
        agree(results(mine, x), expected)


@kinds
def test_a_nan_is_found_by_anomaly_mode(kind):
    found = []
    for module in twins(kind, 3, 4):
        x = make(5, 3)
        with (
            pytest.warns(UserWarning, match="Anomaly Detection|Error detected"),
            torch.autograd.detect_anomaly(),
        ):
            y = flat(module(x))[0].sum() * torch.tensor(float("nan"), dtype=x.dtype)
            with pytest.raises(RuntimeError, match="returned nan values") as error:
                y.backward()
        found.append(str(error.value))
    assert found


@kinds
def test_gradients_are_added_to_those_that_are_there(kind):
    mine, theirs = twins(kind, 3, 4)
    for module in (mine, theirs):
        torch.manual_seed(0)
        for _ in range(3):
            sum(t.sum() for t in flat(module(make(5, 3)))).backward()
    agree([p.grad for p in mine.parameters()], [p.grad for p in theirs.parameters()])


# ONNX


@layers
@pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::UserWarning", "ignore::torch.jit.TracerWarning"
)
def test_the_onnx_file_of_the_tracing_exporter_is_the_parents(kind, tmp_path):
    pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    mine, theirs = twins(kind, 3, 4, 2, bidirectional=True, dtype=torch.float32)
    x = make(5, 2, 3, grad=False, dtype=torch.float32)
    files = []
    for module in (mine, theirs):
        files.append(tmp_path / f"{len(files)}.onnx")
        torch.onnx.export(module.eval(), (x,), files[-1], dynamo=False, input_names=["x"])
    session = runtime.InferenceSession(files[0], providers=["CPUExecutionProvider"])
    agree([torch.from_numpy(a) for a in session.run(None, {"x": x.numpy()})], theirs(x), rtol=1e-4, atol=1e-5)
    assert len(files[0].read_bytes()) == len(files[1].read_bytes())
