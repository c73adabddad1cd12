"""The forecaster: its network against finite differences, its windows against plain loops, forecasts of
series that can be known, and what it refuses."""

import doctest
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastrnn.data import series
from fastrnn.data.series import Batch, ForecastWindows, Frame, Scale, known_inputs, read_series
from fastrnn.layers import GRU
from fastrnn.models import Forecaster, forecaster
from fastrnn.models.forecast_network import ForecastNetwork

TINY = {"hidden_size": 8, "epochs": 2, "context": 10, "seed": 0}


def wave(steps, period=12, seed=0, noise=0.1):
    rng = np.random.default_rng(seed)
    return 50 + 9 * np.sin(2 * np.pi * np.arange(steps) / period) + rng.normal(0, noise, steps)


def random_batch(T=5, B=3, H=4, C=2, F=3, skipped=0):
    rng = np.random.default_rng(1)
    return Batch(
        rng.normal(size=(T, B, C + F)), rng.normal(size=(T, B, H, F)), rng.normal(size=(T, B, H, C)), skipped
    )


# -- the network


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("quantiles", [None, [0.2, 0.5]])
@pytest.mark.parametrize("known", [0, 3])
def test_the_networks_gradients(quantiles, known):
    batch = random_batch(F=known, skipped=2)
    rng = np.random.default_rng(0)
    network = ForecastNetwork(GRU(2 + known, 6, dtype="float64", seed=rng), 2, 4, known, quantiles, 0.0, rng)
    loss, count, _ = network.loss(batch, training=True)
    assert count == (5 - 2) * 3
    assert loss == network.loss(batch, training=False)[0]
    gradients = {name: array.copy() for name, array in network.gradients.items()}
    assert gradients.keys() == network.parameters.keys()
    for name, parameter in network.parameters.items():
        for index in list(np.ndindex(parameter.shape))[:: max(1, parameter.size // 5)]:
            losses = []
            for step in (1e-6, -2e-6, 1e-6):  # up, down, back
                parameter[index] += step
                losses.append(network.loss(batch, training=False)[0])
            numeric = (losses[0] - losses[1]) / 2e-6
            assert abs(numeric - gradients[name][index]) < 1e-7, name


def test_windows_of_a_batch_carry_on():
    batch = random_batch(T=7, skipped=4)
    parts = list(batch.windows(3))
    assert [part.skipped for part in parts] == [3, 1, 0]
    for name in ("x", "known", "target"):
        whole = np.concatenate([getattr(part, name) for part in parts])
        np.testing.assert_array_equal(whole, getattr(batch, name))


# -- the windows


@settings(deadline=None, max_examples=40)
@given(
    context=st.integers(1, 9),
    ahead=st.integers(1, 4),
    lag=st.integers(0, 5),
    extra=st.integers(0, 12),
    channels=st.integers(1, 2),
)
def test_windows_hold_what_a_loop_would_put_there(context, ahead, lag, extra, channels):
    lags = (ahead + lag - 1,) if lag else ()
    frame = Frame(context, ahead, lags)
    T = frame.past + ahead + extra
    values = np.random.default_rng(0).normal(size=(T, channels))
    hours = np.arange(T, dtype=float)[:, None]
    known = np.full((T, channels * len(lags) + 1), np.nan)
    known[frame.first :] = known_inputs(values, hours, lags, frame.first, T)
    windows = ForecastWindows([values], [known], frame)
    seen = 0
    for batch in windows.batches(4, np.random.default_rng(0)):
        assert np.isfinite(batch.x).all() and np.isfinite(batch.known).all()
        seen += batch.x.shape[0] * batch.x.shape[1]
        for t in range(context):
            for b in range(batch.x.shape[1]):
                now = round(batch.x[t, b, -1]) - 1  # the last covariate is of the step after
                np.testing.assert_array_equal(batch.x[t, b, :channels], values[now])
                np.testing.assert_array_equal(batch.target[t, b], values[now + 1 : now + 1 + ahead])
                np.testing.assert_array_equal(batch.known[t, b, :, -1], now + 1 + np.arange(ahead))
                if lags:
                    then = now + 1 - lags[0]
                    np.testing.assert_array_equal(
                        batch.known[t, b, :, :channels], values[then : then + ahead]
                    )
    assert seen == windows.samples


def test_validation_forecasts_the_end_and_training_does_not_see_it():
    frame = Frame(6, 4, ())
    values = [np.arange(60.0)[:, None], np.arange(100.0, 140.0)[:, None]]
    training, validation = ForecastWindows(values, [np.zeros((len(v), 0)) for v in values], frame).split(0.2)
    trained = np.concatenate([b.target.ravel() for b in training.batches(5, np.random.default_rng(0))])
    assert set(trained) <= set(range(48)) | set(range(100, 132))
    validated = np.concatenate([b.target[b.skipped :].ravel() for b in validation.batches(5, None)])
    assert set(validated) == set(range(48, 60)) | set(range(132, 140))


def test_scales_are_undone():
    values = np.random.default_rng(0).normal(7, 3, (50, 2))
    values[:, 1] = 4.0  # constant
    scaled = Scale.of(values).apply(values)
    np.testing.assert_allclose(scaled.std(axis=0), [1, 0], atol=1e-12)
    np.testing.assert_allclose(Scale.of(values).undo(scaled), values)


# -- the model


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize(
    "options", [{}, {"strategy": "recursive"}, {"lags": (12,)}, {"bptt_steps": 7}], ids=str
)
def test_a_wave_is_forecast(options):
    y = wave(240)
    settings = {"hidden_size": 12, "epochs": 25, "context": 24, "learning_rate": 0.02, "seed": 0} | options
    model = Forecaster(horizon=12, **settings).fit(y[:-12])
    forecast = model.predict()
    assert forecast.shape == (12,) and forecast.dtype == np.float64
    assert np.abs(forecast - y[-12:]).mean() < 1.5  # of an amplitude of 9
    assert model.score(y) > 0.9
    np.testing.assert_allclose(model.predict(y[:-12]), forecast, rtol=1e-6)


def test_covariates_of_the_future_are_used():
    rng = np.random.default_rng(0)
    price = rng.normal(size=300)
    y = 3 * price + rng.normal(0, 0.05, 300)  # nothing but the covariate tells
    options = {"hidden_size": 8, "epochs": 30, "context": 8, "learning_rate": 0.02, "seed": 0}
    for strategy in ("direct", "recursive"):
        model = Forecaster(horizon=6, strategy=strategy, **options).fit(y[:-6], price[:-6])
        assert np.abs(model.predict(covariates=price[-6:]) - y[-6:]).mean() < 0.6
        assert model.score(y, price) > 0.9


def test_quantiles_hold_their_share_and_do_not_cross():
    y = np.random.default_rng(0).exponential(size=1500)
    options = {"hidden_size": 4, "epochs": 8, "context": 8, "learning_rate": 0.01, "seed": 0}
    model = Forecaster(horizon=3, quantiles=(0.1, 0.5, 0.9), **options).fit(y)
    quantiles = model.predict_quantiles()
    assert quantiles.shape == (3, 3)
    np.testing.assert_allclose(quantiles, np.tile(-np.log([0.9, 0.5, 0.1]), (3, 1)), atol=0.45)
    many = np.array(model.predict_quantiles([y[:t] for t in range(100, 1400, 13)]))
    assert (np.diff(many, axis=-1) >= 0).all()
    lower, upper = model.predict_interval(coverage=0.8)
    np.testing.assert_array_equal(np.stack([lower, model.predict(), upper], axis=-1), quantiles)


def test_several_series_keep_their_form_and_their_scales():
    y = [wave(90, seed=1), 1000 * wave(120, seed=2), wave(100, seed=3)]
    model = Forecaster(horizon=5, **TINY).fit(y)
    found = model.predict()
    assert [forecast.shape for forecast in found] == [(5,)] * 3
    assert 20_000 < found[1].mean() < 80_000
    alone = model.predict(y[1])
    np.testing.assert_allclose(alone, found[1], rtol=1e-5)


@pytest.mark.parametrize("strategy", ["direct", "recursive"])
def test_channels(strategy):
    y = np.stack([wave(100), -wave(100, 20)], axis=1)
    model = Forecaster(horizon=4, lags=(6,), strategy=strategy, **TINY).fit(y)
    assert model.predict().shape == (4, 2)
    assert [f.shape for f in model.predict([y, y[:50]])] == [(4, 2)] * 2
    assert model.n_channels_ == 2
    assert model.predict(horizon=2).tolist() == model.predict()[:2].tolist()


def test_recursion_goes_on_as_far_as_wanted():
    model = Forecaster(strategy="recursive", lags=(1, 3), **TINY).fit(wave(100))
    far = model.predict(horizon=30)
    assert far.shape == (30,)
    np.testing.assert_allclose(model.predict(horizon=7), far[:7])


def test_recursion_is_one_step_after_another():
    y = wave(100)
    model = Forecaster(strategy="recursive", lags=(2,), dtype="float64", **TINY).fit(y)
    forecast = model.predict(horizon=3)
    scale, network = Scale.of(y[:, None]), model._network
    values = list(scale.apply(y[:, None])[:, 0])
    hidden_inputs = [[values[t], values[t - 1]] for t in range(90, 100)]
    for k in range(3):
        x = np.array(hidden_inputs)[:, None]
        output = network(x, np.array([[[values[-2]]]]))[0].item()  # anew from the start of the context
        values.append(output)
        hidden_inputs.append([values[-1], values[-2]])
        np.testing.assert_allclose(forecast[k], output * scale.deviation[0] + scale.mean[0])


@pytest.mark.parametrize("options", [{}, {"quantiles": (0.25, 0.5, 0.75), "lags": (4, 9)}], ids=str)
def test_files_and_the_same_seed_give_the_same_forecasts(tmp_path, options):
    y, hours = [wave(80), wave(90, seed=1)], [np.arange(80) % 24, np.arange(90) % 24]
    model = Forecaster(horizon=4, **TINY, **options).fit(y, hours)
    model.save(tmp_path / "model.safetensors")
    ahead = [np.arange(4), np.arange(4)]
    for other in (
        Forecaster.load(tmp_path / "model.safetensors"),
        Forecaster(horizon=4, **TINY, **options).fit(y, hours),
    ):
        np.testing.assert_array_equal(other.predict(covariates=ahead), model.predict(covariates=ahead))


def test_training_goes_on_from_a_checkpoint(tmp_path):
    y, path = wave(120), tmp_path / "checkpoint.safetensors"
    options = {**TINY, "horizon": 3, "schedule": "constant", "dropout": 0.1}
    straight = Forecaster(**{**options, "epochs": 4}).fit(y)
    Forecaster(**options).fit(y, checkpoint=path)
    resumed = Forecaster(**{**options, "epochs": 4}).fit(y, resume=path)
    np.testing.assert_array_equal(resumed.predict(), straight.predict())
    with pytest.raises(ValueError, match="context"):
        Forecaster(**{**options, "context": 11}).fit(y, resume=path)


def test_parameters_changed_after_the_fit_wait_for_the_next():
    model = Forecaster(horizon=3, lags=(5,), **TINY).fit(wave(100))
    before = model.predict()
    model.set_params(horizon=9, context=50, lags=(), quantiles=(0.5,), strategy="recursive", batch_size=0)
    np.testing.assert_array_equal(model.predict(), before)


def test_partial_fit_goes_on():
    model = Forecaster(horizon=3, **TINY).partial_fit(wave(100))
    first = model.predict()
    assert not np.array_equal(model.partial_fit(wave(100)).predict(), first)


def test_inputs_are_not_written():
    y, price = wave(60), np.arange(60.0)
    copies = y.copy(), price.copy()
    y.flags.writeable = price.flags.writeable = False
    Forecaster(horizon=3, lags=(3,), **TINY).fit(y, price).predict(y[:50], price[:53])
    np.testing.assert_array_equal((y, price), copies)


# -- what is refused


@pytest.mark.parametrize(
    "value, error",
    [
        ([1.0, 2.0, np.nan, 4.0], r"y must be finite, got nan at step 2$"),
        ([np.ones(3), np.array([1, np.inf, np.inf])], r"y\[1\] must be finite, got inf at step 1 and 1 more"),
        (np.array([[1, 2], [3, np.nan]]), r"y must be finite, got nan at step 1, channel 1"),
        ([np.ones((3, 2)), np.ones((3, 1))], r"same number of channels in all series, got 2 in y\[0\] and 1"),
        (np.ones((2, 3, 4)), r"shape \(T,\) or \(T, C\), with at least one step, got shape \(2, 3, 4\)"),
        ([], r"at least one step, got shape \(0,\)"),
        (["a", "b"], r"y must be numbers of shape .*, got dtype <U1"),
        (None, r"y must be numbers of shape .*, got None"),
    ],
    ids=lambda value: "" if isinstance(value, str) else None,
)
def test_series_that_are_refused(value, error):
    with pytest.raises((ValueError, TypeError), match=error):
        read_series("y", value)


@pytest.mark.parametrize(
    "options, error",
    [
        ({"horizon": 0}, "horizon must be a positive integer, got 0"),
        ({"strategy": "both"}, "strategy must be one of 'direct', 'recursive', got 'both'"),
        ({"horizon": 5, "lags": (3,)}, 'lags must be at least horizon = 5 with strategy="direct", got 3'),
        ({"lags": 3}, "lags must be a tuple of integers, got 3"),
        (
            {"quantiles": (0.1, 0.9)},
            "quantiles must be None or rising levels between 0 and 1, 0.5 among them",
        ),
        ({"quantiles": (0.5, 1.0)}, "quantiles must be None or rising levels"),
        ({"quantiles": (0.5,), "strategy": "recursive"}, 'quantiles need strategy="direct"'),
    ],
    ids=str,
)
def test_parameters_that_are_refused(options, error):
    with pytest.raises((ValueError, TypeError), match=re.escape(error)):
        Forecaster(**{**TINY, **options}).fit(wave(50))


def test_what_does_not_fit_is_refused_and_nothing_is_lost():
    model = Forecaster(horizon=4, lags=(6,), **TINY).fit(wave(80), np.arange(80))
    ahead = np.arange(4)
    before = model.predict(covariates=ahead)
    refused = [
        (lambda: model.fit(wave(21)), r"y must have at least 23 steps, for a context of 10, lags of up to 6, "
         r"the steps ahead and those to validate on, got 21"),
        (lambda: model.fit([wave(80), wave(18)]), r"y\[1\] must have at least 19 steps"),
        (lambda: model.fit(wave(80), np.arange(79)), "covariates must have 80 steps, those of y, got 79"),
        (lambda: model.fit(wave(80), [ahead, ahead]), "covariates must be of 1 series, as y, got 2"),
        (lambda: model.predict(), "covariates must have 1 channels, as in fit, got 0"),
        (lambda: model.predict(covariates=np.arange(3)), "covariates must have 4 steps, those ahead, got 3"),
        (lambda: model.predict(wave(30), np.arange(30)), "have 34 steps, those of y and 4 ahead, got 30"),
        (lambda: model.predict(wave(14), np.arange(18)), "y must have at least 15 steps, .* got 14"),
        (lambda: model.predict(np.ones((40, 2)), np.arange(44)), "y must have 1 channels, as in fit, got 2"),
        (lambda: model.predict(covariates=np.arange(9), horizon=9), "horizon must be at most 4"),
        (lambda: model.predict_quantiles(covariates=ahead), "quantiles are not forecast"),
        (lambda: model.score(wave(18), np.arange(18)), "y must have at least 19 steps"),
    ]  # fmt: skip
    for call, error in refused:
        with pytest.raises(ValueError, match=error):
            call()
    np.testing.assert_array_equal(model.predict(covariates=ahead), before)


def test_intervals_need_their_quantiles():
    model = Forecaster(quantiles=(0.1, 0.5, 0.9), **TINY).fit(wave(80))
    with pytest.raises(ValueError, match=r"coverage 0.9 needs the quantiles 0.05 and 0.95, but there are"):
        model.predict_interval(coverage=0.9)


def test_an_unfitted_model_says_so():
    with pytest.raises(RuntimeError, match="not fitted"):
        Forecaster().predict()


@pytest.mark.parametrize("module", [forecaster, series])
def test_documented_examples(module):
    assert doctest.testmod(module).failed == 0
