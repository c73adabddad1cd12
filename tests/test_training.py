"""The training loop on a network small enough to follow: one weight, pulled to a target."""

import contextlib
import itertools
import json
import sys

import numpy as np
import pytest

from fastrnn import training
from fastrnn.layers import LSTM, Dropout, Linear, Sequential
from fastrnn.optim import SGD, Adam, AdamW, RMSprop
from fastrnn.training import SCHEDULES, Trainer, cosine


class Point:
    """The network: a weight w and the loss (w - 1)^2."""

    def __init__(self, start=5.0):
        self.parameters = {"w": np.array([start])}
        self.gradients = {"w": np.zeros(1)}

    def take_gradients(self):
        return self.gradients

    def clear_gradients(self):
        pass

    @property
    def w(self):
        return float(self.parameters["w"][0])

    def steps(self, losses=None, count=2):
        for _ in range(3):
            self.gradients = {"w": 2 * (self.parameters["w"] - 1)}
            yield (self.w - 1) ** 2, count


def trainer(point, lr=0.1, epochs=4, **options):
    return Trainer(point, SGD(point.parameters, lr), epochs=epochs, **options)


@pytest.fixture
def point():
    return Point()


def test_trains_and_keeps_a_record_of_every_epoch(point):
    run = trainer(point)
    run.run(point.steps, 6, lambda: (point.w - 1) ** 2)
    assert [record["epoch"] for record in run.history] == [1, 2, 3, 4]
    assert [record["samples"] for record in run.history] == [6, 12, 18, 24]
    losses = [record["validation_loss"] for record in run.history]
    assert losses == sorted(losses, reverse=True) and run.best_epoch == 4
    assert all(record["train_loss"] > record["validation_loss"] for record in run.history)
    assert all(record["samples_per_second"] > 0 for record in run.history)
    seconds = [record["seconds"] for record in run.history]
    assert seconds == sorted(seconds)
    assert 1 < point.w < 2


def test_the_train_loss_is_the_mean_over_samples(point):
    run = trainer(point, lr=0.0, epochs=1)
    run.run(lambda: iter([(1.0, 3), (5.0, 1)]), 4)
    assert run.history[0]["train_loss"] == 2.0
    assert "validation_loss" not in run.history[0]


def test_the_learning_rate_falls_along_a_cosine(point):
    rates = []

    class Recorder(SGD):
        def step(self, gradients):
            rates.append(self.lr)

    Trainer(point, Recorder(point.parameters, 0.5), epochs=2).run(point.steps, 6)
    np.testing.assert_allclose(rates, [0.5 * cosine(done / 6) for done in range(6)], rtol=1e-12)
    assert cosine(0.0) == 1.0 and cosine(0.5) == pytest.approx(0.505) and cosine(1.0) == pytest.approx(0.01)


def test_the_best_weights_are_put_back(point):
    scores, seen = iter([3.0, 1.0, 2.0, 1.0]), []
    run = trainer(point)
    run.run(point.steps, 6, lambda: next(scores), lambda: seen.append(point.w))
    assert run.best_epoch == 2  # the first of equals
    assert point.w == seen[1] != seen[3]


def test_without_validation_the_last_weights_stay(point):
    seen = []
    run = trainer(point)
    run.run(point.steps, 6, None, lambda: seen.append(point.w))
    assert run.best_epoch is None
    assert point.w == seen[-1]


def test_no_epochs_train_nothing(point):
    run = trainer(point, epochs=0)
    run.run(point.steps, 6, lambda: 1.0)
    assert run.history == [] and point.w == 5.0


def test_patience_counts_epochs_without_a_better_score(point):
    scores = iter([3.0, 2.0, 2.5, 1.0, 1.0, 1.5, 0.5])
    run = trainer(point, epochs=10, patience=2)
    run.run(point.steps, 6, lambda: next(scores))
    assert len(run.history) == 6 and run.best_epoch == 4


class Clock:
    """A second passes whenever somebody looks."""

    def __init__(self):
        self.now = 0.0

    def perf_counter(self):
        self.now += 1.0
        return self.now


def test_time_runs_out_within_an_epoch_and_the_learning_rate_with_it(point, monkeypatch):
    monkeypatch.setattr(training, "time", Clock())
    run = trainer(point, epochs=1000, max_seconds=20)
    run.run(lambda: (step for _ in range(100) for step in point.steps()), 600, lambda: 1.0)
    assert len(run.history) == 1
    assert 0 < run.history[0]["samples"] < 40
    assert run.history[0]["validation_loss"] == 1.0
    assert run.history[0]["learning_rate"] < 0.1 * cosine(0.8)


def test_gradients_are_clipped(point):
    run = trainer(point, lr=1.0, epochs=1, clip_norm=0.5)
    run.run(lambda: iter(list(point.steps())[:1]), 2)
    assert point.w == pytest.approx(4.5, rel=1e-5)
    assert run.history[0]["clipped"] == 1.0


def test_a_budget_in_steps(point):
    run = trainer(point, epochs=None, max_steps=5, schedule="step")
    run.run(point.steps, 6)  # three steps an epoch
    assert [record["steps"] for record in run.history] == [3, 5]
    assert run.history[-1]["learning_rate"] == pytest.approx(0.001)  # of the last quarter
    run = trainer(point, epochs=1, max_steps=5)
    run.run(point.steps, 6)
    assert [record["steps"] for record in run.history] == [3]
    with pytest.raises(ValueError, match="epochs can be None only beside max_steps or max_seconds"):
        trainer(point, epochs=None)


def test_the_part_of_clipped_steps_is_recorded(point):
    def steps():
        for gradient in (3.0, 0.1, 0.2, -0.1):
            point.gradients = {"w": np.array([gradient])}
            yield 1.0, 1

    run = trainer(point, epochs=1, clip_norm=0.5)
    run.run(steps, 4)
    assert run.history[0]["clipped"] == 0.25


SHAPES = {
    "constant": [1.0, 1.0, 1.0, 1.0, 1.0],
    "cosine": [1.0, 0.855, 0.505, 0.155, 0.01],
    "step": [1.0, 1.0, 0.1, 0.01, 0.01],
    "warmup": [0.01, None, None, None, 0.01],
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules(name):
    factors = [SCHEDULES[name](progress) for progress in (0.0, 0.25, 0.5, 0.75, 1.0)]
    for factor, expected in zip(factors, SHAPES[name], strict=True):
        assert 0 < factor <= 1
        assert expected is None or factor == pytest.approx(expected, abs=1e-3)


def test_warmup_rises_along_a_line_and_falls_along_a_cosine():
    warmup = SCHEDULES["warmup"]
    assert warmup(0.05) == pytest.approx(0.505)
    assert warmup(0.1) == pytest.approx(1.0)
    assert warmup(0.55) == pytest.approx(cosine(0.5))


def test_the_schedule_is_followed(point):
    run = trainer(point, lr=0.5, epochs=4, schedule="step")
    run.run(point.steps, 6)
    assert [record["learning_rate"] for record in run.history] == pytest.approx([0.5, 0.5, 0.05, 0.005])


@pytest.mark.parametrize("loss", [np.nan, np.inf])
def test_a_loss_that_is_not_finite_stops_it(point, loss):
    run = trainer(point)
    with pytest.raises(FloatingPointError, match=f"the loss became {loss} at step 2, in epoch 1: a lower"):
        run.run(lambda: iter([(1.0, 2), (loss, 2)]), 4)


@pytest.mark.parametrize("clip_norm", [1.0, None])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_gradient_that_is_not_finite_is_named_and_does_not_reach_the_weights(bad, clip_norm):
    point = Point()
    point.parameters["head.bias"] = np.zeros(3, np.float32)

    def steps():
        for slope in (1.0, bad):
            point.gradients = {"w": np.ones(1), "head.bias": np.array([0, slope, 0], np.float32)}
            yield 1.0, 1

    error = f"the gradient of head.bias became {bad} at step 2, in epoch 1"
    with pytest.raises(FloatingPointError, match=error):
        trainer(point, clip_norm=clip_norm).run(steps, 2)
    assert point.w == 5.0 and not point.parameters["head.bias"].any()  # as they were before the epoch


def test_finite_gradients_with_too_great_a_norm_are_told_apart(point):
    point.gradients = {"w": np.array([1e200])}
    with pytest.raises(FloatingPointError, match="the norm of the gradients became inf at step 1"):
        trainer(point).run(lambda: iter([(1.0, 2)]), 2)


@pytest.mark.parametrize("validated", [True, False])
def test_after_divergence_the_weights_are_the_last_good_ones(point, validated):
    """Without validation those at the end of the epoch before, with validation the best."""
    seen, scores = [], iter([1.0, 2.0])
    epochs = iter([point.steps(), point.steps(), iter([(1.0, 2), (np.nan, 2)])])
    validate = (lambda: next(scores)) if validated else None
    with pytest.raises(FloatingPointError, match="at step 8, in epoch 3"):
        trainer(point).run(lambda: next(epochs), 6, validate, lambda: seen.append(point.w))
    assert point.w == seen[0 if validated else 1]


class Noisy(Point):
    """Its gradients depend on random numbers, and its optimizer on all before."""

    def __init__(self):
        super().__init__()
        self.rng = np.random.default_rng(5)

    def steps(self):
        for _ in range(3):
            self.gradients = {"w": 2 * (self.parameters["w"] - 1) + self.rng.normal(size=1)}
            yield (self.w - 1) ** 2, 2

    def trainer(self, **options):
        settings = {"epochs": 6, "clip_norm": 4.0, "rng": self.rng, **options}
        return Trainer(self, Adam(self.parameters, settings.pop("lr", 0.1)), **settings)

    def validate(self):
        return abs(self.w - 4.5)  # passed by early on: the best weights are not the last


def timeless(history):
    return [{key: value for key, value in r.items() if "second" not in key} for r in history]


@pytest.mark.parametrize("stop", range(1, 7))
@pytest.mark.parametrize("validated", [True, False])
def test_resuming_is_bit_equal_to_never_having_stopped(tmp_path, stop, validated):
    whole = Noisy()
    reference = whole.trainer()
    reference.run(whole.steps, 6, whole.validate if validated else None)

    first = Noisy()
    stopped = first.trainer()

    def on_epoch():
        stopped.save(tmp_path / "run")
        if len(stopped.history) == stop:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped.run(first.steps, 6, first.validate if validated else None, on_epoch)

    second = Noisy()
    second.rng.normal(size=17)  # somewhere else
    second.parameters["w"][:] = 99
    going_on = second.trainer()
    going_on.resume(tmp_path / "run")
    assert len(going_on.history) == stop
    going_on.run(second.steps, 6, second.validate if validated else None)
    assert second.w == whole.w
    assert timeless(going_on.history) == timeless(reference.history)
    assert going_on.best_epoch == reference.best_epoch
    seconds = [record["seconds"] for record in going_on.history]
    assert seconds == sorted(seconds)


def test_a_checkpoint_outlives_divergence(tmp_path):
    point = Noisy()
    run = point.trainer()
    epochs = iter([point.steps(), iter([(1.0, 2), (np.nan, 2)])])
    with pytest.raises(FloatingPointError):
        run.run(lambda: next(epochs), 6, None, lambda: run.save(tmp_path / "run"))
    again = Noisy()
    going_on = again.trainer()
    going_on.resume(tmp_path / "run")
    assert len(going_on.history) == 1 and again.w == point.w


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"lr": 0.2}, "it has learning_rate = 0.1 instead of 0.2"),
        ({"schedule": "constant"}, "schedule = 'cosine' instead of 'constant'"),
        ({"clip_norm": None}, "clip_norm = 4.0 instead of None"),
    ],
)
def test_another_trainings_checkpoint_is_refused(tmp_path, options, error):
    point = Noisy()
    run = point.trainer()
    run.run(point.steps, 6, None, lambda: run.save(tmp_path / "run"))
    with pytest.raises(ValueError, match=error):
        Noisy().trainer(**options).resume(tmp_path / "run")
    other = Noisy()
    other.parameters["w"] = np.zeros(2)
    with pytest.raises(ValueError, match=r"'weights\.w' must have shape \(2,\), got \(1,\)"):
        other.trainer().resume(tmp_path / "run")
    with pytest.raises(ValueError, match="optimizer = 'Adam' instead of 'SGD'"):
        Trainer(other, SGD(other.parameters, 0.1), epochs=6, clip_norm=4.0).resume(tmp_path / "run")


def test_a_checkpoint_can_be_gone_on_from_for_more_epochs(tmp_path):
    point = Noisy()
    run = point.trainer(epochs=2, schedule="constant")
    run.run(point.steps, 6, None, lambda: run.save(tmp_path / "run"))
    longer = Noisy()
    going_on = longer.trainer(epochs=4, schedule="constant")
    going_on.resume(tmp_path / "run")
    going_on.run(longer.steps, 6)
    whole = Noisy()
    whole.trainer(epochs=4, schedule="constant").run(whole.steps, 6)
    assert longer.w == whole.w


def test_a_validation_loss_that_is_not_finite_stops_it(point):
    with pytest.raises(FloatingPointError, match="the validation loss became nan at step 3, in epoch 1"):
        trainer(point).run(point.steps, 6, lambda: np.nan)


def interrupted(point, steps):
    """An epoch that Ctrl-C ends after some steps."""
    for _, step in zip(range(steps), point.steps(), strict=False):
        yield step
    raise KeyboardInterrupt


def test_an_interrupt_puts_the_best_weights_back_and_is_passed_on(point):
    epochs, scores, seen = iter([point.steps(), point.steps(), interrupted(point, 1)]), iter([1.0, 2.0]), []
    run = trainer(point)
    with pytest.raises(KeyboardInterrupt):
        run.run(lambda: next(epochs), 6, lambda: next(scores), lambda: seen.append(point.w))
    assert len(run.history) == 2
    assert point.w == seen[0]


def test_an_interrupt_before_any_validation_leaves_the_weights(point):
    with pytest.raises(KeyboardInterrupt):
        trainer(point).run(lambda: interrupted(point, 3), 6, lambda: 1.0)
    assert 1 < point.w < 5


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [
        ("epochs", -1, "a non-negative integer"),
        ("epochs", 2.0, "a non-negative integer"),
        ("clip_norm", float("nan"), "a positive finite number"),
        ("clip_norm", 0, "a positive finite number"),
        ("patience", 0, "a positive integer"),
        ("max_seconds", float("inf"), "a positive finite number"),
    ],
)
def test_bad_options_are_refused(point, option, value, expected):
    with pytest.raises((TypeError, ValueError), match=f"{option} must be {expected}, got {value}"):
        trainer(point, **{option: value})


class Terminal:
    def __init__(self, terminal):
        self.text, self.terminal = "", terminal

    def isatty(self):
        return self.terminal

    def write(self, text):
        self.text += text

    def flush(self):
        pass


@pytest.mark.parametrize(("terminal", "describe"), [(False, str), (True, None)])
def test_no_progress_bar_where_nobody_sees_or_wants_it(point, monkeypatch, terminal, describe):
    monkeypatch.setattr(sys, "stderr", Terminal(terminal))
    monkeypatch.setitem(sys.modules, "tqdm", None)
    trainer(point, describe=describe).run(point.steps, 6)
    assert sys.stderr.text == ""


def test_the_progress_bar_shows_epoch_speed_and_loss(point, monkeypatch):
    pytest.importorskip("tqdm")
    monkeypatch.setattr(sys, "stderr", Terminal(True))
    trainer(point, epochs=2, unit="letter", describe=lambda loss: f"loss {loss:.3f}").run(point.steps, 6)
    assert "epoch 1/2" in sys.stderr.text and "epoch 2/2" in sys.stderr.text
    assert " letters" in sys.stderr.text


def test_a_missing_tqdm_names_the_extra(point, monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal(True))
    monkeypatch.setitem(sys.modules, "tqdm", None)
    with pytest.raises(ImportError, match=r"pip install 'fastrnn\[progress\]'"):
        trainer(point, describe=str).run(point.steps, 6)


# -- what users give and do


class Line:
    """A network with dropout seeded by an int, and data in an order that the trainer's generator draws."""

    def __init__(self, order=None, dropout=0.5):
        self.network = Sequential(Linear(3, 4, seed=0), Dropout(dropout, seed=7), Linear(4, 1, seed=0))
        self.order = np.random.default_rng(1) if order is None else np.random.Generator(order)
        self.x = np.linspace(-1, 1, 24, dtype="float32").reshape(8, 3)

    def steps(self):
        for rows in self.order.permutation(8).reshape(4, 2):
            y, back = self.network.forward(self.x[rows])
            back(2 * (y - 1) / y.size)
            yield np.mean((y - 1) ** 2), np.int64(2)

    def trainer(self, **options):
        return Trainer(
            self.network, Adam(self.network.parameters, 0.05), **{"epochs": 4, "rng": self.order, **options}
        )

    def validate(self):
        return np.square(self.network(self.x) - 1).mean()


GENERATORS = {
    "PCG64": np.random.PCG64,
    "MT19937": np.random.MT19937,
    "Philox": np.random.Philox,
    "SFC64": np.random.SFC64,
    "PCG64DXSM": np.random.PCG64DXSM,
}


@pytest.mark.parametrize("kind", GENERATORS.values(), ids=GENERATORS)
def test_every_generator_goes_on_with_the_same_bits(tmp_path, kind):
    """The one of the order, of any kind, and that of a dropout which was seeded by an int."""
    whole = Line(kind(3))
    whole.trainer().run(whole.steps, 8, whole.validate)

    first = Line(kind(3))
    stopped = first.trainer()

    def stop():
        stopped.save(tmp_path / "run")
        if len(stopped.history) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped.run(first.steps, 8, first.validate, stop)

    second = Line(kind(99))
    second.order.random(5)
    second.network.forward(second.x)  # draws a mask
    going_on = second.trainer()
    going_on.resume(tmp_path / "run")
    going_on.run(second.steps, 8, second.validate)
    for name, array in whole.network.parameters.items():
        np.testing.assert_array_equal(second.network.parameters[name], array)


def test_a_recurrent_layers_own_generator_goes_on_too(tmp_path):
    x = np.linspace(-1, 1, 60, dtype="float32").reshape(10, 2, 3)

    def make(epochs, seed=7):
        lstm = LSTM(3, 4, 2, dropout=0.3, recurrent_dropout=0.2, seed=seed)

        def steps():
            for _ in range(2):
                y, _, back = lstm.forward(x)
                back(y)
                yield 1.0, 2

        return Trainer(lstm, Adam(lstm.parameters), epochs=epochs, schedule="constant"), steps

    whole, steps = make(4)
    whole.run(steps, 4)
    first, steps = make(2)
    first.run(steps, 4, None, lambda: first.save(tmp_path / "run"))
    second, steps = make(4, seed=8)
    second.resume(tmp_path / "run")
    second.run(steps, 4)
    for name, array in whole.network.parameters.items():
        np.testing.assert_array_equal(second.network.parameters[name], array)


def test_generators_are_found_in_whatever_holds_a_layer():
    rng = np.random.default_rng(0)

    class Part:
        def __init__(self, layer):
            self.layers, self.numpy, self.whole = {"only": [layer]}, np, self

    class Whole(Part):
        def __init__(self):
            self.encoder, self.head = Part(LSTM(3, 4, 2, dropout=0.3, seed=rng)), Linear(4, 1, seed=rng)

        parameters = property(lambda self: self.head.parameters)
        take_gradients = None

    network = Whole()
    (state,) = Trainer(network, SGD(network.parameters, 0.1), epochs=1).state_dict()[1]["generators"]
    assert state == rng.bit_generator.state


def test_another_kind_or_number_of_generators_is_refused(tmp_path):
    first = Line()
    first.trainer().save(tmp_path / "run")
    with pytest.raises(
        ValueError, match=r"generators = \['PCG64', 'PCG64'\] instead of \['SFC64', 'PCG64'\]"
    ):
        Line(np.random.SFC64(1)).trainer().resume(tmp_path / "run")
    with pytest.raises(ValueError, match=r"generators = \['PCG64', 'PCG64'\] instead of \['PCG64'\]"):
        Line().trainer(rng=None).resume(tmp_path / "run")


def test_the_state_is_a_snapshot():
    line = Line(dropout=0.0)
    run, states = line.trainer(), []
    run.run(line.steps, 8, line.validate, lambda: states.append(run.state_dict()))
    for array in states[3][0].values():
        array[...] = 0  # a copy
    again = Line(dropout=0.0)
    going_on = again.trainer()
    going_on.load_state_dict(*states[1])
    assert [len(metadata["history"]) for _, metadata in states] == [1, 2, 3, 4]
    going_on.run(again.steps, 8, again.validate)
    assert len(going_on.history) == 4 and len(states[1][1]["history"]) == 2
    for name, array in line.network.parameters.items():
        np.testing.assert_array_equal(again.network.parameters[name], array)


OPTIONS = {
    "betas": (AdamW, {"betas": (0.5, 0.6)}, r"betas = \[0.5, 0.6\] instead of \[0.9, 0.999\]"),
    "eps": (Adam, {"eps": 1e-3}, "eps = 0.001 instead of 1e-08"),
    "weight_decay": (AdamW, {"weight_decay": 0.5}, "weight_decay = 0.5 instead of 0.01"),
    "momentum": (SGD, {"lr": 0.1, "momentum": 0.9}, "momentum = 0.9 instead of 0.5"),
    "SGD's weight_decay": (SGD, {"lr": 0.1, "weight_decay": 0.1}, "weight_decay = 0.1 instead of 0.0"),
    "alpha": (RMSprop, {"alpha": 0.5}, "alpha = 0.5 instead of 0.99"),
}


@pytest.mark.parametrize(("kind", "options", "error"), OPTIONS.values(), ids=OPTIONS)
def test_every_option_of_the_optimizer_must_be_the_same(point, tmp_path, kind, options, error):
    Trainer(point, kind(point.parameters, **options), epochs=1).save(tmp_path / "run")
    other = {"lr": 0.1, "momentum": 0.5 if "momentum" in options else 0.0} if kind is SGD else {}
    with pytest.raises(ValueError, match=error):
        Trainer(point, kind(point.parameters, **other), epochs=1).resume(tmp_path / "run")
    Trainer(point, kind(point.parameters, **options), epochs=1).resume(tmp_path / "run")


@pytest.mark.parametrize(
    "value", [0.25, np.float32(0.25), np.float64(0.25), np.array(0.25), np.array(0.25, "f4")]
)
def test_losses_of_numpy_become_floats(point, tmp_path, value):
    run = trainer(point, lr=0.0, epochs=1)
    run.run(lambda: iter([(value, 3)]), 3, lambda: value, lambda: run.save(tmp_path / "run"))
    assert type(run.history[0]["train_loss"]) is type(run.history[0]["validation_loss"]) is float
    assert run.history[0]["train_loss"] == run.history[0]["validation_loss"] == 0.25
    json.dumps(run.history)


def test_losses_of_pytorch_too(point):
    torch = pytest.importorskip("torch")
    run = trainer(point, lr=0.0, epochs=1)
    run.run(lambda: iter([(torch.tensor(0.25), 3)]), 3)
    assert run.history[0]["train_loss"] == 0.25


def test_the_mean_of_an_epoch_is_summed_in_double_precision(point):
    run = trainer(point, lr=0.0, epochs=1)
    run.run(lambda: ((np.float32(0.1), 1) for _ in range(10_000)), 10_000)
    assert run.history[0]["train_loss"] == pytest.approx(float(np.float32(0.1)), rel=1e-12)


@pytest.mark.parametrize("value", [None, "one", np.ones(1), np.ones((2, 2)), 1j])
def test_a_loss_that_is_no_number_is_refused(point, value):
    with pytest.raises(TypeError, match="the loss must be a number, got"):
        trainer(point).run(lambda: iter([(value, 2)]), 6)
    with pytest.raises(TypeError, match="the validation loss must be a number, got"):
        trainer(point).run(point.steps, 6, lambda: value)


@pytest.mark.parametrize("count", [2.0, None, -1, True])
def test_a_count_that_is_none_is_refused(point, count):
    with pytest.raises((TypeError, ValueError), match="a loss's count must be a non-negative integer, got"):
        trainer(point).run(lambda: iter([(1.0, count)]), 6)


@pytest.mark.parametrize("samples", [0, -3, 6.0, None])
def test_samples_that_are_none_are_refused(point, samples):
    with pytest.raises((TypeError, ValueError), match="samples must be a positive integer, got"):
        trainer(point).run(point.steps, samples)


@pytest.mark.parametrize("name", ["steps", "validate", "on_epoch"])
def test_what_cannot_be_called_is_refused_before_the_first_step(point, name):
    given = {"steps": point.steps, "samples": 6, name: iter(())}
    with pytest.raises(TypeError, match=f"{name} must be a function, .* got .* of type tuple_iterator"):
        trainer(point).run(**given)
    assert point.w == 5.0


@pytest.mark.parametrize("rng", [3, np.random.RandomState(0)])
def test_a_generator_that_the_state_cannot_have_is_refused(point, rng):
    with pytest.raises(TypeError, match=r"rng must be a numpy\.random\.Generator or None, got"):
        trainer(point, rng=rng)


def test_more_samples_than_said_are_refused_before_the_rate_rises_again(point):
    """The slip of a user who passes the number of batches."""
    run = trainer(point, lr=0.0)
    error = "samples must be those of a whole epoch, got 3, but epoch 1 has come to 4 by its step 2"
    with pytest.raises(ValueError, match=error):
        run.run(point.steps, 3)
    assert run.history == [] and point.w == 5.0


def test_fewer_samples_than_said_are_fine(point):
    run = trainer(point, epochs=2)
    run.run(point.steps, 7)
    assert [record["samples"] for record in run.history] == [6, 12]


@pytest.mark.parametrize("epoch", [1, 2])
def test_an_epoch_without_samples_is_refused(point, epoch):
    used_up = iter(list(point.steps())) if epoch == 2 else iter(())
    with pytest.raises(
        ValueError, match=f"epoch {epoch} had no samples: steps must begin an epoch each time"
    ):
        trainer(point).run(lambda: used_up, 6)
    with pytest.raises(ValueError, match="epoch 1 had no samples"):
        trainer(point).run(lambda: iter([(1.0, 0)]), 6)


def test_patience_without_validation_is_refused(point):
    with pytest.raises(ValueError, match="validate must be given if there is patience, which is 2"):
        trainer(point, patience=2).run(point.steps, 6)
    assert point.w == 5.0


def test_there_is_at_least_one_step_however_short_the_time(point):
    run = trainer(point, max_seconds=1e-9)
    run.run(point.steps, 6, lambda: 1.0)
    assert [record["samples"] for record in run.history] == [2]
    assert point.w != 5.0


def test_a_step_without_a_way_back_is_an_error():
    line = Line()
    before = line.network.state_dict()

    def steps():
        yield from itertools.islice(line.steps(), 1)
        yield 1.0, 2

    run = line.trainer(epochs=1)
    with pytest.raises(RuntimeError, match=r"Sequential has no gradients of 0\.weight, .*: back must run"):
        run.run(steps, 8)
    for name, array in before.items():
        np.testing.assert_array_equal(line.network.parameters[name], array)


def test_gradients_of_a_step_that_failed_are_not_added_to_the_next(rng):
    line, same = Line(dropout=0.0), Line(dropout=0.0)
    _, back = line.network.forward(line.x)
    back(np.full((8, 1), np.nan, "float32"))
    for each in line, same:
        each.trainer(epochs=1).run(each.steps, 8)
    for name, array in same.network.parameters.items():
        np.testing.assert_array_equal(line.network.parameters[name], array)


def test_the_optimizer_must_be_the_networks(point):
    other = Point()
    for optimizer in (
        SGD(other.parameters, 0.1),
        SGD({}, 0.1),
        SGD({**point.parameters, "b": np.ones(1)}, 0.1),
    ):
        with pytest.raises(ValueError, match="the optimizer must be over the network's own arrays"):
            Trainer(point, optimizer, epochs=1)


def test_a_network_must_give_its_gradients(point):
    with pytest.raises(TypeError, match=r"network must have parameters and take_gradients\(\), got"):
        Trainer(point.parameters, SGD(point.parameters, 0.1), epochs=1)


def averages(optimizer):
    return {name: array.tolist() for name, array in optimizer.state_dict().items() if name != "lr"}


@pytest.mark.parametrize("error", [None, KeyboardInterrupt, MemoryError, FloatingPointError])
def test_weights_and_optimizer_go_back_to_the_best_epoch_together(error):
    line = Line(dropout=0.0)
    run, seen, scores = line.trainer(epochs=6), [], iter([3.0, 1.0, 2.0, 4.0, 5.0, 6.0])

    def on_epoch():
        seen.append((line.network.state_dict(), averages(run.optimizer)))

    def steps():
        for number, step in enumerate(line.steps()):
            if error is not None and len(seen) == 4 and number == 2:
                raise error
            yield step

    with pytest.raises(error) if error else contextlib.nullcontext():
        run.run(steps, 8, lambda: next(scores), on_epoch)
    weights, state = seen[1]
    assert averages(run.optimizer) == state and state["step"] == 8
    assert run.optimizer.lr == 0.05
    for name, array in weights.items():
        np.testing.assert_array_equal(line.network.parameters[name], array)
        np.testing.assert_array_equal(run.best_weights[name], array)


def test_the_best_state_of_the_optimizer_outlives_a_stop(tmp_path):
    """The best epoch is before the stop: what comes back at the end has to be in the file."""

    def run(stop=None, resume=False):
        line = Line()
        run = line.trainer()

        def on_epoch():
            run.save(tmp_path / "run")
            if len(run.history) == stop:
                raise KeyboardInterrupt

        if resume:
            run.resume(tmp_path / "run")
        with pytest.raises(KeyboardInterrupt) if stop else contextlib.nullcontext():
            run.run(line.steps, 8, lambda: 1.0 + len(run.history), on_epoch)
        return averages(run.optimizer)

    whole = run()
    assert run(stop=3)["step"] == run(resume=True)["step"] == 4
    assert run(resume=True) == whole


@pytest.mark.parametrize("where", ["steps", "on_epoch"])
def test_after_an_error_without_validation_they_are_as_after_the_last_epoch(where):
    line = Line()
    run, seen = line.trainer(), []

    def on_epoch():
        seen.append((line.network.state_dict(), averages(run.optimizer)))
        if where == "on_epoch" and len(seen) == 2:
            raise OSError("disk full")

    def steps():
        for step in line.steps():
            if where == "steps" and len(seen) == 2:
                raise OSError("disk full")
            yield step

    with pytest.raises(OSError, match="disk full"):
        run.run(steps, 8, None, on_epoch)
    weights, state = seen[1]
    assert averages(run.optimizer) == state
    for name, array in weights.items():
        np.testing.assert_array_equal(line.network.parameters[name], array)
