"""The training loop on a network small enough to follow: one weight, pulled to a target."""

import sys

import numpy as np
import pytest

from fastrnn import training
from fastrnn.optim import SGD, Adam
from fastrnn.training import SCHEDULES, Trainer, cosine


class Point:
    """The network: a weight w and the loss (w - 1)^2."""

    def __init__(self, start=5.0):
        self.parameters = {"w": np.array([start])}
        self.gradients = {"w": np.zeros(1)}

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
    with pytest.raises(ValueError, match=r"'w' must have shape \(2,\), got \(1,\)"):
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
