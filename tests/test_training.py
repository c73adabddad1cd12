"""The training loop on a network small enough to follow: one weight, pulled to a target."""

import contextlib
import copy
import itertools
import json
import math
import re
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from fastrnn import checkpoint
from fastrnn.layers import LSTM, RNN, Composite, Dropout, Linear, Sequential
from fastrnn.losses import mean_squared_error
from fastrnn.optim import SGD, Adam, AdamW, RMSprop
from fastrnn.training import SCHEDULES, StopTraining, fit, run
from fastrnn.training.progress import line
from fastrnn.training.schedules import cosine


class Point:
    """The network: a weight w and the loss (w - 1)^2; a batch is a count, or what loss returns."""

    def __init__(self, start=5.0):
        self.parameters = {"w": np.array([start])}
        self.clear_gradients()

    def take_gradients(self):
        taken = self.gradients
        self.clear_gradients()
        if taken.keys() != self.parameters.keys():
            raise RuntimeError("back must run")
        return taken

    def clear_gradients(self):
        self.gradients = {}

    @property
    def w(self):
        return float(self.parameters["w"][0])

    def loss(self, batch, state, *, training):
        if isinstance(batch, BaseException):
            raise batch
        self.gradients = {"w": 2 * (self.parameters["w"] - 1)}
        return ((self.w - 1) ** 2, batch, None) if isinstance(batch, int) else (*batch, None)


class Epochs:
    """A dataset: the batches of each epoch, from a function."""

    def __init__(self, epoch=lambda: [2, 2, 2], samples=6):
        self.epoch, self.samples = epoch, samples

    def batches(self, rng):
        return iter(self.epoch())


def train(point, data=None, lr=0.1, epochs=4, score=None, **options):
    """`fit`, with a function for the validation loss."""
    metrics = None if score is None else lambda _: {"validation_loss": score()}
    data = Epochs(data, options.pop("samples", 6)) if callable(data) else data or Epochs()
    optimizer = options.pop("optimizer", None) or SGD(point.parameters, lr)
    return fit(point, data, optimizer=optimizer, epochs=epochs, metrics=metrics, **options)


@pytest.fixture
def point():
    return Point()


def test_trains_and_keeps_a_record_of_every_epoch(point):
    history = train(point, validation=Epochs()).history
    assert [record["epoch"] for record in history] == [1, 2, 3, 4]
    assert [record["samples"] for record in history] == [6, 12, 18, 24]
    assert [record["steps"] for record in history] == [3, 6, 9, 12]
    losses = [record["validation_loss"] for record in history]
    assert losses == sorted(losses, reverse=True)
    assert all(record["train_loss"] > record["validation_loss"] for record in history)
    assert all(record["samples_per_second"] > 0 for record in history)
    seconds = [record["seconds"] for record in history]
    assert seconds == sorted(seconds)
    assert 1 < point.w < 2


def test_the_losses_are_means_over_samples(point):
    data = Epochs(lambda: [(1.0, 3), (5.0, 1)], 4)
    (record,) = train(point, data, lr=0.0, epochs=1, validation=data).history
    assert record["train_loss"] == record["validation_loss"] == 2.0
    assert "validation_loss" not in train(point, epochs=1).history[0]


class Recorder(SGD):
    def step(self, gradients):
        self.rates = [*getattr(self, "rates", []), self.lr]


def test_the_learning_rate_falls_along_a_cosine(point):
    optimizer = Recorder(point.parameters, 0.5)
    train(point, optimizer=optimizer, epochs=2)
    np.testing.assert_allclose(optimizer.rates, [0.5 * cosine(done / 6) for done in range(6)], rtol=1e-12)
    assert cosine(0.0) == 1.0 and cosine(0.5) == pytest.approx(0.505) and cosine(1.0) == pytest.approx(0.01)


def test_where_the_size_of_data_is_not_known_it_is_that_of_the_epoch_before(point):
    optimizer = Recorder(point.parameters, 1.0)
    train(point, optimizer=optimizer, epochs=2, samples=None, data=lambda: [2, 2, 2], schedule=lambda p: p)
    np.testing.assert_allclose(optimizer.rates, [0, 0, 0, 1 / 2, 2 / 3, 5 / 6], rtol=1e-12)


def test_the_rate_of_a_step_of_several_batches_is_that_of_the_first(point):
    optimizer = Recorder(point.parameters, 1.0)
    train(point, optimizer=optimizer, epochs=2, accumulate=2, schedule=lambda p: p)  # three batches an epoch
    np.testing.assert_allclose(optimizer.rates, [0, 1 / 3, 1 / 2, 5 / 6], rtol=1e-12)


def test_a_schedule_of_ones_own(point):
    optimizer = Recorder(point.parameters, 2.0)
    train(point, optimizer=optimizer, epochs=None, max_steps=4, schedule=lambda progress: 1 - progress)
    np.testing.assert_allclose(optimizer.rates, [2.0, 1.5, 1.0, 0.5])
    assert optimizer.lr == 2.0


def test_the_best_weights_are_put_back(point):
    scores, seen = iter([3.0, 1.0, 2.0, 1.0]), []
    training = train(point, score=lambda: next(scores), callbacks=lambda _: seen.append(point.w))
    assert training.best_epoch == 2  # the first of equals
    assert point.w == seen[1] != seen[3]


def test_without_validation_the_last_weights_stay(point):
    seen = []
    training = train(point, callbacks=lambda _: seen.append(point.w))
    assert training.best_epoch is None
    assert point.w == seen[-1]


def test_no_epochs_train_nothing(point):
    assert train(point, epochs=0, score=lambda: 1.0).history == [] and point.w == 5.0


def test_patience_counts_epochs_without_a_better_score(point):
    scores = iter([3.0, 2.0, 2.5, 1.0, 1.0, 1.5, 0.5])
    training = train(point, epochs=10, patience=2, score=lambda: next(scores))
    assert len(training.history) == 6 and training.best_epoch == 4
    scores = iter([2.0, 1.0, 1.5])
    assert len(train(point, epochs=10, patience=1, score=lambda: next(scores)).history) == 3


def test_a_metric_can_be_monitored(point):
    errors, seen = iter([0.5, 0.25, 0.3]), []
    training = fit(
        point,
        Epochs(),
        validation=Epochs(),
        optimizer=SGD(point.parameters, 0.1),
        epochs=3,
        metrics=lambda network: {"error": np.float32(next(errors)), "w": network.w},
        monitor="error",
        callbacks=lambda training: seen.append(training.network.w),
    )
    assert [record["error"] for record in training.history] == [0.5, 0.25, np.float32(0.3)]
    assert [record["w"] for record in training.history] == seen
    assert training.best_epoch == 2 and point.w == seen[1]
    json.dumps(training.history)
    with pytest.raises(ValueError, match=r"monitor must be one of .*train_loss.*, got 'eror'"):
        train(point, score=lambda: 1.0, monitor="eror")


class Clock:
    """A second passes whenever somebody looks."""

    def __init__(self):
        self.now = 0.0

    def perf_counter(self):
        self.now += 1.0
        return self.now


def test_time_runs_out_within_an_epoch_and_the_learning_rate_with_it(point, monkeypatch):
    monkeypatch.setattr(run, "time", Clock())
    (record,) = train(
        point, lambda: [2] * 300, samples=600, epochs=1000, max_seconds=20, score=lambda: 1.0
    ).history
    assert 0 < record["samples"] < 40
    assert record["validation_loss"] == 1.0
    assert record["learning_rate"] < 0.1 * cosine(0.8)


def test_gradients_are_clipped(point):
    (record,) = train(point, lambda: [2], lr=1.0, epochs=1, clip_norm=0.5).history
    assert point.w == pytest.approx(4.5, rel=1e-5)
    assert record["clipped"] == 1.0


def test_a_budget_in_steps(point):
    history = train(point, epochs=None, max_steps=5, schedule="step").history  # three steps an epoch
    assert [record["steps"] for record in history] == [3, 5]
    assert history[-1]["learning_rate"] == pytest.approx(0.001)  # of the last quarter
    assert [record["steps"] for record in train(point, epochs=1, max_steps=5).history] == [3]
    with pytest.raises(ValueError, match="epochs can be None only beside max_steps or max_seconds"):
        train(point, epochs=None)


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
    history = train(point, lr=0.5, schedule="step").history
    assert [record["learning_rate"] for record in history] == pytest.approx([0.5, 0.5, 0.05, 0.005])


# -- what is not finite


@pytest.mark.parametrize("loss", [np.nan, np.inf])
def test_a_loss_that_is_not_finite_stops_it(point, loss):
    with pytest.raises(FloatingPointError, match=f"the loss became {loss} at step 2, in epoch 1: a lower"):
        train(point, lambda: [(1.0, 2), (loss, 2)], samples=4)
    with pytest.raises(FloatingPointError, match=f"validation loss became {loss} at step 3, in epoch 1"):
        train(point, score=lambda: loss)
    with pytest.raises(FloatingPointError, match=f"the validation loss became {loss} at step 3, in epoch 1"):
        train(point, validation=Epochs(lambda: [(loss, 2)]))


class Bent(Point):
    """A batch is the gradient of a second array."""

    def __init__(self):
        super().__init__()
        self.parameters["head.bias"] = np.zeros(3, np.float32)

    def loss(self, batch, state, *, training):
        self.gradients = {"w": np.ones(1), "head.bias": np.array([0, batch, 0], np.float32)}
        return 1.0, 1, None


@pytest.mark.parametrize("clip_norm", [1.0, None])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_gradient_that_is_not_finite_is_named_and_does_not_reach_the_weights(bad, clip_norm):
    point = Bent()
    error = f"the gradient of head.bias became {bad} at step 2, in epoch 1"
    with pytest.raises(FloatingPointError, match=error):
        train(point, lambda: [1.0, bad], clip_norm=clip_norm)
    assert point.w == 5.0 and not point.parameters["head.bias"].any()  # as they were before the epoch


def test_finite_gradients_with_too_great_a_norm_are_told_apart():
    point = Bent()
    point.parameters["head.bias"] = np.zeros(3)
    point.loss = lambda batch, state, training: (
        point.gradients.update({"w": np.array([1e200]), "head.bias": np.zeros(3)}) or 1.0,
        2,
        None,
    )
    with pytest.raises(FloatingPointError, match="the norm of the gradients became inf at step 1"):
        train(point)


@pytest.mark.parametrize("validated", [True, False])
def test_after_divergence_the_weights_are_the_last_good_ones(point, validated):
    """Without validation those at the end of the epoch before, with validation the best."""
    seen, scores = [], iter([1.0, 2.0])
    epochs = iter([[2, 2, 2], [2, 2, 2], [(1.0, 2), (np.nan, 2)]])
    score = (lambda: next(scores)) if validated else None
    with pytest.raises(FloatingPointError, match="at step 8, in epoch 3"):
        train(point, lambda: next(epochs), score=score, callbacks=lambda _: seen.append(point.w))
    assert point.w == seen[0 if validated else 1]


# -- going on


class Noisy(Point):
    """Its gradients depend on random numbers, and its optimizer on all before."""

    def __init__(self):
        super().__init__()
        self.rng = np.random.default_rng(5)

    def loss(self, batch, state, *, training):
        found = super().loss(batch, state, training=training)
        self.gradients["w"] += self.rng.normal(size=1)
        return found

    def fit(self, data=None, validated=False, **options):
        score = (
            (lambda: abs(self.w - 4.5)) if validated else None
        )  # passed by early on: the best are not last
        settings = {"epochs": 6, "clip_norm": 4.0, "seed": self.rng, **options}
        optimizer = Adam(self.parameters, settings.pop("lr", 0.1))
        return train(self, data, optimizer=settings.pop("optimizer", optimizer), score=score, **settings)


def timeless(history):
    return [{key: value for key, value in r.items() if "second" not in key} for r in history]


def interrupt(stop):
    def callback(training):
        if len(training.history) == stop:
            raise KeyboardInterrupt

    return callback


@pytest.mark.parametrize("stop", range(1, 7))
@pytest.mark.parametrize("validated", [True, False])
def test_resuming_is_bit_equal_to_never_having_stopped(tmp_path, stop, validated):
    whole, first, second = Noisy(), Noisy(), Noisy()
    reference = whole.fit(validated=validated)
    with pytest.raises(KeyboardInterrupt):
        first.fit(validated=validated, checkpoint=tmp_path / "run", callbacks=interrupt(stop))
    second.rng.normal(size=17)  # somewhere else
    second.parameters["w"][:] = 99
    going_on = second.fit(validated=validated, resume=tmp_path / "run")
    assert second.w == whole.w
    assert timeless(going_on.history) == timeless(reference.history)
    assert going_on.best_epoch == reference.best_epoch
    seconds = [record["seconds"] for record in going_on.history]
    assert seconds == sorted(seconds)


def test_resume_auto_goes_on_where_there_is_a_file(tmp_path):
    whole = Noisy()
    whole.fit()
    for stop in (2, 4, None):
        point = Noisy()
        point.fit(
            checkpoint=tmp_path / "run",
            resume="auto",
            callbacks=lambda training, stop=stop: len(training.history) == stop,
        )
    assert point.w == whole.w
    with pytest.raises(ValueError, match='resume="auto" goes with a checkpoint'):
        point.fit(resume="auto")


def test_a_checkpoint_outlives_divergence(tmp_path):
    point, again = Noisy(), Noisy()
    epochs = iter([[2, 2, 2], [(1.0, 2), (np.nan, 2)]])
    with pytest.raises(FloatingPointError):
        point.fit(lambda: next(epochs), checkpoint=tmp_path / "run")
    assert len(again.fit(epochs=1, resume=tmp_path / "run").history) == 1 and again.w == point.w


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"lr": 0.2}, "it has learning_rate = 0.1 instead of 0.2"),
        ({"schedule": "constant"}, "schedule = 'cosine' instead of 'constant'"),
        ({"schedule": lambda progress: 1.0}, "schedule = 'cosine' instead of 'a function'"),
        ({"clip_norm": None}, "clip_norm = 4.0 instead of None"),
        ({"accumulate": 2}, "accumulate = 1 instead of 2"),
        ({"lr": 0.2, "accumulate": 2}, "learning_rate = 0.1 instead of 0.2, accumulate = 1 instead of 2$"),
    ],
)
def test_another_trainings_checkpoint_is_refused(tmp_path, options, error):
    Noisy().fit(checkpoint=tmp_path / "run")
    with pytest.raises(ValueError, match=error):
        Noisy().fit(**options, resume=tmp_path / "run")
    other = Noisy()
    other.parameters["w"] = np.zeros(2)
    with pytest.raises(ValueError, match=r"'weights\.w' must have shape \(2,\), got \(1,\)"):
        other.fit(resume=tmp_path / "run")
    other = Noisy()
    with pytest.raises(ValueError, match="optimizer = 'Adam' instead of 'SGD'"):
        other.fit(optimizer=SGD(other.parameters, 0.1), resume=tmp_path / "run")
    assert other.w == 5.0


def test_a_checkpoint_can_be_gone_on_from_for_more_epochs(tmp_path):
    longer, whole = Noisy(), Noisy()
    Noisy().fit(epochs=2, schedule="constant", checkpoint=tmp_path / "run")
    longer.fit(epochs=4, schedule="constant", resume=tmp_path / "run")
    whole.fit(epochs=4, schedule="constant")
    assert longer.w == whole.w


def test_a_checkpoint_that_cannot_be_written_is_found_before_the_first_step(tmp_path, point):
    with pytest.raises(FileNotFoundError):
        train(point, lambda: [RuntimeError("nobody gets here")], checkpoint=tmp_path / "nowhere" / "run")


def test_a_file_that_is_no_checkpoint_is_refused(tmp_path, point):
    checkpoint.save(tmp_path / "model", {"w": np.ones(1)}, {})
    with pytest.raises(ValueError, match="holds no state of a training"):
        train(point, resume=tmp_path / "model")


# -- stopping


@pytest.mark.parametrize("way", ["returns", "raises"])
def test_a_callback_stops_it(point, way):
    seen = []

    def stop(training):
        if len(training.history) == 2 and way == "raises":
            raise StopTraining
        return len(training.history) == 2

    training = train(point, callbacks=[lambda each: seen.append(len(each.history)), stop])
    assert seen == [1, 2] and len(training.history) == 2
    shorter = Point()
    train(shorter, callbacks=stop)
    assert shorter.w == point.w


def test_what_a_callback_returns_else_does_not_stop_it(point):
    assert len(train(point, callbacks=lambda training: 1).history) == 4


def test_an_interrupt_puts_the_best_weights_back_and_is_passed_on(point):
    epochs = iter([[2, 2, 2], [2, 2, 2], [2, KeyboardInterrupt()]])
    scores, seen = iter([1.0, 2.0]), []
    with pytest.raises(KeyboardInterrupt):
        train(
            point,
            lambda: next(epochs),
            score=lambda: next(scores),
            callbacks=lambda _: seen.append(point.w),
        )
    assert len(seen) == 2 and point.w == seen[0]


def test_an_interrupt_before_any_validation_leaves_the_weights(point):
    with pytest.raises(KeyboardInterrupt):
        train(point, lambda: [2, 2, KeyboardInterrupt()], score=lambda: 1.0)
    assert 1 < point.w < 5


@pytest.mark.parametrize("where", ["data", "loss", "callback", "metrics", "schedule"])
@pytest.mark.parametrize("validated", [True, False])
def test_after_an_error_they_are_as_after_the_best_epoch(where, validated):
    """Without validation, as after the last epoch that ended."""
    point, seen, scores = Noisy(), [], iter([1.0, 2.0, 3.0])
    optimizer = Adam(point.parameters, 0.1)

    def fail(here):
        if here == where and len(seen) == (3 if where == "callback" else 2):
            raise OSError("disk full")

    def data():
        yield 2
        fail("data")
        yield (fail("loss") or 2) if where == "loss" else 2
        yield 2

    def look(training):
        seen.append((point.w, averages(optimizer)))
        fail("callback")

    with pytest.raises(OSError, match="disk full"):
        fit(
            point,
            Epochs(data),
            optimizer=optimizer,
            epochs=6,
            metrics=lambda network: (
                fail("metrics") or ({"score": next(scores)} if validated else {"score": 1.0})
            ),
            monitor="score",
            schedule=lambda progress: fail("schedule") or 1.0,
            callbacks=look,
        )
    w, state = seen[0]
    assert point.w == w and averages(optimizer) == state and optimizer.lr == 0.1


def averages(optimizer):
    return {name: array.tolist() for name, array in optimizer.state_dict().items() if name != "lr"}


# -- arguments


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [
        ("epochs", -1, "a non-negative integer"),
        ("epochs", 2.0, "a non-negative integer"),
        ("clip_norm", float("nan"), "a positive finite number"),
        ("clip_norm", 0, "a positive finite number"),
        ("patience", 0, "a positive integer"),
        ("max_seconds", float("inf"), "a positive finite number"),
        ("accumulate", 0, "a positive integer"),
        ("batch_size", 0, "a positive integer"),
        ("schedule", "linear", "one of 'constant'"),
        ("seed", -1, "a non-negative integer"),
        ("verbose", 2, "True or False"),
        ("callbacks", 5, "a function"),
        ("metrics", 5, "a function"),
    ],
)
def test_bad_options_are_refused(point, option, value, expected):
    with pytest.raises((TypeError, ValueError), match=f"{option} must be {expected}.* got '?{value}"):
        fit(point, Epochs(), **{"epochs": 3, "optimizer": SGD(point.parameters, 0.1), option: value})
    assert point.w == 5.0


@pytest.mark.parametrize(
    "value", [0.25, np.float32(0.25), np.float64(0.25), np.array(0.25), np.array(0.25, "f4")]
)
def test_losses_of_numpy_become_floats(point, tmp_path, value):
    training = train(point, lambda: [(value, 3)], lr=0.0, epochs=1, score=lambda: value, samples=3)
    (record,) = training.history
    assert type(record["train_loss"]) is type(record["validation_loss"]) is float
    assert record["train_loss"] == record["validation_loss"] == 0.25
    json.dumps(training.history)


def test_losses_of_pytorch_too(point):
    torch = pytest.importorskip("torch")
    training = train(point, lambda: [(torch.tensor(0.25), 3)], lr=0.0, epochs=1)
    assert training.history[0]["train_loss"] == 0.25


def test_the_mean_of_an_epoch_is_summed_in_double_precision(point):
    batches = [(np.float32(0.1), 1)] * 10_000
    training = train(point, lambda: batches, lr=0.0, epochs=1, samples=10_000)
    assert training.history[0]["train_loss"] == pytest.approx(float(np.float32(0.1)), rel=1e-12)


@pytest.mark.parametrize("value", [None, "one", np.ones(1), np.ones((2, 2)), 1j])
def test_a_loss_that_is_no_number_is_refused(point, value):
    with pytest.raises(TypeError, match="the loss must be a number, got"):
        train(point, lambda: [(value, 2)])
    with pytest.raises(TypeError, match="the metric validation_loss must be a number, got"):
        train(point, score=lambda: value)
    assert point.w == 5.0


@pytest.mark.parametrize("count", [2.0, None, -1, True])
def test_a_count_that_is_none_is_refused(point, count):
    with pytest.raises((TypeError, ValueError), match="a loss's count must be a non-negative integer, got"):
        train(point, lambda: [(1.0, count)])


def test_more_samples_than_said_are_refused_before_the_rate_rises_again(point):
    """The slip of a user who gives the number of batches."""
    error = "samples must be those of a whole epoch, got 3, but epoch 1 has come to 4 by its step 2"
    with pytest.raises(ValueError, match=error):
        train(point, Epochs(samples=3))
    assert point.w == 5.0


def test_fewer_samples_than_said_are_fine(point):
    training = train(point, Epochs(samples=7), epochs=2)
    assert [record["samples"] for record in training.history] == [6, 12]


@pytest.mark.parametrize("epoch", [1, 2])
def test_an_epoch_without_samples_is_refused(point, epoch):
    used_up = iter([2, 2, 2][: 3 * (epoch - 1)])
    with pytest.raises(ValueError, match=f"epoch {epoch} had no samples: the data must begin an epoch each"):
        train(point, lambda: used_up)
    with pytest.raises(ValueError, match="epoch 1 had no samples"):
        train(point, lambda: [(1.0, 0)])


def test_a_validation_without_samples_is_refused(point):
    with pytest.raises(ValueError, match="validation must have samples, got none"):
        train(point, validation=Epochs(lambda: []))


def test_patience_without_validation_is_refused(point):
    with pytest.raises(ValueError, match="patience needs validation, got patience=2 without any"):
        train(point, patience=2)
    assert point.w == 5.0


def test_there_is_at_least_one_step_however_short_the_time(point):
    training = train(point, max_seconds=1e-9, score=lambda: 1.0)
    assert [record["samples"] for record in training.history] == [2]
    assert point.w != 5.0


def test_a_network_must_give_its_gradients(point):
    with pytest.raises(TypeError, match=r"network must have parameters and take_gradients\(\), got"):
        fit(point.parameters, Epochs(), optimizer=SGD(point.parameters, 0.1), epochs=1)


# -- what it shows


class Terminal:
    def __init__(self, terminal):
        self.text, self.terminal = "", terminal

    def isatty(self):
        return self.terminal

    def write(self, text):
        self.text += text

    def flush(self):
        pass


@pytest.mark.parametrize("terminal", [True, False])
def test_nothing_is_shown_where_nobody_wants_it(point, monkeypatch, capsys, terminal):
    monkeypatch.setattr(sys, "stderr", Terminal(terminal))
    train(point)
    assert sys.stderr.text == "" and capsys.readouterr().out == ""


@pytest.mark.parametrize("terminal", [True, False])
@pytest.mark.parametrize("verbose", [True, 1])
def test_without_a_terminal_or_tqdm_there_is_a_line_for_each_epoch(
    point, monkeypatch, capsys, terminal, verbose
):
    monkeypatch.setattr(sys, "stderr", Terminal(terminal))
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    train(point, epochs=2, verbose=verbose, score=lambda: 0.125)
    first, second = capsys.readouterr().out.splitlines()
    assert sys.stderr.text == ""
    pattern = r"epoch   {}/2  \d+\.\d s  [\d,]+/s  train \d\S*  validation 0.125"
    assert re.fullmatch(pattern.format(1), first) and re.fullmatch(pattern.format(2), second)


def test_a_line_fits_a_terminal_of_80_columns():
    record = {"epoch": 1000, "train_loss": -1.2345e-100, "validation_loss": -1.2345e-100, "seconds": 1e5}
    record["samples_per_second"] = 1e9
    assert len(line(record, "/1000", lambda loss: f"{loss:.4g} bits per character")) <= 78


def test_the_progress_bar_shows_epoch_speed_and_loss(point, monkeypatch, capsys):
    pytest.importorskip("tqdm")
    monkeypatch.setattr(sys, "stderr", Terminal(True))
    train(point, epochs=2, verbose=lambda loss: f"loss {loss:.3f}")
    assert "epoch 1/2" in sys.stderr.text and "epoch 2/2" in sys.stderr.text
    assert len(capsys.readouterr().out.splitlines()) == 2


class Bar:
    """In the place of tqdm's; `shown` is what it was told."""

    def __init__(self, shown):
        self.shown = shown

    def __call__(self, *, desc, total, **_):
        self.shown.append((desc, total))
        return self

    def set_postfix_str(self, words, refresh):
        self.words = words

    def update(self, count):
        self.shown.append((self.words, count))

    def close(self):
        self.shown.append("closed")


def test_a_notebook_shows_the_bar_too(point, monkeypatch):
    shown = []
    monkeypatch.setattr(sys, "stderr", Terminal(False))
    monkeypatch.setitem(sys.modules, "ipykernel", sys)
    monkeypatch.setitem(sys.modules, "tqdm.auto", SimpleNamespace(tqdm=Bar(shown)))
    train(point, lambda: [(16.0, 4), (4.0, 2)], epochs=1, verbose=lambda loss: f"loss {loss:.0f}")
    assert shown == [("epoch 1/1", 6), ("loss 16", 4), ("loss 12", 2), "closed"]
    shown.clear()
    train(point, lambda: [1], samples=None, epochs=None, max_steps=1, verbose=True)
    assert shown == [("epoch 1", None), (f"{(point.w - 1) ** 2 / 0.64:.4g}", 1), "closed"]


def test_a_terminal_that_is_gone_is_no_obstacle(point, monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    train(point, verbose=True)


# -- layers, whose generators are found


def line_network(seed=0, dropout=0.3, bits=np.random.PCG64):
    """Linear layers with dropout, and data that a generator orders."""
    rng = np.random.Generator(bits(seed))
    network = Sequential(Linear(2, 8, seed=rng), Dropout(dropout, seed=rng), Linear(8, 1, seed=rng))
    x = np.linspace(-1, 1, 16, dtype="float32").reshape(8, 2)
    return network, (x, x[:, :1] * 2), np.random.Generator(bits(seed + 1))


def fit_line(seed=0, epochs=6, bits=np.random.PCG64, dropout=0.3, **options):
    network, data, order = line_network(seed, dropout, bits)
    optimizer = options.pop("optimizer", Adam(network.parameters, 0.05))
    given = {"loss": "mean_squared_error", "batch_size": 4, "validation": data, "seed": order, **options}
    return fit(network, data, optimizer=optimizer, epochs=epochs, **given)


def same_weights(first, second):
    for name, array in first.network.parameters.items():
        np.testing.assert_array_equal(second.network.parameters[name], array)


@pytest.mark.parametrize("bits", [np.random.PCG64, np.random.SFC64, np.random.MT19937, np.random.Philox])
def test_masks_and_order_go_on_too_whatever_generator_they_are_from(tmp_path, bits):
    whole = fit_line(bits=bits)
    with pytest.raises(KeyboardInterrupt):
        fit_line(bits=bits, checkpoint=tmp_path / "run", callbacks=interrupt(2))
    same_weights(whole, fit_line(99, bits=bits, resume=tmp_path / "run"))


def test_a_recurrent_layers_own_generator_goes_on_too(tmp_path):
    x = np.linspace(-1, 1, 60).reshape(2, 10, 3)

    def train(epochs, seed=7, **options):
        network = LSTM(3, 4, 2, dropout=0.3, recurrent_dropout=0.2, seed=seed)
        data = x, np.tile(x[:, :, :1], 4)
        given = {"loss": "mean_squared_error", "schedule": "constant", "seed": seed, **options}
        return fit(network, data, epochs=epochs, **given)

    train(2, checkpoint=tmp_path / "run")
    same_weights(train(4), train(4, seed=8, resume=tmp_path / "run"))


def test_another_kind_or_number_of_generators_is_refused(tmp_path):
    fit_line(epochs=1, checkpoint=tmp_path / "run")
    with pytest.raises(
        ValueError, match=r"generators = \['PCG64', 'PCG64'\] instead of \['SFC64', 'SFC64'\]"
    ):
        fit_line(bits=np.random.SFC64, resume=tmp_path / "run")
    network, data, order = line_network()
    network.spare = np.random.default_rng(0)
    options = {"loss": "mean_squared_error", "optimizer": Adam(network.parameters, 0.05), "seed": order}
    with pytest.raises(ValueError, match=r"\['PCG64', 'PCG64'\] instead of \['PCG64', 'PCG64', 'PCG64'\]"):
        fit(network, data, **options, epochs=1, resume=tmp_path / "run")


def test_a_state_that_does_not_fit_changes_nothing():
    point = Noisy()
    training = point.fit(epochs=2, validated=True)
    tensors, metadata = training.state_dict()
    before = point.w, point.rng.bit_generator.state
    for name, part in [("weights.w", "the training's state"), ("best.weights.w", "its best")]:
        with pytest.raises(ValueError, match=f"^{part} does not fit: 'weights.w' must have shape"):
            training.load_state_dict({**tensors, name: np.zeros(2)}, metadata)
        assert (point.w, point.rng.bit_generator.state) == before


def test_the_state_is_a_snapshot():
    states = []
    whole = fit_line(callbacks=lambda training: states.append(training.state_dict()))
    for array in states[3][0].values():
        array[...] = 0  # a copy
    assert [len(metadata["history"]) for _, metadata in states] == [1, 2, 3, 4, 5, 6]
    again = fit_line(99, resume=states[1])
    assert len(again.history) == 6 and len(states[1][1]["history"]) == 2
    same_weights(whole, again)


OPTIONS = {
    "betas": (AdamW, {"betas": (0.5, 0.6)}, r"betas = \[0.5, 0.6\] instead of \[0.9, 0.999\]"),
    "eps": (Adam, {"eps": 1e-3}, "eps = 0.001 instead of 1e-08"),
    "weight_decay": (AdamW, {"weight_decay": 0.5}, "weight_decay = 0.5 instead of 0.01"),
    "momentum": (SGD, {"lr": 0.1, "momentum": 0.9}, "momentum = 0.9 instead of 0.5"),
    "SGD's weight_decay": (SGD, {"lr": 0.1, "weight_decay": 0.1}, "weight_decay = 0.1 instead of 0.0"),
    "alpha": (RMSprop, {"alpha": 0.5}, "alpha = 0.5 instead of 0.99"),
}


@pytest.mark.parametrize(("kind", "options", "error"), OPTIONS.values(), ids=OPTIONS)
def test_every_option_of_the_optimizer_must_be_the_same(point, kind, options, error):
    state = train(point, optimizer=kind(point.parameters, **options), epochs=1).state_dict()
    other = {"lr": 0.1, "momentum": 0.5 if "momentum" in options else 0.0} if kind is SGD else {}
    with pytest.raises(ValueError, match=error):
        train(point, optimizer=kind(point.parameters, **other), epochs=1, resume=state)
    train(point, optimizer=kind(point.parameters, **options), epochs=1, resume=state)


@pytest.mark.parametrize("error", [None, KeyboardInterrupt, MemoryError, FloatingPointError])
def test_weights_and_optimizer_go_back_to_the_best_epoch_together(error):
    seen, scores = [], iter([3.0, 1.0, 2.0, 4.0, 5.0, 6.0])
    network, data, _ = line_network(dropout=0.0)
    optimizer = Adam(network.parameters, 0.05)

    def look(training):
        seen.append((network.state_dict(), averages(optimizer), training))
        if error is not None and len(seen) == 4:
            raise error

    with pytest.raises(error) if error else contextlib.nullcontext():
        fit(
            network,
            data,
            loss="mean_squared_error",
            optimizer=optimizer,
            batch_size=2,
            epochs=6,
            metrics=lambda _: {"validation_loss": next(scores)},
            callbacks=look,
        )
    weights, state, training = seen[1]
    assert averages(optimizer) == state and state["step"] == 8
    assert optimizer.lr == 0.05
    for name, array in weights.items():
        np.testing.assert_array_equal(network.parameters[name], array)
        np.testing.assert_array_equal(training.best_weights[name], array)


def test_the_best_state_of_the_optimizer_outlives_a_stop(tmp_path):
    """The best epoch is before the stop: what comes back at the end has to be in the file."""

    def train(stop=None, **options):
        point, epochs = Noisy(), itertools.count(1)
        optimizer = Adam(point.parameters, 0.1)
        with pytest.raises(KeyboardInterrupt) if stop else contextlib.nullcontext():
            fit(
                point,
                Epochs(),
                optimizer=optimizer,
                epochs=6,
                metrics=lambda _: {"validation_loss": float(next(epochs))},
                callbacks=interrupt(stop),
                **options,
            )
        return averages(optimizer)

    whole = train()
    path = tmp_path / "run"
    assert train(stop=3, checkpoint=path)["step"] == train(resume=path)["step"] == 3
    assert train(resume=path) == whole


def test_a_step_without_back_is_an_error():
    network, (x, y), _ = line_network()

    class Lazy(Sequential):
        def forward(self, x, *args, **options):
            y, back = super().forward(x, *args, **options)
            return y, back if len(seen) < 1 and not seen.append(1) else lambda dy, **_: None

    seen = []
    lazy = Lazy(*network.parts.values())
    before = lazy.state_dict()
    with pytest.raises(RuntimeError, match=r"Lazy has no gradients of 0\.weight, "):
        fit(lazy, (x, y), loss=mean_squared_error, epochs=1, batch_size=4)
    for name, array in before.items():
        np.testing.assert_array_equal(lazy.parameters[name], array)


def test_a_gradient_of_two_names_is_divided_once():
    """A layer that goes back through one of the batches alone has one gradient for both its biases."""
    x, cell = np.ones((4, 1, 2)), RNN(2, 3, dtype="float64", seed=0)
    by_hand = copy.deepcopy(cell)

    class Sometimes(Composite):
        def loss(self, batch, state, *, training):
            y, _, back = self.cell.forward(x)
            value, dy = mean_squared_error(y, np.zeros_like(y))
            if batch:
                back(dy)
            return value, 1, None

    network = Sometimes(cell=cell)
    Sometimes.loss(Composite(cell=by_hand), True, None, training=True)
    expected = {name: by_hand.parameters[name] - g / 2 for name, g in by_hand.take_gradients().items()}
    fit(
        network,
        Epochs(lambda: [1, 0], samples=2),
        optimizer=SGD(network.parameters, 1.0),
        epochs=1,
        accumulate=2,
    )
    for name, array in expected.items():
        np.testing.assert_allclose(cell.parameters[name], array, rtol=1e-12)


def test_accumulated_batches_are_one_step_by_the_mean_of_their_gradients():
    whole = fit_line(dropout=0.0, epochs=2, batch_size=8, clip_norm=0.5)
    small = fit_line(dropout=0.0, epochs=2, batch_size=2, accumulate=4, clip_norm=0.5)
    assert [record["steps"] for record in small.history] == [1, 2]
    for name, array in whole.network.parameters.items():
        np.testing.assert_allclose(small.network.parameters[name], array, atol=1e-6)
    odd = fit_line(dropout=0.0, epochs=2, batch_size=2, accumulate=3)
    assert [record["steps"] for record in odd.history] == [2, 4]
    assert math.isfinite(odd.history[-1]["train_loss"])
