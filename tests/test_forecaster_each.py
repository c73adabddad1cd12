"""A forecaster with a network for each series: what it says is what one for this series alone says."""

import pickle

import numpy as np
import pytest

from fastrnn.diagnostics import diagnose_model
from fastrnn.models import Forecaster

TINY = {"horizon": 3, "context": 10, "hidden_size": 4, "max_steps": 6, "seed": 0, "validation_fraction": 0.2}


def waves(count=3, seed=0):
    """Series of different lengths, and what goes with each step and the three ahead."""
    rng = np.random.default_rng(seed)
    steps = [70 + 9 * k for k in range(count)]
    series = [np.sin(np.arange(n) * (0.2 + 0.1 * k)) + rng.normal(0, 0.1, n) for k, n in enumerate(steps)]
    return series, [rng.normal(size=len(each) + 3) for each in series]


def of_each(**options):
    return Forecaster(global_model=False, **TINY, **options)


def alone(**options):
    return Forecaster(**TINY, **options)


@pytest.mark.parametrize(
    "options",
    [{}, {"quantiles": (0.2, 0.5, 0.7), "lags": (4,)}, {"strategy": "recursive", "refit": False}],
    ids=str,
)
def test_forecasts_and_intervals_are_those_of_each_alone(options):
    series, known = waves()
    past, ahead = [k[:-3] for k in known], [k[-3:] for k in known]
    model = of_each(**options).fit(series, past)
    each = [alone(**options).fit(*given) for given in zip(series, past, strict=True)]
    found = model.predict(covariates=ahead)
    low, high = model.predict_interval(covariates=ahead, coverage=0.6)
    again = model.predict([s[:-2] for s in series], [k[:-2] for k in known])
    for k, one in enumerate(each):
        assert np.array_equal(found[k], one.predict(covariates=ahead[k]))
        assert np.array_equal(again[k], one.predict(series[k][:-2], known[k][:-2]))
        expected = one.predict_interval(covariates=ahead[k], coverage=0.6)
        assert np.array_equal([low[k], high[k]], expected)
        if "quantiles" in options:
            expected = one.predict_quantiles(covariates=ahead[k])
            assert np.array_equal(model.predict_quantiles(covariates=ahead)[k], expected)
        assert model.history_[k][-1]["train_loss"] == one.history_[-1]["train_loss"]
        assert model.best_epoch_[k] == one.best_epoch_
    assert not np.array_equal(found[0], alone(**options).fit(series, past).predict(covariates=ahead)[0])


def test_one_series_and_several_channels():
    y = np.column_stack(waves(2)[0][0:1] * 2) + [[0.0, 5.0]]
    assert np.array_equal(of_each().fit(y).predict(), alone().fit(y).predict())
    assert of_each().fit(y).score(y) == alone().fit(y).score(y)


def test_series_are_known_by_their_names():
    series, _ = waves()
    names = ["a", "b", "c"]
    model = of_each().fit(dict(zip(names, series, strict=True)))
    found = model.predict()
    other = model.predict({"c": series[2], "a": series[0]})
    assert list(other) == ["c", "a"]
    assert all(np.array_equal(other[name], found[name]) for name in other)
    low, high = model.predict_interval({"c": series[2], "a": series[0]}, coverage=0.5)
    expected = model.predict_interval(coverage=0.5)
    assert all(np.array_equal(low[name], expected[0][name]) for name in low)
    assert all(np.array_equal(high[name], expected[1][name]) for name in high)
    turned = dict(zip(names[::-1], series[::-1], strict=True))
    assert model.score(turned) == pytest.approx(model.score(dict(zip(names, series, strict=True))))
    with pytest.raises(ValueError, match=r"y must be of series of fit, as global_model=False, got 'd'"):
        model.predict({"d": series[0]})
    with pytest.raises(
        ValueError, match=r"some of these, by name, as global_model=False, got 3 without names"
    ):
        model.predict(series)


def test_frames_of_pandas():
    pd = pytest.importorskip("pandas")
    series, _ = waves(2)
    days = pd.date_range("2024-01-01", periods=70, freq="D")
    each = {name: pd.DataFrame({"ds": days, "y": of[:70]}) for name, of in zip("uv", series, strict=True)}
    frame = pd.concat([of.assign(unique_id=name) for name, of in each.items()])
    found = of_each().fit(frame).predict()
    assert list(found["unique_id"]) == list("uuuvvv")
    assert np.array_equal(found["y"][3:], alone().fit(series[1][:70]).predict())


def test_files_and_pickles(tmp_path):
    series, known = waves()
    model = of_each().fit(series, [k[:-3] for k in known])
    model.save(tmp_path / "each.safetensors")
    ahead = [k[-3:] for k in known]
    for copy in (Forecaster.load(tmp_path / "each.safetensors"), pickle.loads(pickle.dumps(model))):
        assert all(map(np.array_equal, copy.predict(covariates=ahead), model.predict(covariates=ahead)))
        found, expected = (each.predict_interval(covariates=ahead) for each in (copy, model))
        assert all(map(np.array_equal, found[0], expected[0])) and all(
            map(np.array_equal, found[1], expected[1])
        )
        assert copy.history_ == model.history_


class TestErrors:
    def test_name_the_series(self):
        series, _ = waves()
        series[1] = series[1][:12]
        with pytest.raises(ValueError, match=r"^y\['b'\] must have at least"):
            of_each().fit(dict(zip("abc", series, strict=True)))
        with pytest.raises(ValueError, match=r"^y\[1\] must have at least"):
            of_each().fit(series)
        with pytest.raises(ValueError, match=r"^y\[0\]: patience must be None"):
            Forecaster(**{**TINY, "validation_fraction": 0}, patience=2, global_model=False).fit(series[:1])

    def test_of_what_is_of_one_training(self, tmp_path):
        series, _ = waves()
        model = of_each()
        for option in ({"checkpoint": tmp_path / "c"}, {"resume": "auto"}, {"callbacks": print}):
            with pytest.raises(
                ValueError, match=r"global_model must be True for checkpoint, resume and callbacks"
            ):
                model.fit(series, **option)
        with pytest.raises(ValueError, match="global_model must be True for partial_fit"):
            model.partial_fit(series)
        model.fit(series)
        for call in (lambda: model.partial_fit(series), lambda: diagnose_model(model, series)):
            with pytest.raises(ValueError, match="global_model must be True"):
                call()
        with pytest.raises(
            ValueError, match=r"fit, the 3 in their order, as global_model=False, got 2 without"
        ):
            model.predict(series[:2])
        with pytest.raises(TypeError, match="global_model must be"):
            Forecaster(global_model="each").fit(series)

    def test_leave_the_model_as_it_was(self):
        series, _ = waves()
        model = of_each().fit(series)
        before = model.predict()
        with pytest.raises(ValueError, match="must be finite"):
            model.fit([*series[:2], np.full(80, np.nan)])
        assert all(map(np.array_equal, model.predict(), before))

    def test_of_one_kind_after_the_other(self):
        series, _ = waves()
        model = of_each().fit(series)
        model.set_params(global_model=True).fit(series)
        assert np.array_equal(model.predict()[0], alone().fit(series).predict()[0])
        model.set_params(global_model=False).fit(series)
        assert np.array_equal(model.predict()[0], alone().fit(series[0]).predict())
