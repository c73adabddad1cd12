"""Accelerated models: their modules change class and nothing else, and what people do with models goes on."""

import copy
import io
import os
import pickle
import subprocess
import sys
from abc import ABC
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.nn.utils import parametrizations, parametrize, prune  # noqa: E402

import fastrnn  # noqa: E402
import fastrnn.torch as ours  # noqa: E402
from fastrnn.torch.acceleration import Row  # noqa: E402

pytestmark = [
    pytest.mark.usefixtures("one_torch_thread"),
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),  # of newer versions of Python
]

KINDS = ["LSTM", "GRU", "RNN", "LSTMCell", "GRUCell", "RNNCell"]


class Model(nn.Module):
    """Tokens to scores of three classes, through one recurrent module of each kind, or nearly."""

    def __init__(self, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.embedding = nn.Embedding(11, 4)
        self.encoder = nn.ModuleDict({"gru": nn.GRU(4, 5, batch_first=True), "head": nn.Linear(6, 3)})
        self.lstm = nn.LSTM(5, 3, num_layers=2, batch_first=True, bidirectional=True)
        self.cell = nn.RNNCell(6, 6)

    def forward(self, tokens):
        y, _ = self.encoder["gru"](self.embedding(tokens))
        y, _ = self.lstm(y)
        return self.encoder["head"](self.cell(y[:, -1]))


TOKENS = torch.arange(40).reshape(5, 8) % 11
TARGETS = torch.arange(5) % 3


def accelerated(model):
    ours.accelerate(model, strict=True)
    return model


def classes(model):
    return [type(module) for module in model.modules()]


def output(model, tokens=TOKENS):
    with torch.no_grad():
        return model(tokens)


def test_a_model_is_accelerated_in_place_and_only_its_recurrent_modules_change():
    model = Model().eval()
    model.lstm.register_buffer("noted", torch.ones(2))
    model.lstm.weight_hh_l0.requires_grad_(False)
    calls = []
    model.lstm.register_forward_hook(lambda *_: calls.append("forward"))
    model.lstm.register_full_backward_hook(lambda *_: calls.append("backward"))
    model.lstm.register_forward_pre_hook(lambda *_: calls.append("before"))
    model.lstm._register_state_dict_hook(lambda *_: calls.append("state_dict"))
    before, want = [dict(vars(module)) for module in model.modules()], output(model)
    plain, text, calls[:] = classes(model), repr(model), []

    ours.accelerate(model)
    swapped = {nn.LSTM: ours.LSTM, nn.GRU: ours.GRU, nn.RNNCell: ours.RNNCell}
    assert classes(model) == [swapped.get(cls, cls) for cls in plain]
    for module, variables in zip(model.modules(), before, strict=True):
        assert all(vars(module)[name] is value for name, value in variables.items())
    assert repr(model) == text
    y = model(TOKENS)
    torch.testing.assert_close(y.detach(), want)
    y.sum().backward()
    assert model.state_dict().keys() == Model().state_dict().keys() | {"lstm.noted"}
    assert calls == ["before", "forward", "backward", "state_dict"]
    assert model.lstm.weight_hh_l0.grad is None and model.lstm.weight_ih_l0.grad is not None


@pytest.mark.parametrize("kind", KINDS)
def test_the_root_may_be_the_recurrent_module(kind):
    module = getattr(nn, kind)(3, 4)
    report = ours.accelerate(module)
    assert type(module) is getattr(ours, kind)
    assert list(report) == [Row("", kind, None, 0, {})]
    report.undo()
    assert type(module) is getattr(nn, kind)


def test_twice_is_harmless_and_each_report_undoes_what_it_did():
    model = Model()
    plain = classes(model)
    first = ours.accelerate(model.encoder)
    part = classes(model)
    second = ours.accelerate(model)
    third = ours.accelerate(model)
    whole = classes(model)
    third.undo()
    assert classes(model) == whole
    second.undo()
    assert classes(model) == part
    first.undo()
    assert classes(model) == plain
    fourth = ours.accelerate(model)
    for report in (first, second, third):
        report.undo()  # has nothing left to undo
    assert classes(model) == whole
    fourth.undo()
    assert classes(model) == plain


def test_modules_that_were_fastrnns_before_stay_so():
    model = Model()
    model.lstm = ours.LSTM(5, 3, num_layers=2, batch_first=True, bidirectional=True)
    with ours.accelerate(model):
        pass
    assert type(model.lstm) is ours.LSTM and type(model.encoder["gru"]) is nn.GRU


def test_a_block_accelerates_until_it_ends_also_by_an_error():
    model = Model()
    plain, variables = classes(model), set(vars(model.lstm))
    with pytest.raises(KeyError), ours.accelerate(model) as report:
        output(model)
        assert [row.kernel_calls for row in report] == [1, 1, 1]
        raise KeyError
    assert classes(model) == plain
    assert set(vars(model.lstm)) == variables  # nothing of ours is left behind
    assert [(row.reason, row.kernel_calls) for row in report] == [("not accelerated", 0)] * 3


def test_a_shared_module_is_accelerated_and_told_of_once():
    shared = nn.GRU(4, 4)
    model = nn.ModuleDict({"one": shared, "two": nn.ModuleList([shared, nn.GRU(4, 4)])})
    report = ours.accelerate(model)
    assert [row.name for row in report] == ["one", "two.1"] and len(report) == 2
    report.undo()
    assert {type(module) for module in model.modules()} == {nn.ModuleDict, nn.ModuleList, nn.GRU}


def test_modules_that_were_replaced_moved_or_copied_in_between():
    model = Model()
    report = ours.accelerate(model)
    twin, moved, replaced = copy.deepcopy(model), model.lstm, model.cell
    del model.lstm
    model.encoder["moved"] = moved
    model.cell = nn.RNNCell(6, 6)
    assert {row.name: row.reason for row in report} == {
        "encoder.gru": None,
        "encoder.moved": None,
        "cell": "not accelerated",
    }
    report.undo()
    assert type(moved) is nn.LSTM and type(replaced) is nn.RNNCell and type(model.encoder["gru"]) is nn.GRU
    assert type(twin.lstm) is ours.LSTM  # a copy is another model
    torch.testing.assert_close(output(twin), output(Model()))


def with_forward_of_its_own():
    module = nn.LSTM(3, 4)
    module.forward = module.forward
    return module


def parametrized():
    return parametrizations.weight_norm(nn.LSTM(3, 4), "weight_hh_l0")


def quantized():
    return torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.LSTM(3, 4)), {nn.LSTM})[0]


LEFT = {
    "half": (lambda: nn.LSTM(3, 4).half(), "float16"),
    "bfloat16": (lambda: nn.GRUCell(3, 4, dtype=torch.bfloat16), "bfloat16"),
    "meta": (lambda: nn.RNN(3, 4, device="meta"), "meta"),
    "wrapped": (with_forward_of_its_own, "a forward of its own"),
    "parametrized": (parametrized, "parametrized"),
    "quantized": (quantized, "quantized"),
    "scripted": (lambda: torch.jit.script(nn.GRU(3, 4)), "scripted"),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:.*quantized tensor:UserWarning")
@pytest.mark.parametrize("kind", LEFT)
def test_what_stays_with_pytorch_is_told_with_its_reason(kind):
    make, reason = LEFT[kind]
    left = make()
    model = nn.ModuleDict({"left": left, "taken": nn.GRU(3, 4)})
    cls = type(left)
    with pytest.raises(ValueError, match=rf"left, \w+: .*{reason}"):
        ours.accelerate(model, strict=True)
    assert type(model["taken"]) is nn.GRU and type(left) is cls
    told = {row.name: row.reason for row in ours.accelerate(model)}
    assert reason in told["left"] and told["taken"] is None
    assert type(model["taken"]) is ours.GRU and type(left) is cls


def saved_and_loaded(model):
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


COPIES = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda model: pickle.loads(pickle.dumps(model)),
    "torch.save": saved_and_loaded,
}


class Named(nn.LSTM):
    """Adds something."""

    def __init__(self, *sizes, name):
        super().__init__(*sizes)
        self.name = name


class Residual(nn.GRU):
    """Does something before and after."""

    def forward(self, x, hx=None):
        y, h_n = super().forward(2 * x, hx)
        return x + y, h_n


class Counted(Residual, ABC):
    """Is told of classes that derive from it, and has a metaclass."""

    __slots__ = ("count",)
    derived = ()

    def __init_subclass__(cls, **options):
        super().__init_subclass__(**options)
        Counted.derived += (cls,)


SUBCLASSES = {
    "Named": lambda: Named(4, 4, name="x"),
    "Residual": lambda: Residual(4, 4),
    "Counted": lambda: Counted(4, 4),
}


@pytest.mark.parametrize("name", SUBCLASSES)
def test_subclasses_keep_what_they_are(name, backend):
    torch.manual_seed(3)
    model = nn.Sequential(SUBCLASSES[name](), nn.Identity())
    cls, x = type(model[0]), torch.randn(3, 2, 4)
    want = model(x)
    with ours.accelerate(model, strict=True) as report:
        torch.testing.assert_close(model(x), want)
        assert isinstance(model[0], cls) and repr(model[0]) == repr(SUBCLASSES[name]())
        for way in COPIES.values():
            twin = way(model)
            assert type(twin[0]) is type(model[0])
            torch.testing.assert_close(twin(x), want)
        assert list(report) == [Row("0", name, None, 1, {})]
    assert type(model[0]) is cls


class Ours(ours.GRU):
    pass


def test_subclasses_of_fastrnns_classes_are_as_good_as_these():
    module = Ours(3, 4)
    report = ours.accelerate(module, strict=True)
    assert list(report) == [Row("", "Ours", None, 0, {})] and type(module) is Ours


def test_parametrized_pruned_and_normalised_after_it_was_accelerated():
    plain, model = Model(), accelerated(Model())
    for each in (plain, model):
        parametrizations.orthogonal(each.encoder["gru"], "weight_hh_l0")
        prune.l1_unstructured(each.lstm, "weight_ih_l0", amount=0.5)
        parametrizations.weight_norm(each.cell, "weight_hh")
    torch.testing.assert_close(output(model), output(plain))
    parametrize.remove_parametrizations(model.cell, "weight_hh")
    assert type(model.cell) is ours.RNNCell
    torch.testing.assert_close(output(model), output(plain))


def test_a_forward_that_was_wrapped_meanwhile_is_not_pulled_from_under_its_wrapper():
    model = nn.Sequential(nn.GRU(3, 4))
    with ours.accelerate(model):
        wrapped = model[0].forward
        model[0].forward = lambda x: wrapped(2 * x)
    x = torch.ones(5, 2, 3)
    torch.testing.assert_close(model(x), model[0].__class__.forward(model[0], 2 * x))
    assert list(ours.report(model)) == [Row("0", "GRU", None, 2, {})]
    with torch.autocast("cpu"):
        model(x)
    assert list(ours.report(model)) == [Row("0", "GRU", None, 2, {"autocast": 1})]


def test_what_has_no_recurrent_modules_is_left_alone():
    model = nn.TransformerEncoderLayer(4, 2, dim_feedforward=4)
    report = ours.accelerate(model, strict=True)
    assert len(report) == 0 and repr(report) == "no recurrent modules"


def test_only_modules_are_accelerated():
    for function in (ours.accelerate, ours.report):
        with pytest.raises(TypeError, match=r"module must be a torch.nn.Module, got list"):
            function([nn.LSTM(3, 4)])


def test_a_report_is_a_table_of_who_ran_what():
    long = type("ALongName" * 5, (nn.LSTM,), {})
    model = nn.ModuleDict({"a" * 50: long(3, 4), "b": nn.GRUCell(3, 4).half(), "c": nn.RNN(3, 4)})
    report = ours.accelerate(model)
    for x in (torch.zeros(2, 1, 3), torch.zeros(2, 3)):
        model["c"](x)
    with torch.autocast("cpu"):
        model["c"](x)
    rows = {row.name: row for row in report}
    assert rows["c"] == Row("c", "RNN", None, 2, {"autocast": 1})
    lines = repr(report).splitlines()
    assert [line.split() for line in lines] == [
        ["module", "class", "runs", "on", "calls", "why"],
        ["…" + "a" * 27, "…ngNameALongName", "fastrnn", "0"],
        ["b", "GRUCell", "PyTorch", "float16", "weights"],
        ["c", "RNN", "fastrnn", "2"],
        ["PyTorch", "1", "autocast"],
    ]
    assert max(map(len, lines)) <= 80


OPTIMIZERS = {
    "sgd": lambda parameters: torch.optim.SGD(parameters, lr=0.5, momentum=0.9),
    "fused": lambda parameters: torch.optim.Adam(parameters, lr=0.05, fused=True),
    "foreach": lambda parameters: torch.optim.AdamW(parameters, lr=0.05, foreach=True),
    "lbfgs": lambda parameters: torch.optim.LBFGS(parameters, lr=0.5, max_iter=3),
}


def train(model, optimizer, steps=4):
    """The losses of some steps, the model and its optimizer made before."""

    def loss():
        optimizer.zero_grad()
        error = nn.functional.cross_entropy(model(TOKENS), TARGETS)
        error.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        return error

    return torch.stack([optimizer.step(loss).detach() for _ in range(steps)])


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_training_goes_on_with_the_optimizer_that_was_there(optimizer, backend):
    plain, model = Model().double(), Model().double()
    theirs, before = (OPTIMIZERS[optimizer](each.parameters()) for each in (plain, model))
    losses = [train(plain, theirs), train(plain, theirs)]
    got = [train(model, before)]
    ours.accelerate(model)
    got.append(train(model, before))
    torch.testing.assert_close(got, losses)


def test_scaled_gradients_averaged_weights_and_frozen_parts():
    results = []
    for prepare in (lambda model: model, accelerated):
        model = prepare(Model())
        model.encoder.requires_grad_(False)
        average = torch.optim.swa_utils.AveragedModel(model)
        optimizer, scaler = torch.optim.SGD(model.parameters(), lr=0.5), torch.amp.GradScaler("cpu")
        for _ in range(3):
            optimizer.zero_grad()
            scaler.scale(nn.functional.cross_entropy(model(TOKENS), TARGETS)).backward()
            scaler.unscale_(optimizer)
            scaler.step(optimizer)
            scaler.update()
            average.update_parameters(model)
        results.append([output(model), output(average)])
    torch.testing.assert_close(*results)


@pytest.mark.parametrize("way", COPIES)
def test_copies_are_accelerated_models_of_their_own(way):
    model = accelerated(Model())
    want = output(model)
    train(model, OPTIMIZERS["sgd"](model.parameters()), 1)
    twin = COPIES[way](model)
    assert classes(twin) == classes(model)
    assert [row.kernel_calls for row in ours.report(twin)] == [0, 0, 0]
    torch.testing.assert_close(output(twin), output(model), rtol=0, atol=0)
    train(twin, OPTIMIZERS["sgd"](twin.parameters()), 1)
    assert not torch.equal(output(twin), output(model))
    twin.load_state_dict(Model().state_dict())
    torch.testing.assert_close(output(twin), want, rtol=0, atol=0)


@pytest.mark.parametrize("way", [(accelerated, nn.Module.train), (nn.Module.train, accelerated)])
def test_state_dicts_go_both_ways(way, tmp_path):
    source, sink = (prepare(Model(seed)) for seed, prepare in enumerate(way))
    torch.save(source.state_dict(), tmp_path / "weights.pt")
    state = torch.load(tmp_path / "weights.pt", weights_only=True)
    assert list(state) == list(Model().state_dict())
    assert "All keys matched" in str(sink.load_state_dict(state))
    torch.testing.assert_close(output(sink), output(source))


def test_functional_calls_and_swapped_parameters():
    model, other = accelerated(Model()), Model(seed=1)
    weights = dict(other.named_parameters())
    torch.testing.assert_close(torch.func.functional_call(model, weights, TOKENS), other(TOKENS))
    torch.testing.assert_close(output(model), output(Model()))
    model.lstm.weight_hh_l0 = other.lstm.weight_hh_l0
    plain = Model()
    plain.lstm.weight_hh_l0 = other.lstm.weight_hh_l0
    torch.testing.assert_close(output(model), output(plain))
    nn.utils.vector_to_parameters(nn.utils.parameters_to_vector(other.parameters()), model.parameters())
    torch.testing.assert_close(output(model), output(other))


def test_data_parallel_on_a_cpu():
    torch.testing.assert_close(output(nn.DataParallel(accelerated(Model()))), output(Model()))
    torch.testing.assert_close(output(accelerated(nn.DataParallel(Model()))), output(Model()))


class Encoded(torch.utils.data.Dataset):
    """Items that a model has made."""

    def __init__(self, model):
        self.model = model

    def __len__(self):
        return len(TOKENS)

    def __getitem__(self, index):
        return output(self.model, TOKENS[index : index + 1])[0]


def test_threads_are_pytorchs():
    torch.set_num_threads(2)
    most = fastrnn.get_num_threads()
    torch.set_num_threads(1)
    assert fastrnn.get_num_threads() == 1 and most <= 2


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_workers_of_a_data_loader_run_an_accelerated_model(start, threads):
    threads(2)
    model = accelerated(Model())
    want = output(model)  # by a team of threads, which a forked worker does not have
    loader = torch.utils.data.DataLoader(Encoded(model), num_workers=1, multiprocessing_context=start)
    torch.testing.assert_close(torch.cat(list(loader)), want)


def elsewhere(function, *arguments):
    """Call one of these functions in a process of its own. Once PyTorch has compiled or exported something,
    its autograd refuses to work in what is forked from there."""
    name = Path(__file__).stem
    code = f"import sys; sys.path.insert(0, sys.argv[1]); import {name}; {name}.torch.set_num_threads(1); "
    code += f"{name}.{function.__name__}(*sys.argv[2:])"
    command = [sys.executable, "-c", code, Path(__file__).parent, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert not done.returncode, done.stderr


def train_shared(model):
    train(model, OPTIMIZERS["sgd"](model.parameters()))


def train_from_a_fork():
    plain, model = Model(), accelerated(Model()).share_memory()
    process = torch.multiprocessing.get_context("fork").Process(target=train_shared, args=(model,))
    process.start()
    process.join(60)
    assert process.exitcode == 0
    train_shared(plain)
    torch.testing.assert_close(output(model), output(plain))


def test_another_process_trains_a_model_in_shared_memory():
    elsewhere(train_from_a_fork)


def one_of_two(rank, store):
    """A process of two, each with half a batch: their gradients are those of the whole batch."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    parallel = nn.parallel.DistributedDataParallel(accelerated(Model()))
    loss = nn.CrossEntropyLoss()
    for half in (TOKENS[:2], TOKENS[2:4]), (TOKENS[2:4], TOKENS[:2]):
        plain = Model()
        loss(plain(torch.cat(half)), TARGETS[:4]).backward()
        parallel.zero_grad()
        loss(parallel(half[rank]), TARGETS[:4].chunk(2)[rank]).backward()
        got, want = ([p.grad for p in model.parameters()] for model in (parallel, plain))
        torch.testing.assert_close(got, want)
    assert all(row.kernel_calls == 2 for row in ours.report(parallel) if row.kind != "RNNCell")
    torch.distributed.barrier()
    # Taken apart, PyTorch's reducer waits for a thread of gloo's, which may wait for the interpreter's lock.
    os._exit(0)


def gradients_of_two(store):
    torch.multiprocessing.start_processes(one_of_two, (store,), nprocs=2, start_method="fork")


def test_gradients_of_two_processes_are_those_of_the_whole_batch(tmp_path):
    elsewhere(gradients_of_two, tmp_path / "store")


@pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning")  # the compiler looks at that of inputs
@pytest.mark.parametrize("first", ["accelerate", "compile"])
def test_compiled_before_or_after(first):
    plain, model = Model(), Model()
    torch.compiler.reset()
    if first == "accelerate":
        ours.accelerate(model)
    compiled = torch.compile(model, backend="aot_eager", fullgraph=first == "accelerate")
    if first == "compile":
        torch.testing.assert_close(output(compiled), output(plain))  # compiled with PyTorch's own classes
        ours.accelerate(compiled)
    losses = [train(each, OPTIMIZERS["sgd"](each.parameters())) for each in (compiled, plain)]
    torch.testing.assert_close(*losses)
    names = [row.name for row in ours.report(compiled)]
    assert names == [f"_orig_mod.{row.name}" for row in ours.report(model)]


class Layers(nn.Sequential):
    def forward(self, x):
        for layer in self:
            x, _ = layer(x)
        return x


def test_subclasses_are_compiled_without_a_break():
    torch.compiler.reset()
    torch.manual_seed(0)
    plain = Layers(Residual(4, 4), nn.GRU(4, 4), nn.GRU(4, 4))
    model = accelerated(copy.deepcopy(plain))
    model[1] = Ours(4, 4)
    model[1].load_state_dict(plain[1].state_dict())
    for each in (plain, model):
        parametrizations.weight_norm(each[2], "weight_hh_l0")
    x = torch.randn(3, 2, 4)
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), plain(x))
