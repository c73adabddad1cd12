"""The forecaster: its network against finite differences, its windows against plain loops, forecasts of
series that can be known, and what it refuses."""

import doctest
import json
import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastrnn import checkpoint
from fastrnn.data import panel
from fastrnn.data.panel import read_series
from fastrnn.data.windows import Batch, ForecastWindows, Reach, Scale
from fastrnn.layers import GRU
from fastrnn.losses import huber, mean_absolute_error, mean_squared_error
from fastrnn.models import Forecaster, forecaster, intervals
from fastrnn.models.forecast_network import ForecastNetwork

TINY = {"hidden_size": 8, "epochs": 2, "context": 10, "seed": 0}


def wave(steps, period=12, seed=0, noise=0.1):
    rng = np.random.default_rng(seed)
    return 50 + 9 * np.sin(2 * np.pi * np.arange(steps) / period) + rng.normal(0, noise, steps)


def random_batch(S=7, B=3, E=2, H=4, C=2, F=3):
    rng = np.random.default_rng(1)
    shapes = (S, B, C + F), (E, B, H, F), (E, B, H, C)
    return Batch(*(rng.normal(size=shape) for shape in shapes), rng.uniform(0.5, 2, (B, 1, C, 1)))


def random_network(known, quantiles=None, bptt_steps=None, loss=mean_squared_error):
    rng = np.random.default_rng(0)
    layer = GRU(2 + known, 6, dtype="float64", seed=rng)
    return ForecastNetwork(layer, 2, 4, known, loss, quantiles, bptt_steps, 0.0, rng)


# -- the network


OPTIONS = {"": {}, "quantiles": {"quantiles": [0.2, 0.5]}, "huber": {"loss": huber}}


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("known", [0, 3])
def test_the_networks_gradients(options, known):
    batch, network = random_batch(F=known), random_network(known, **options)
    loss, count, _ = network.loss(batch, training=True)
    assert count == 3
    assert loss == pytest.approx(network.loss(batch, training=False)[0], rel=1e-12)
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


def test_gradients_flow_back_through_as_many_steps_as_asked():
    batch, network = random_batch(E=1), random_network(3, bptt_steps=4)
    loss = network.loss(batch, training=True)[0]
    found = network.gradients["recurrent.weight_hh_l0"].copy()
    layer = random_network(3).recurrent  # the same weights
    hidden, _, back = layer.forward(batch.x[3:], layer(batch.x[:3])[1])
    outputs = network.head(hidden[-1:]) + network.known(batch.known).reshape(1, 3, -1)
    outputs = outputs.reshape(batch.target.shape) * batch.weight[..., 0]
    expected, dscaled = mean_squared_error(outputs, batch.target)
    dhidden = np.zeros_like(hidden)
    dhidden[-1] = (dscaled * batch.weight[..., 0]).reshape(3, -1) @ network.head.parameters["weight"]
    back(dhidden)
    assert loss == pytest.approx(expected)
    np.testing.assert_allclose(found, layer.gradients["weight_hh_l0"], rtol=1e-9)


# -- the windows


def naive_path(values, differences, mean, steps):
    """The values that follow if the differences stay at a mean, found by undoing one after the other."""
    if not differences:
        return [mean] * steps
    span, rest = differences[0], differences[1:]
    changes = naive_path(values[span:] - values[:-span], rest, mean, steps)
    path = list(values)
    for change in changes:
        path.append(path[-span] + change)
    return path[len(values) :]


@settings(max_examples=60)
@given(
    context=st.integers(2, 9),
    ahead=st.integers(1, 4),
    origins=st.integers(1, 3),
    lag=st.integers(0, 5),
    differences=st.sampled_from([(), (1,), (3,), (1, 4), (1, 1)]),
    extra=st.integers(0, 8),
    channels=st.integers(1, 2),
)
def test_windows_hold_what_a_loop_would_put_there(context, ahead, origins, lag, differences, extra, channels):
    lags = (ahead + lag - 1,) if lag else ()
    reach = Reach(context, ahead, lags, differences, origins)
    T = reach.past + ahead + extra
    values = np.random.default_rng(0).normal(size=(T, channels))
    hours = np.arange(T, dtype=float)[:, None]
    windows = ForecastWindows([values], [hours], reach)
    plain = Scale(np.zeros(1), np.ones(1))  # of the hours
    seen = []
    for batch in replace(windows, batch_size=4, scale=plain).batches(np.random.default_rng(0)):
        for b in range(batch.x.shape[1]):
            now = [round(hour) - 1 for hour in batch.x[:, b, -1]]  # the last covariate is of the step after
            changes = values
            for span in differences:
                changes = np.concatenate(
                    [np.full((span, channels), np.nan), changes[span:] - changes[:-span]]
                )
            context_of = changes[now[0] : now[context - 1] + 1]
            mean, deviation = context_of.mean(axis=0), context_of.std(axis=0)
            np.testing.assert_allclose(batch.x[:, b, :channels], (changes[now] - mean) / deviation, atol=1e-9)
            np.testing.assert_allclose(batch.weight[b, 0, :, 0] * windows.units[0], deviation)
            for e, step in enumerate(now[context - 1 :]):
                known = values[: step + 1]
                path = np.array(naive_path(known, differences, mean, ahead)).reshape(ahead, channels)
                target = (values[step + 1 : step + 1 + ahead] - path) / windows.units[0]
                np.testing.assert_allclose(batch.target[e, b], target, atol=1e-9)
                np.testing.assert_array_equal(batch.known[e, b, :, -1], step + 1 + np.arange(ahead))
                if lags:
                    lagged = values[step + 1 - lags[0] : step + 1 - lags[0] + ahead]
                    np.testing.assert_allclose(
                        batch.known[e, b, :, :channels], (lagged - path) / deviation, atol=1e-9
                    )
            seen.append(now[0])
    assert len(seen) == len(set(seen)) == windows.samples


def test_validation_forecasts_the_end_and_training_does_not_see_it():
    reach, plain = Reach(6, 4, origins=2), Scale(np.zeros(0), np.zeros(0))
    values = [np.arange(60.0)[:, None] ** 2, np.arange(100.0, 140.0)[:, None] ** 2]
    whole = ForecastWindows(values, [np.zeros((len(v), 0)) for v in values], reach)
    training, validation = whole.split([12, 8])
    assert [len(array) for array in training.values] == [48, 32]
    ends = [(place, start + reach.past) for place, start in validation.places]
    assert ends == [(0, step) for step in range(48, 57)] + [(1, step) for step in range(32, 37)]
    validation = replace(validation, batch_size=5, scale=plain)
    assert sum(batch.x.shape[1] for batch in validation.batches(None)) == validation.samples == 14


def test_scales_are_undone_and_what_does_not_vary_is_zero():
    values = np.random.default_rng(0).normal(7, 3, (50, 4))
    values[:, 1] = 0.1  # constant
    values[:, 2] = 2000 + 1e-13 * values[:, 0]  # as good as
    values[:, 3] *= 1e200  # whose squares overflow
    scale = Scale.of(values)
    np.testing.assert_allclose(scale.apply(values).std(axis=0), [1, 0, 0, 1], atol=1e-12)
    assert (scale.deviation[1:3] == 0).all() and scale.mean[1] == 0.1
    np.testing.assert_allclose(scale.apply(values) * scale.deviation + scale.mean, values)
    assert not Scale.of(values * 1e-300).apply(values)[:, 1].any()


# -- the model


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize(
    "options",
    [{}, {"strategy": "recursive"}, {"lags": (12,)}, {"bptt_steps": 7}, {"differences": (12,)}],
    ids=str,
)
def test_a_wave_is_forecast(options):
    y = wave(240)
    settings = {"hidden_size": 12, "max_steps": 60, "context": 24, "learning_rate": 0.02, "seed": 0} | options
    model = Forecaster(horizon=12, **settings).fit(y[:-12])
    forecast = model.predict()
    assert forecast.shape == (12,) and forecast.dtype == np.float64
    assert np.abs(forecast - y[-12:]).mean() < 1.5  # of an amplitude of 9
    assert model.score(y) > 0.9
    np.testing.assert_array_equal(model.predict(y[:-12]), forecast)


@pytest.mark.parametrize("options", [{}, {"lags": (5, 7)}, {"differences": (1, 4)}], ids=str)
def test_a_forecast_depends_on_the_last_steps_alone(options):
    y = wave(120)
    model = Forecaster(horizon=5, **TINY, **options).fit(y)
    needed = 10 + {"": 0, "lags": 6, "differences": 5}["".join(options)]
    for past in (y[-60:], y[-needed:]):
        np.testing.assert_allclose(model.predict(past), model.predict(), rtol=1e-6)
    error = f"at least {needed} steps, for a context of 10(, .* before it for lags and differences)?, got"
    with pytest.raises(ValueError, match=error):
        model.predict(y[-needed + 1 :])


@pytest.mark.parametrize("strategy", ["direct", "recursive"])
@pytest.mark.parametrize("differences", [(), (1,)])
def test_a_forecast_moves_with_level_and_scale(strategy, differences):
    y = wave(120)
    model = Forecaster(horizon=5, strategy=strategy, differences=differences, dtype="float64", **TINY).fit(y)
    np.testing.assert_allclose(model.predict(1000 * y - 7), 1000 * model.predict(y) - 7, rtol=1e-9)
    lower, upper = model.predict_interval(y)
    scaled = model.predict_interval(1000 * y - 7)
    np.testing.assert_allclose(scaled, [1000 * lower - 7, 1000 * upper - 7], rtol=1e-9)


@pytest.mark.parametrize("size", [2.0**700, 2.0**-700])
def test_a_series_may_be_of_any_size(size):
    """Its squares are infinite, or 0."""
    y = wave(120)
    model = Forecaster(horizon=5, **TINY).fit(y)
    other = Forecaster(horizon=5, **TINY).fit(size * y)
    np.testing.assert_array_equal(other.predict(), size * model.predict())
    np.testing.assert_array_equal(other.predict_interval(), size * np.array(model.predict_interval()))


# -- what does not vary, and what goes on rising


@pytest.mark.parametrize(
    "options", [{}, {"quantiles": (0.1, 0.5, 0.9)}, {"strategy": "recursive"}, {"lags": (6,)}]
)
def test_a_constant_stays_what_it_is(options):
    y = 0.002 + 0.001 * np.sin(0.3 * np.arange(200))
    model = Forecaster(horizon=6, **{**TINY, "context": 24}, **options).fit(y)
    for level in (0.002, 2000.0, 0.1, 0.0, -1e-9):
        constant = np.full(60, level)
        np.testing.assert_array_equal(model.predict(constant), np.full(6, level))
        np.testing.assert_array_equal(model.predict_interval(constant), np.full((2, 6), level))


def test_a_line_goes_on_where_differences_are_constant():
    model = Forecaster(horizon=6, differences=(1,), **TINY).fit(wave(120))
    line = 3 + 0.1 * np.arange(66)
    np.testing.assert_allclose(model.predict(line[:60]), line[60:], rtol=1e-12)


def test_a_constant_series_beside_others_and_series_that_stand_still_for_a_while():
    still = wave(120, seed=1)
    still[40:80] = 50.0
    y = [wave(120), np.full(120, 0.002), still]
    model = Forecaster(horizon=4, **TINY).fit(y)
    assert np.isfinite(model.history_[-1]["train_loss"])
    forecasts = model.predict()
    np.testing.assert_array_equal(forecasts[1], np.full(4, 0.002))
    assert 35 < forecasts[0].mean() < 65
    alone = Forecaster(horizon=4, **TINY).fit([np.full(120, 0.002)])
    np.testing.assert_array_equal(alone.predict()[0], np.full(4, 0.002))
    assert alone.score([np.full(120, 0.002)]) == 1.0


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_trend_is_followed(seed):
    rng, horizon = np.random.default_rng(seed), 20
    y = 0.5 * np.arange(420) + rng.normal(size=420)
    model = Forecaster(
        horizon=horizon,
        context=50,
        differences=(1,),
        hidden_size=16,
        max_steps=150,
        learning_rate=0.01,
        seed=0,
    ).fit(y[:-horizon])
    error = np.abs(model.predict() - y[-horizon:]).mean()
    drift = y[399] + np.arange(1, horizon + 1) * (y[399] - y[0]) / 399
    line = 0.5 * np.arange(400, 420)
    assert error < 1.15 * np.abs(line - y[-horizon:]).mean()  # of what cannot be known
    assert error < np.abs(drift - y[-horizon:]).mean()


def test_covariates_of_the_future_are_used():
    rng = np.random.default_rng(0)
    price = rng.normal(size=300)
    y = 3 * price + rng.normal(0, 0.05, 300)  # nothing but the covariate tells
    options = {"hidden_size": 8, "max_steps": 200, "context": 40, "learning_rate": 0.02, "seed": 0}
    for strategy in ("direct", "recursive"):
        model = Forecaster(horizon=6, strategy=strategy, **options).fit(y[:-6], price[:-6])
        # the level of the context is that of its noise, 3 / sqrt(40), where its prices do not tell it
        assert np.abs(model.predict(covariates=price[-6:]) - y[-6:]).mean() < 0.9  # of 2.4
        assert model.score(y, price) > 0.9


def test_losses_for_series_with_outliers(tmp_path):
    clean, errors = wave(406), {}
    y = clean + 60 * (np.random.default_rng(1).random(406) < 0.05)
    truth = np.array([clean[t : t + 6] for t in range(300, 400)])
    options = {"hidden_size": 8, "max_steps": 80, "context": 24, "learning_rate": 0.02, "seed": 0}
    for loss in ("mean_squared_error", "huber", mean_absolute_error, "mean_absolute_error"):
        model = Forecaster(horizon=6, loss=loss, **options).fit(y)
        forecasts = model.predict([y[:t] for t in range(300, 400)])
        errors[loss] = np.abs(np.array(forecasts) - truth).mean()
    by_mean, by_huber, by_function, by_median = errors.values()
    assert by_median == by_function and max(by_median, by_huber) < 0.8 * by_mean
    model.save(tmp_path / "model")
    np.testing.assert_array_equal(Forecaster.load(tmp_path / "model").predict(), model.predict())


@pytest.mark.parametrize(
    "loss, error",
    [
        (lambda y, target: 3.0, "loss must return a pair, its value and its gradient, got 3.0"),
        (lambda y, target: (3.0, np.zeros(3)), "loss must return a gradient of the shape of the network's"),
        (lambda y, target: (np.nan, y - target), "the loss became nan at step 1"),
    ],
)
def test_a_loss_that_returns_nonsense_leaves_the_model_as_it_was(loss, error):
    model = Forecaster(horizon=3, **TINY).fit(wave(100))
    before = model.predict()
    with pytest.raises((TypeError, ValueError, FloatingPointError), match=error):
        model.set_params(loss=loss).fit(wave(100))
    np.testing.assert_array_equal(model.predict(), before)


def test_quantiles_hold_their_share_and_do_not_cross():
    y = np.random.default_rng(0).exponential(size=1500)
    options = {"hidden_size": 4, "max_steps": 200, "context": 40, "learning_rate": 0.01, "seed": 0}
    model = Forecaster(horizon=3, quantiles=(0.1, 0.5, 0.9), **options).fit(y)
    quantiles = model.predict_quantiles()
    assert quantiles.shape == (3, 3)
    np.testing.assert_allclose(quantiles, np.tile(-np.log([0.9, 0.5, 0.1]), (3, 1)), atol=0.45)
    np.testing.assert_array_equal(model.predict(), quantiles[:, 1])
    many = np.array(model.predict_quantiles([y[:t] for t in range(100, 1400, 13)]))
    assert (np.diff(many, axis=-1) >= 0).all()


def test_several_series_keep_their_form_and_their_scales():
    y = [wave(90, seed=1), 1000 * wave(120, seed=2), wave(100, seed=3)]
    model = Forecaster(horizon=5, **TINY).fit(y)
    found = model.predict()
    assert [forecast.shape for forecast in found] == [(5,)] * 3
    assert 35_000 < found[1].mean() < 65_000
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
    scale, network = Scale.of(y[-10:, None]), model.network_
    values = list(scale.apply(y[:, None])[:, 0])
    hidden_inputs = [[values[t], values[t - 1]] for t in range(90, 100)]
    for k in range(3):
        x = np.array(hidden_inputs)[:, None]
        output = network(x, np.array([[[[values[-2]]]]]))[0].item()  # anew from the start of the context
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
    np.testing.assert_array_equal(resumed.predict_interval(), straight.predict_interval())
    np.testing.assert_array_equal(
        Forecaster.load(path).predict(y), Forecaster(**options, refit=False).fit(y).predict(y)
    )
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


def test_partial_fit_moves_on_to_the_new_series_unless_it_fails():
    model = Forecaster(horizon=3, **TINY).fit(wave(100), np.arange(100.0))
    ahead, scale = np.arange(3.0), model._covariate_scale
    longer, hours = wave(140, seed=1), np.arange(140.0)
    with pytest.raises(ValueError, match="y must have at least 13 steps"):
        model.partial_fit(wave(12), np.arange(12.0))
    with pytest.raises(ValueError, match="covariates must have 140 steps"):
        model.partial_fit(longer, hours[1:])
    np.testing.assert_array_equal(
        model.predict(covariates=ahead), model.predict(wave(100), np.r_[:100, ahead])
    )
    model.partial_fit(longer, hours)
    np.testing.assert_array_equal(model.predict(covariates=ahead), model.predict(longer, np.r_[hours, ahead]))
    assert model._covariate_scale == scale
    assert np.isfinite(model.predict_interval(covariates=ahead)).all()


def test_a_diagnosis_changes_no_forecast():
    model = Forecaster(horizon=3, **TINY).fit(wave(100))
    before = model.predict()
    model._training_step(wave(80, seed=1))
    np.testing.assert_array_equal(model.predict(), before)


def test_the_newest_steps_are_learned_unless_refit_is_off():
    y = wave(120)
    other = np.concatenate(
        [y[:108], y[108:] + np.random.default_rng(1).normal(0, 9, 12)]
    )  # the tenth held out
    for refit in (False, True):
        models = [
            Forecaster(horizon=3, refit=refit, **{**TINY, "epochs": 1}).fit(series) for series in (y, other)
        ]
        forecasts = [model.predict(y) for model in models]
        assert np.array_equal(*forecasts) != refit
        assert [model.best_epoch_ for model in models] == [1, 1]


def test_series_with_room_for_a_single_window_are_learned_to_their_ends():
    y = [wave(16, seed=k) for k in range(6)]  # a context of 10, a horizon of 2, 2 held out
    model = Forecaster(horizon=2, **TINY).fit(y)
    assert [len(forecast) for forecast in model.predict()] == [2] * 6
    without = Forecaster(horizon=2, refit=False, **TINY).fit(y)
    assert not np.array_equal(without.predict(), model.predict())


def test_training_ends_after_its_steps():
    short = Forecaster(**{**TINY, "epochs": None, "max_steps": 7}, batch_size=16).fit(wave(100))
    assert short.history_[-1]["steps"] == 7
    with pytest.raises(ValueError, match="epochs can be None only beside max_steps or max_seconds"):
        Forecaster(**{**TINY, "epochs": None, "max_steps": None}).fit(wave(100))


def test_covariates_are_scaled_by_what_is_trained_on():
    price = np.arange(100.0)
    model = Forecaster(horizon=5, **TINY).fit(wave(100), price)
    assert model._covariate_scale.mean == price[:90].mean()
    assert (
        Forecaster(horizon=5, validation_fraction=0, **TINY).fit(wave(100), price)._covariate_scale.mean
        == 49.5
    )


def test_a_score_does_not_depend_on_the_scale_of_a_series():
    y = [wave(90, seed=1), wave(120, seed=2)]
    model = Forecaster(horizon=5, dtype="float64", **TINY).fit(y)
    score = model.score(y)
    assert model.score([y[0], 1000 * y[1] + 5]) == pytest.approx(score)
    scores = [model.score(series) for series in y]
    assert min(scores) <= score <= max(scores)
    assert -10 < Forecaster(**TINY).fit(y).score(y) < 1  # of a single step, too


def test_a_repr_with_quantiles_as_an_array():
    assert repr(Forecaster(quantiles=np.array([0.1, 0.5]))) == "Forecaster(quantiles=array([0.1, 0.5]))"


def test_series_are_no_part_of_a_files_header(tmp_path):
    sizes, path = [], tmp_path / "model"
    for count in (2, 200):
        y = [wave(40, seed=k) for k in range(count)]
        model = Forecaster(horizon=3, **TINY).fit(y, checkpoint=tmp_path / "checkpoint")
        model.save(path)
        sizes.append(len(json.dumps(checkpoint.load(path)[1])))
        assert len(json.dumps(checkpoint.load(tmp_path / "checkpoint")[1])) < 6000
        np.testing.assert_array_equal(Forecaster.load(path).predict(), model.predict())
    assert abs(sizes[0] - sizes[1]) < 100 and sizes[0] < 6000


# -- intervals


def rolled(model, y, start, horizon, coverage, stride=3):
    """The part of the values that were in their interval, of forecasts from all places."""
    ends = range(start, len(y) - horizon, stride)
    lower, upper = map(np.array, model.predict_interval([y[:end] for end in ends], coverage=coverage))
    truth = np.array([y[end : end + horizon] for end in ends])
    return np.mean((lower <= truth) & (truth <= upper))


def unsteady(kind, steps):
    rng = np.random.default_rng(0)
    t, noise = np.arange(steps), rng.normal(size=steps)
    return {
        "seasonal": 50 + 5 * np.sin(2 * np.pi * t / 12) + noise,
        "trending": 0.2 * t + 0.3 * np.cumsum(rng.normal(size=steps)) + noise,
        "changing variance": 20 + np.exp(np.sin(2 * np.pi * t / 90)) * noise,
    }[kind]


@pytest.mark.parametrize("kind", ["seasonal", "trending", "changing variance"])
@pytest.mark.parametrize("options", [{}, {"quantiles": (0.1, 0.5, 0.9)}, {"strategy": "recursive"}], ids=str)
def test_intervals_cover_what_they_say(kind, options):
    y, horizon = unsteady(kind, 2200), 6
    model = Forecaster(
        horizon=horizon,
        context=24,
        differences=(1,) if kind == "trending" else (),
        hidden_size=8,
        max_steps=150,
        validation_fraction=0.3,
        learning_rate=0.02,
        seed=0,
        **options,
    ).fit(y[:1200])
    covered = {coverage: rolled(model, y, 1200, horizon, coverage) for coverage in (0.5, 0.8, 0.95)}
    # the noise of 360 values calibrates, that of 1000 tests: at 0.8 the deviation of what is found is
    # sqrt(0.16 / 360 + 0.16 / 1000) = 0.025
    for coverage, found in covered.items():
        assert abs(found - coverage) < 0.08, covered


def test_intervals_are_split_conformal_by_hand():
    y = wave(160)
    model = Forecaster(horizon=3, refit=False, dtype="float64", **TINY).fit(y)
    ends = range(144, 158)  # the forecasts that reach into the last tenth alone
    scores = np.array([np.abs(y[e : e + 3] - model.predict(y[:e])) / y[e - 10 : e].std() for e in ends])
    expected = np.sort(scores, axis=0)[11] * y[-10:].std()  # the 12th of 14: 0.8 * 15
    lower, upper = model.predict_interval(coverage=0.8)
    np.testing.assert_allclose(lower, model.predict() - expected, rtol=1e-6)
    np.testing.assert_allclose(upper, model.predict() + expected, rtol=1e-6)


def test_intervals_are_conformalised_quantiles_by_hand():
    y = wave(160)
    model = Forecaster(horizon=3, quantiles=(0.1, 0.5, 0.9), refit=False, dtype="float64", **TINY).fit(y)
    scores = []
    for e in range(144, 158):
        low, _, high = model.predict_quantiles(y[:e]).T
        scores.append(np.maximum(low - y[e : e + 3], y[e : e + 3] - high) / y[e - 10 : e].std())
    margin = np.sort(scores, axis=0)[12] * y[-10:].std()  # the 13th of 14: 0.85 * 15, rounded up
    assert (margin > 0).all()
    low, _, high = model.predict_quantiles().T
    lower, upper = model.predict_interval(coverage=0.85)
    np.testing.assert_allclose(lower, low - margin, rtol=1e-6)
    np.testing.assert_allclose(upper, high + margin, rtol=1e-6)


@pytest.mark.parametrize("levels", [[0.5], [0.1, 0.5, 0.9], [0.02, 0.1, 0.25, 0.5, 0.9], [0.5, 0.8]], ids=str)
def test_a_score_is_that_of_the_interval_with_the_value_on_its_edge(levels):
    rng = np.random.default_rng(0)
    forecasts = np.sort(rng.normal(size=(300, len(levels))), axis=-1)
    values, deviation = 2 * rng.normal(size=300), rng.uniform(0.1, 2, 300)
    found = intervals.scores(values, forecasts, deviation, levels)
    lower, upper = intervals.bounds(found, forecasts, deviation, levels)
    below = values < forecasts[:, levels.index(0.5)]
    np.testing.assert_allclose(np.where(below, lower, upper), values, rtol=1e-9, atol=1e-9)
    for place, level in enumerate(levels):
        lower, upper = intervals.bounds(abs(2 * level - 1), forecasts, deviation, levels)
        np.testing.assert_allclose(lower if level < 0.5 else upper, forecasts[:, place], atol=1e-12)


def test_intervals_where_nothing_varies_are_points_or_endless():
    levels, forecasts, none = [0.1, 0.5, 0.9], np.full((3, 3), 7.0), np.zeros(3)
    found = intervals.scores(np.array([7.0, 8.0, 6.0]), forecasts, none, levels)
    np.testing.assert_array_equal(found, [0, np.inf, np.inf])
    np.testing.assert_array_equal(intervals.bounds(found, forecasts, none, levels), np.full((2, 3), 7.0))
    lower, upper = intervals.bounds(found, forecasts, np.ones(3), levels)
    np.testing.assert_array_equal([lower, upper], [[7, -np.inf, -np.inf], [7, np.inf, np.inf]])


@pytest.mark.parametrize("options", [{}, {"quantiles": (0.1, 0.5, 0.9)}, {"quantiles": (0.2, 0.5)}], ids=str)
def test_an_interval_of_a_greater_coverage_holds_those_of_smaller_ones(options):
    y = unsteady("changing variance", 700)
    model = Forecaster(horizon=6, validation_fraction=0.3, **options, **TINY).fit(y)
    pasts = [y[:end] for end in range(500, 694, 5)]
    lower = upper = np.array(model.predict(pasts))
    for coverage in np.linspace(0, 0.99, 34):
        inner = lower, upper
        lower, upper = map(np.array, model.predict_interval(pasts, coverage=coverage))
        assert (lower <= inner[0]).all() and (inner[1] <= upper).all()


def test_intervals_that_cannot_be_had_are_refused():
    model = Forecaster(horizon=3, **TINY).fit(wave(160))
    assert np.isfinite(model.predict_interval(coverage=14 / 15)).all()
    with pytest.raises(
        ValueError, match=r"coverage must be at most 0.9333, for the 14 forecasts held out .* got 0.95"
    ):
        model.predict_interval(coverage=0.95)
    with pytest.raises(ValueError, match=r"coverage must be a number from 0 to 1, got 1\.5"):
        model.predict_interval(coverage=1.5)
    with pytest.raises(ValueError, match=r"coverage must be at most 0\.6666, for the 2 .* got 0\.6667"):
        few = Forecaster(horizon=3, validation_fraction=0.025, **TINY).fit(wave(160))
        few.predict_interval(coverage=0.6667)
    unseen = Forecaster(horizon=3, validation_fraction=0, **TINY).fit(wave(160))
    for model in (unseen, Forecaster(horizon=3, **TINY).partial_fit(wave(160))):
        with pytest.raises(ValueError, match=r"coverage is learned from forecasts .* there were none"):
            model.predict_interval(coverage=0)
    recursive = Forecaster(horizon=3, strategy="recursive", **TINY).fit(wave(160))
    with pytest.raises(ValueError, match="horizon must be at most 3 for intervals, as fitted, got 4"):
        recursive.predict_interval(horizon=4)


def test_parameters_keep_their_form_in_a_file(tmp_path):
    model = Forecaster(horizon=3, lags=(3,), quantiles=(0.1, 0.5, 0.9), **TINY).fit(wave(160))
    model.save(tmp_path / "model")
    assert repr(Forecaster.load(tmp_path / "model")) == repr(model)


@pytest.mark.parametrize("names", [["load", "wind"], [2024, 2023]], ids=str)
def test_columns_of_frames_are_those_of_fit(names, tmp_path):
    pandas = pytest.importorskip("pandas")
    y = pandas.DataFrame({names[0]: wave(80), names[1]: wave(80, 7)})
    x = pandas.DataFrame({"price": wave(84, 5), "hour": np.arange(84) % 24})
    others, prices = y[names[::-1]], x[["hour", "price"]]
    fitted = Forecaster(horizon=4, **TINY).fit(y, x[:80])
    fitted.save(tmp_path / "model")
    expected = fitted.predict(covariates=x[80:])
    error = r"{} must have the columns of fit, in their order: \[{!r}, {!r}\], got \[{!r}, {!r}\]"
    load, price = error.format("y", *y, *others), error.format("covariates", *x, *prices)
    refused = [
        (lambda model: model.predict(others, x), load),
        (lambda model: model.predict(covariates=prices[80:]), price),
        (lambda model: model.predict_interval([y], [prices]), price),
        (lambda model: model.score(others, x[:80]), load),
        (lambda model: model.partial_fit(y, prices[:80]), price),
    ]
    for model in (fitted, Forecaster.load(tmp_path / "model")):
        np.testing.assert_array_equal(model.predict(y.to_numpy(), x.to_numpy()), expected)
        for call, error in refused:
            with pytest.raises(ValueError, match=error):
                call(model)
        np.testing.assert_array_equal(model.predict(covariates=x[80:]), expected)
    fitted.fit(others, prices[:80])


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
        ([np.ones((3, 2)), np.ones((3, 1))], r"same number of channels .* shape \(3, 2\) in y\[0\]"),
        (np.ones((2, 3, 4)), r"shape \(T,\) or \(T, C\), with at least one step, got shape \(2, 3, 4\)"),
        ([], r"at least one step, got shape \(0,\)"),
        (["a", "b"], r"y must be an array of numbers, got dtype <U1"),
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
        ({"context": 1}, "context must be at least 2, as a single step does not vary, got 1"),
        ({"strategy": "both"}, "strategy must be one of 'direct', 'recursive', got 'both'"),
        ({"horizon": 5, "lags": (3,)}, 'lags must be at least horizon = 5 with strategy="direct", got 3'),
        ({"lags": 3}, "lags must be a tuple of integers, got 3"),
        (
            {"quantiles": (0.1, 0.9)},
            "quantiles must be None or rising levels between 0 and 1, 0.5 among them",
        ),
        ({"quantiles": (0.5, 1.0)}, "quantiles must be None or rising levels"),
        ({"quantiles": (0.5,), "strategy": "recursive"}, 'quantiles need strategy="direct"'),
        ({"quantiles": (0.5,), "loss": "huber"}, "loss must be 'mean_squared_error' beside quantiles"),
        ({"loss": "softmax"}, "loss must be one of 'mean_squared_error', 'mean_absolute_error', 'huber'"),
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
        (lambda: model.fit(wave(21)), r"y must have at least 23 steps, for a context of 10, 5 before it for "
         r"lags and differences, the steps ahead and those to validate on, got 21"),
        (lambda: model.fit([wave(80), wave(18)]), r"y\[1\] must have at least 19 steps"),
        (lambda: model.fit(wave(80), np.arange(79)), "covariates must have 80 steps, those of y, got 79"),
        (lambda: model.fit(wave(80), [ahead, ahead]), "covariates must be of 1 series, as y, got 2"),
        (lambda: model.fit([[[1.0], [1.0, 2.0]]]), r"y\[0\] must be numbers of shape .* of type list"),
        (lambda: model.fit({"a": wave(80)}, {"a": [[1.0], [1.0, 2.0]]}), r"covariates\['a'\] must be num"),
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


def test_an_unfitted_model_says_so():
    with pytest.raises(RuntimeError, match="not fitted"):
        Forecaster().predict()


@pytest.mark.parametrize("module", [forecaster, panel])
def test_documented_examples(module):
    assert doctest.testmod(module).failed == 0
