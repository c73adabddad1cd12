"""PyTorch's own tests of its recurrent modules, told anew for `fastrnn.torch`: the table, and test_modules.

A case passes with our classes, here or in the file after the arrow (test_torch_…), or is named with why not.

test/test_modules.py, with every input that module_db has for RNN, GRU, LSTM and cells (`twins.CONSTRUCTORS`)
    test_forward                            values, and no batch as a batch of one
    test_factory_kwargs, device_ctx_init    dtype and device of every parameter
    test_repr, test_pickle, save and load   text, initial values, state_dict; copies that share nothing
    test_non_contiguous_tensors             of inputs, states and incoming gradients
    test_grad, test_gradgrad                finite differences, all at once and each parameter alone
    test_memory_format                      contiguous where the parent's results are
    test_if_train_and_eval_modes_differ     `training` is read where the parent reads it
    test_to, test_to_empty                  dtypes and devices back and forth, swapped parameters
    test_errors                             constructors and calls: the parent's exceptions and words
    test_multiple_device_transfer, test_cpu_gpu_parity: CUDA; meta and the CPU back and forth are here
    test_check_inplace: no recurrent module has `inplace`
test/test_nn.py -> nn_cases
    test_RNN_cell_no_broadcasting, test_LSTM_cell, …_forward_input_size, …_forward_hidden_size
    test_lstmcell_backward_only_one_output_grad
    test_cudnn_forward_exception, test_rnn_args_check, test_projections_lstm_args_check
    test_rnn_initial_hidden_state, test_projections_lstm_initial_hidden_state
    test_RNN_nonlinearity, …_passed_as_arg; dropout's range and its warning for one layer
    test_projections_errors_on_gru_and_rnn: in `test_constructors_refuse_…`
    test_RNN_input_size_zero, test_error_RNN_seq_len_zero
    test_RNN_dropout, test_RNN_dropout_state, test_RNN_change_dropout: CUDA there, on the CPU here
    test_variable_sequence, test_RNN_cpu_vs_cudnn_no_dropout, …_with_dropout: all options, against the parent
test/test_nn.py, test/nn/ -> weights
    test_rnn_retain_variables, test_LSTM_grad_and_gradgrad, test_GRU_grad_and_gradgrad
    test_LSTM_differentiable_backward_using_oneDNN
    test_cudnn_weight_format, test_cudnn_weight_tying, test_partial_flat_weights: CUDA there, on the CPU here
    test_rnn_weight_norm, test_RNN_cudnn_weight_norm, test_rnn_pruning, parametrizations, test_skip_init
    hooks of modules and tensors (test_module_hooks.py)
    test_rnn_check_device, test_projections_lstm_check_device: two GPUs; here with meta (`wrong_arguments`)
    test_rnn_fused, test_cudnn_rnn_dropout_states_device, test_pack_sequence_batch_sizes_throw: of CUDA alone
    test_packed_sequence.py: functions that pack, which are PyTorch's own; no module in it
test/functorch, test_expanded_weights.py, test_stateless.py -> transforms
    grad, vmap, jacrev, jvp over modules, per-sample gradients: what the parent gives, or its refusal
    test_aotdispatch.py over module_db: by the compiler, below
test/test_jit.py, test/jit -> transforms
    trace and script of modules and cells: as the parent's
    passes over TorchScript graphs (freezing, fusing, oneDNN): a scripted module has nothing of ours in it
test/dynamo, test/inductor, test/export -> transforms
    without a break, any size, gradients; packed batches of changing size; export with dynamic shapes
    test_rnn_graph_breaks, lowering of aten's LSTM: our graphs have our operator in the place of these
test_proxy_tensor.py, test_fake_tensor.py -> transforms
    graphs of operators, shapes of fake tensors; test_cudnn_rnn: CUDA
test_mkldnn.py, test_autocast.py, test_autograd.py, test_utils.py -> transforms
    with and without oneDNN, float16 and bfloat16, autocast, inference mode, anomaly mode, checkpoints, saved
    tensors elsewhere, gradients that add up, batched gradients, jacobian, hessian, forward mode
test/onnx -> transforms
    the tracing exporter: the parent's file, which ONNX Runtime runs
    the symbolic functions one by one: of the exporter, not of modules
test/test_fx.py -> modules: symbolic_trace takes ours as one node, as it does PyTorch's
test/quantization: quantize_dynamic looks modules up by their exact class, so it leaves ours as they are:
    quantize before, or after `undo()`; quantized modules are no `torch.nn.LSTM`, and `accelerate` leaves them
test/distributed: DistributedDataParallel on the CPU -> accelerate; FSDP, test_data_parallel_rnn: CUDA
test_cuda.py, test_mps.py, test_xpu.py, cuDNN, MIOpen: other devices, for which the parent's forward runs
test/cpp, test/mobile: C++ and mobile runtimes, which have no Python classes
"""

import copy
import io
import pickle

import pytest
from twins import (
    CELLS,
    agree,
    constructed,
    flat,
    fresh,
    inputs,
    kinds,
    like,
    make,
    modules,
    outcome,
    results,
    same_outcome,
    sizes,
    taken_over,
    torch,
    twins,
    wrong_arguments,
)

LOOSE = {torch.float16: {"rtol": 2e-2, "atol": 2e-2}, torch.bfloat16: {"rtol": 1e-1, "atol": 1e-1}}

pytestmark = [
    pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN"),
    pytest.mark.usefixtures("one_torch_thread"),
]


def built(kind, options, **how):
    return twins(kind, *sizes(kind), **options, **how)


@constructed
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
def test_forward_and_gradients_are_the_parents(kind, options, dtype):
    mine, theirs = built(kind, options, dtype=dtype)
    for name, args in inputs(kind, options, dtype=dtype):
        agree(results(mine.train(), *args), results(theirs.train(), *args))
        if "state" in name:
            agree(results(mine.eval(), *args), results(theirs.eval(), *args))
        with torch.no_grad():
            agree(mine(*args), theirs(*args))
    assert not taken_over(mine)


@constructed
def test_without_a_batch_it_is_a_batch_of_one(kind, options):
    mine, _ = built(kind, options)
    given = dict(inputs(kind, options))
    if kind in CELLS:
        x, hx = given["row and state"]
        one = [t[None] for t in flat(hx)]
        agree([t[None] for t in flat(mine(x, hx))], mine(x[None], tuple(one) if len(one) > 1 else one[0]))
        return
    x, hx = given["sequence and state"]
    one = [t[:, None] for t in flat(hx)]
    y, hn = mine(x.unsqueeze(0 if options["batch_first"] else 1), tuple(one) if len(one) > 1 else one[0])
    agree(mine(x, hx), (y.squeeze(0 if options["batch_first"] else 1), tuple(t[:, 0] for t in flat(hn))))


@constructed
def test_factory_arguments_reach_every_parameter(kind, options):
    make = getattr(modules, kind)
    for device, dtype in (("cpu", torch.float64), ("cpu", torch.bfloat16), ("meta", torch.float32)):
        module = make(*sizes(kind), **options, device=device, dtype=dtype)
        assert {(p.device.type, p.dtype) for p in module.parameters()} == {(device, dtype)}
    with torch.device("meta"):
        assert all(p.is_meta for p in make(*sizes(kind), **options).parameters())


@constructed
def test_representation_and_initial_values_are_the_parents(kind, options):
    pair = []
    for package in (modules, torch.nn):
        torch.manual_seed(3)
        pair.append(getattr(package, kind)(*sizes(kind), **options))
    mine, theirs = pair
    assert isinstance(mine, getattr(torch.nn, kind))
    assert repr(mine) == repr(theirs) == str(mine)
    assert list(mine.state_dict()) == list(theirs.state_dict())
    agree(list(mine.parameters()), list(theirs.parameters()), rtol=0, atol=0)


@constructed
def test_it_is_saved_pickled_and_copied_after_a_call(kind, options):
    mine, theirs = built(kind, options)
    _, args = next(inputs(kind, options))
    expected = results(mine, *args)
    file = io.BytesIO()
    torch.save(mine, file)
    file.seek(0)
    theirs.load_state_dict(mine.state_dict())
    for copied in (
        torch.load(file, weights_only=False),
        pickle.loads(pickle.dumps(mine)),
        copy.deepcopy(mine),
    ):
        assert type(copied) is type(mine)
        agree(results(copied, *args), expected)
        with torch.no_grad():
            for parameter in copied.parameters():
                parameter.add_(1)
        agree(results(mine, *args), expected)
    file = io.BytesIO()
    torch.save(mine.state_dict(), file)
    file.seek(0)
    state = torch.load(file, weights_only=True)
    fresh = getattr(modules, kind)(*sizes(kind), **options, dtype=torch.float64)
    fresh.load_state_dict(state)
    agree(results(fresh, *args), expected)


def strided(tree):
    """The same values, with a gap after each."""
    if isinstance(tree, tuple):
        return tuple(map(strided, tree))
    return tree.detach().repeat_interleave(2, dim=-1)[..., ::2].requires_grad_(tree.requires_grad)


@constructed
def test_strided_inputs_states_and_gradients(kind, options):
    mine, _ = built(kind, options)
    for name, args in inputs(kind, options):
        if name.startswith("packed"):
            continue
        outputs = flat(mine(*args))
        given = [torch.randn_like(t) for t in outputs]
        expected = torch.autograd.grad(outputs, [*flat(args), *mine.parameters()], given)
        spread = strided(tuple(given))
        for these, grads in ((args, spread), (strided(args), given), (strided(args), spread)):
            found = flat(mine(*these))
            agree(found, outputs)
            agree(torch.autograd.grad(found, [*flat(these), *mine.parameters()], grads), expected)


@constructed
def test_outputs_and_gradients_are_contiguous_where_the_parents_are(kind, options):
    mine, theirs = built(kind, options)
    for memory_format in (torch.preserve_format, torch.contiguous_format):
        mine.to(memory_format=memory_format)
        for _, args in inputs(kind, options):
            for found, expected in zip(results(mine, *args), results(theirs, *args), strict=True):
                assert expected is None or found.is_contiguous() >= expected.is_contiguous()


def checked(check, module, args, **options):
    """Gradients by `check` (gradcheck or gradgradcheck) of all that requires them; it alters it in place."""
    places = [t is not None and t.requires_grad for t in flat(args)]
    sources = [t for t, wanted in zip(flat(args), places, strict=True) if wanted]

    def call(*given):
        left = iter(given)
        here = like(args, [next(left) if wanted else t for t, wanted in zip(flat(args), places, strict=True)])
        return [t for t in flat(module(*here)) if t is not None and t.requires_grad]

    return check(call, [*sources, *module.parameters()], **options)


@constructed
def test_gradients_are_those_of_finite_differences(kind, options):
    mine, _ = built(kind, options)
    for name, args in inputs(kind, options):
        if name in ("batch and state", "packed [5, 3] and state"):
            assert checked(torch.autograd.gradcheck, mine, args, fast_mode=True)


@kinds
def test_every_entry_of_a_jacobian_and_each_parameter_alone(kind):
    mine, _ = twins(kind, 2, 2)
    for _, args in inputs(kind, {"batch_first": False, "bidirectional": False}, measures=(2, 2, 1)):
        assert checked(torch.autograd.gradcheck, mine, args)
    for alone in mine.parameters():
        for parameter in mine.parameters():
            parameter.requires_grad_(parameter is alone)
        assert checked(torch.autograd.gradcheck, mine, fresh(args), fast_mode=True)


@kinds
def test_gradients_of_gradients(kind):
    options = {} if kind in CELLS else {"bidirectional": True, "batch_first": True}
    mine, _ = built(kind, options)
    for name, args in inputs(kind, {"bias": True, **options}):
        if name in ("batch and state", "packed [5, 3]"):
            assert checked(torch.autograd.gradgradcheck, mine, args, fast_mode=True)


@kinds
def test_a_module_moves_between_dtypes_and_devices(kind):
    options = {} if kind in CELLS else {"bidirectional": True, "batch_first": False}
    mine, theirs = built(kind, options)
    for move in (
        lambda module: module.float(),
        lambda module: module.to(torch.float64).to("cpu"),
        lambda module: module.half(),
        lambda module: module.bfloat16(),
        lambda module: module.double(),
        lambda module: module.share_memory(),
    ):
        move(mine), move(theirs)
        theirs.load_state_dict(mine.state_dict())
        dtype = next(mine.parameters()).dtype
        for _, args in inputs(kind, options, dtype=dtype):
            agree(results(mine, *args), results(theirs, *args), **LOOSE.get(dtype, {}))
    x = torch.empty(3, sizes(kind)[0], dtype=torch.float64, device="meta")
    assert [t.shape for t in flat(mine.to("meta")(x))] == [t.shape for t in flat(theirs.to("meta")(x))]
    values = built(kind, options)[0].state_dict()
    for module in (mine, theirs):
        module.to_empty(device="cpu").load_state_dict(values)
    for _, args in inputs(kind, options):
        agree(results(mine, *args), results(theirs, *args))


@kinds
@pytest.mark.parametrize("swap", [True, False])
def test_conversion_may_swap_parameters(kind, swap):
    mine, theirs = twins(kind, 5, 4)
    x = make(3, 5)
    agree(results(mine, x), results(theirs, x))
    before = torch.__future__.get_swap_module_params_on_conversion()
    torch.__future__.set_swap_module_params_on_conversion(swap)
    try:
        found, expected = (outcome(lambda m: results(m.float(), x.float()), m) for m in (mine, theirs))
    finally:
        torch.__future__.set_swap_module_params_on_conversion(before)
    if isinstance(expected, list):
        agree(found, expected)
    else:
        assert found[0] is expected[0]


@kinds
def test_training_is_read_where_the_parent_reads_it(kind):
    mine, theirs = twins(kind, 5, 4)
    del mine.training, theirs.training
    same_outcome(mine, theirs, make(3, 5))


@kinds
def test_constructors_refuse_what_the_parents_refuse(kind):
    wrong = [
        ((10, 0), {}),
        ((10, -1), {}),
        ((3, 5.0), {}),
        ((3,), {}),
        ((3, 5, True, True, True, 1, 1, 1, 1), {}),
    ]
    if kind not in CELLS:
        wrong += [((10, 10, 0), {}), ((0, 5), {}), ((-1, 5), {}), ((3.0, 5), {}), (("10", 5), {})]
        wrong += [((3, 5), {name: value}) for name in ("bias", "batch_first") for value in (0, 1, "True")]
        wrong += [((3, 5), {"proj_size": size}) for size in (-1, 2, 5)]
        wrong += [((3, 5, 2), {"dropout": value}) for value in (-0.1, 1.1, True, None, "0.5")]
        wrong += [((3, 5), {"nonlinearity": "garbage"}), ((3, 5, 1, "relu"), {"nonlinearity": "tanh"})]

    def constructed(package, args, options):
        try:
            return repr(getattr(package, kind)(*args, **options))
        except Exception as error:
            return type(error), str(error)

    for args, options in wrong:
        assert constructed(modules, args, options) == constructed(torch.nn, args, options)


@kinds
def test_calls_refuse_what_the_parents_refuse(kind):
    mine, theirs = twins(kind, 10, 20)
    words = [same_outcome(mine, theirs, *args) for args in wrong_arguments(kind)]
    assert all(words), words
