"""Series of pandas in and out of a forecaster: forecasts as of arrays, with the stamps that follow."""

import json
import re
import subprocess
import sys
from dataclasses import asdict

import numpy as np
import pytest

from fastrnn.data.panel import Form, read_series
from fastrnn.models import Forecaster

pd = pytest.importorskip("pandas")
from dateutil.tz import tzutc  # noqa: E402, which comes with pandas

TINY = {"hidden_size": 4, "epochs": 1, "context": 8, "horizon": 3, "seed": 0}
QUANTILES = (0.1, 0.5, 0.9)
T = 60
HOURS = pd.date_range("2024-03-29 12:00", periods=T + 9, freq="h", tz="Europe/Berlin", name="when")
A, B = 5 + np.sin(np.arange(T) * 0.5), 9 + np.cos(np.arange(T) * 0.3)
LOAD = pd.Series(A, HOURS[:T], name="load")
WIDE = pd.DataFrame({"load": A, "wind": B}, HOURS[:T])
PRICE = pd.DataFrame({"price": np.arange(T + 9.0) % 7, "free": np.arange(T + 9) % 5 == 0}, HOURS)


def long(names=("b", "a"), ids="unique_id", times="ds"):
    parts = [
        pd.DataFrame({ids: name, times: HOURS[:T], "y": y}) for name, y in zip(names, (A, B), strict=True)
    ]
    return pd.concat(parts).sort_values(times, kind="stable").reset_index(drop=True)  # in turns


def fitted(y, covariates=None, **options):
    return Forecaster(**TINY, **options).fit(y, covariates)


def same(found, expected):
    """Also their indexes and names; how pandas calls a step may differ."""
    if isinstance(expected, pd.Series):
        pd.testing.assert_series_equal(found, expected, check_freq=False)
    else:
        pd.testing.assert_frame_equal(found, expected, check_freq=False)


# -- one form in, the same out


def test_a_series_goes_on_at_its_index():
    model, plain = (fitted(y, quantiles=QUANTILES) for y in (LOAD, A))
    ahead = HOURS[T : T + 3]
    same(model.predict(), pd.Series(plain.predict(), ahead, name="load"))
    same(model.predict_quantiles(), pd.DataFrame(plain.predict_quantiles(), ahead, QUANTILES))
    for found, expected in zip(model.predict_interval(), plain.predict_interval(), strict=True):
        same(found, pd.Series(expected, ahead, name="load"))
    same(model.predict(LOAD[:40]), pd.Series(plain.predict(A[:40]), HOURS[40:43], name="load"))
    np.testing.assert_array_equal(model.predict(A), plain.predict())  # an array stays an array
    assert model.score(LOAD) == plain.score(A)


def test_a_frame_has_a_column_for_each_channel():
    model, plain = (fitted(y, quantiles=QUANTILES) for y in (WIDE, WIDE.to_numpy()))
    ahead = HOURS[T : T + 3]
    same(model.predict(), pd.DataFrame(plain.predict(), ahead, WIDE.columns))
    quantiles = plain.predict_quantiles()
    for place, channel in enumerate(WIDE):
        same(model.predict_quantiles()[channel], pd.DataFrame(quantiles[:, place], ahead, QUANTILES))
    assert model.predict(WIDE[["load", "wind"]][:30]).columns.tolist() == ["load", "wind"]


def test_series_by_name():
    model, plain = fitted({"a": LOAD, 7: WIDE["wind"][:50]}), fitted([A, B[:50]])
    expected = plain.predict()
    found = model.predict()
    assert list(found) == ["a", 7]
    same(found["a"], pd.Series(expected[0], HOURS[T : T + 3], name="load"))
    same(found[7], pd.Series(expected[1], HOURS[50:53], name="wind"))
    arrays = fitted({"a": A, "b": B[:50]}).predict()
    np.testing.assert_array_equal([arrays["a"], arrays["b"]], expected)
    listed = fitted([LOAD, WIDE["wind"][:50]]).predict()
    same(listed[1], pd.Series(expected[1], HOURS[50:53], name="wind"))


@pytest.mark.parametrize("quantiles", [None, QUANTILES])
def test_a_long_frame(quantiles):
    model, plain = fitted(long(), quantiles=quantiles), fitted([A, B], quantiles=quantiles)
    expected = np.concatenate(plain.predict())
    named = np.repeat(["b", "a"], 3)
    ahead = HOURS[T : T + 3].append(HOURS[T : T + 3]).rename("ds")
    frame = pd.DataFrame({"unique_id": named, "ds": ahead, "y": expected})
    same(model.predict(), frame)
    low, high = model.predict_interval(coverage=0.5)
    assert (low["y"] <= frame["y"]).all() and list(high) == ["unique_id", "ds", "y"]
    if quantiles:
        found = model.predict_quantiles()
        assert list(found) == ["unique_id", "ds", "y_0.1", "y_0.5", "y_0.9"]
        np.testing.assert_array_equal(found.iloc[:, 2:], np.concatenate(plain.predict_quantiles()))


def test_an_index_of_names_and_stamps():
    frame = long(ids="house", times="hour").set_index(["house", "hour"])
    expected = np.concatenate(fitted([A, B]).predict())
    index = pd.MultiIndex.from_product([["b", "a"], HOURS[T : T + 3]], names=["house", "hour"])
    same(fitted(frame).predict(), pd.DataFrame({"y": expected}, index))
    same(fitted(frame["y"]).predict(), pd.Series(expected, index, name="y"))


def test_a_column_of_stamps_is_an_index():
    frame = LOAD.rename_axis("ds").reset_index()
    same(fitted(frame).predict(), fitted(LOAD).predict().rename_axis("ds").reset_index())


# -- steps


BEIRUT = pd.date_range("2024-03-10", "2024-05-17 23:00", freq="h", tz="Asia/Beirut")
INDEXES = {
    "hours without a freq": pd.DatetimeIndex(HOURS.to_list()),
    "days over a change of the clocks": pd.date_range("2024-03-20", periods=69, freq="D", tz="Europe/Berlin"),
    "days of a clock that skips a midnight": pd.Series(0, BEIRUT).resample("D").sum().index,
    "working days": pd.date_range("2024-01-01", periods=69, freq="B"),
    "ends of months": pd.DatetimeIndex(pd.date_range("2000-01-31", periods=69, freq="ME").to_list()),
    "quarters": pd.period_range("2000Q1", periods=69, freq="Q"),
    "every two days": pd.period_range("2024-01-01", periods=69, freq="2D"),
    "half seconds": pd.timedelta_range("0s", periods=69, freq="500ms"),
    "integers": pd.Index(np.arange(100, 100 + 3 * 69, 3)),
    "small integers": pd.Index(np.arange(69), dtype="uint8"),
    "nullable integers": pd.Index(np.arange(69), dtype="Int64"),
    "a range": pd.RangeIndex(5, 5 + 2 * 69, 2),
    "nanoseconds": pd.date_range("2024-01-01", periods=69, freq="7ns"),
}


@pytest.mark.parametrize("index", INDEXES.values(), ids=INDEXES)
def test_every_index_goes_on(index, tmp_path):
    y = pd.Series(A, index[:T], name="y")
    model = fitted(y, strategy="recursive")
    model.save(tmp_path / "model")
    for each in (model, Forecaster.load(tmp_path / "model")):
        assert each.predict(horizon=9).index.tolist() == index[T : T + 9].tolist()
        assert each.predict(y[:20]).index.tolist() == index[20:23].tolist()


def test_a_step_is_that_of_fit():
    days = pd.Series(A, pd.date_range("2024-01-01", periods=T, freq="B"))
    week = days[1:9]  # Tuesday to Thursday of the next week
    few = pd.Series(week.to_numpy(), pd.DatetimeIndex(week.index.to_list()))
    model = Forecaster(**TINY).fit(days)
    assert model.predict(few).index[0] == pd.Timestamp("2024-01-12")
    for y, error in (
        (LOAD.tz_localize(None), r"ascending steps of B, as in fit, but 2024-03-29 13:00:00 follows"),
        (pd.Series(A), r"y must have an index of datetime64\[.*\], as in fit, got int64"),
    ):
        with pytest.raises(ValueError, match=error):
            model.predict(y)


def irregular(places):
    return pd.Series(A[: len(places)], HOURS[places])


WRONG = {
    "a gap": (irregular([*range(20), *range(21, 50)]), "but {21} follows {19}"),
    "twice the same": (irregular([*range(20), *range(19, 50)]), "but {19} follows {19}"),
    "the last first": (irregular(range(40)[::-1]), "but {38} follows {39}"),
    "two in each other's place": (
        irregular([*range(9), 10, 9, *range(11, 50)]),
        "y must have each stamp once, in ascending order, but {9} follows {10}",
    ),
    "a month left out": (
        pd.Series(A, pd.date_range("2000-01-01", periods=T + 1, freq="MS").delete(30)),
        "in ascending steps of MS, but 2002-08-01 00:00:00 follows 2002-06-01 00:00:00",
    ),
    "a day of a local clock left out": (
        pd.Series(A, pd.date_range("2024-03-20", periods=T + 1, tz="Europe/Berlin").delete(30)),
        "in ascending steps of D, but 2024-04-20 00:00:00+02:00 follows 2024-04-18 00:00:00+02:00",
    ),
    "holidays": (
        pd.Series(A, pd.date_range("2024-01-01", periods=T + 3, freq="B").delete([10, 40, 50])),
        "in ascending steps of B, but 2024-01-16 00:00:00 follows 2024-01-12 00:00:00",
    ),
    "a long frame in disorder": (
        long()[::-1],
        "y['a'] must have each stamp once, in ascending order, but {58} follows {59}",
    ),
    "all the same": (irregular([3] * 40), "but {3} follows {3}"),
    "integers with a gap": (pd.Series(A).drop(7), "ascending steps of 1, but 8 follows 6; y.to_numpy() goes"),
    "words": (pd.Series(A, map(str, range(T))), "an index of dates, periods, times or integers, got"),
    "numbers": (pd.Series(A, np.arange(T) / 2), "an index of dates, periods, times or integers, got float64"),
    "no time": (pd.Series(A, [pd.NaT, *HOURS[1:T]]), "y must have an index without gaps, got NaT"),
    "a freq without a name": (
        pd.Series(A, pd.date_range("1900", periods=T, freq=pd.DateOffset(months=1, days=2))),
        "whose freq pandas has a name for, got <",
    ),
    "a zone without a name": (LOAD.tz_convert(tzutc()), "a time zone that has a name, as tz_convert gives"),
    "a missing value": (LOAD.where(LOAD.index != HOURS[4]), "finite, got nan at step 4, {4}"),
    "a column of words": (WIDE.assign(who="me"), "got 'me' of type str in y[0, 2], column 'who'"),
    "names without stamps": (long().drop(columns="ds"), "a column 'ds' of stamps beside 'unique_id'"),
    "no name": (long(("a", np.nan)), "the series of y must have names that are strings or integers, got nan"),
    "three levels": (pd.concat({0: pd.concat({1: LOAD})}), "an index of stamps, or names and stamps"),
    "a tuple as name": (
        {("a", 1): A},
        "the series of y must have names that are strings or integers, got ('a', 1)",
    ),
    "no series": ({}, "y must have at least one series, got none"),
    "an array beside": ([LOAD, A], "the same columns in the same order in all series, got ['load'] in y[0]"),
    "other columns": (
        [WIDE, WIDE[["wind", "load"]]],
        "['load', 'wind'] in y[0] and ['wind', 'load'] in y[1]",
    ),
    "other stamps": ([LOAD, LOAD.tz_convert("UTC")], "as y[0], got datetime64"),
    "another step": (
        {"a": LOAD, "b": LOAD[::2]},
        "y['b'] must have an index in ascending steps of h, but {2}",
    ),
}


@pytest.mark.parametrize(("y", "error"), WRONG.values(), ids=WRONG)
def test_series_that_are_refused(y, error):
    error = re.sub(r"\{(\d+)\}", lambda found: str(HOURS[int(found[1])]), error)
    with pytest.raises((TypeError, ValueError), match=re.escape(error)):
        fitted(y)


# -- covariates


def test_covariates_are_found_by_their_stamps():
    plain = fitted(A, PRICE.to_numpy(float)[:T])
    expected = plain.predict(covariates=PRICE.to_numpy(float)[T : T + 3])
    model = fitted(LOAD, PRICE)  # with rows of the future
    for given in (PRICE, PRICE[T:], PRICE[::-1], PRICE.to_numpy()[T : T + 3]):
        np.testing.assert_array_equal(model.predict(covariates=given), expected)
    past = plain.predict(A[:30], PRICE.to_numpy(float)[:33])
    np.testing.assert_array_equal(model.predict(LOAD[:30], PRICE), past)
    assert model.score(LOAD, PRICE) == plain.score(A, PRICE.to_numpy(float)[:T])


def test_covariates_of_several_series_are_found_by_their_names():
    other = -PRICE
    plain = fitted([A, B], [PRICE.to_numpy(float)[:T], other.to_numpy(float)[:T]])
    expected = plain.predict(covariates=[each.to_numpy(float)[T : T + 3] for each in (PRICE, other)])
    y = {"a": LOAD, "b": WIDE["wind"]}
    prices = pd.concat({"b": other, "a": PRICE}, names=["unique_id", "ds"])
    for given in ({"b": other, "c": other, "a": PRICE}, prices, prices.reset_index()):
        found = fitted(y, given).predict(covariates=given)
        np.testing.assert_array_equal([found["a"], found["b"]], expected)


def test_one_frame_of_covariates_is_for_all_series():
    each = fitted({"a": LOAD, "b": WIDE["wind"][:50]}, {"a": PRICE, "b": PRICE})
    model = fitted({"a": LOAD, "b": WIDE["wind"][:50]}, PRICE)
    for name, found in model.predict(covariates=PRICE).items():
        same(found, each.predict(covariates={"a": PRICE, "b": PRICE})[name])


@pytest.mark.parametrize(
    ("covariates", "error"),
    [
        (PRICE[1:], "covariates must have the stamps of y, {0} to {59}, but {0} is not among its own"),
        (PRICE.drop(HOURS[7]), "but {7} is not among its own, which are {0} to {68}"),
        (pd.concat([PRICE, PRICE[5:6]]), "covariates must have each stamp once, got {5} again"),
        (PRICE.reset_index(drop=True), "but {0} is not among its own, which are 0 to 68"),
        (PRICE.tz_localize(None), "but {0} is not among its own"),
        (PRICE[:0], "but {0} is not among its own"),
        (PRICE.to_numpy(), "covariates must have 60 steps, those of y, got 69"),
        ({"a": PRICE}, "covariates must be of 1 series, as y, got 1 by name"),
        ([PRICE, PRICE], "covariates must be of 1 series, as y, got 2"),
        (PRICE.mask(PRICE.index.to_series() == HOURS[4]), "nan at step 4, {4}, channel 0"),
    ],
)  # fmt: skip
def test_covariates_that_are_refused(covariates, error):
    error = re.sub(r"\{(\d+)\}", lambda found: str(HOURS[int(found[1])]), error)
    with pytest.raises((TypeError, ValueError), match=re.escape(error)):
        fitted(LOAD, covariates)


def test_covariates_ahead_are_those_that_follow():
    model = fitted(LOAD, PRICE)
    missing = f"the stamps ahead, {HOURS[T]} to {HOURS[T + 2]}, but {HOURS[T + 2]} is not among its own"
    with pytest.raises(ValueError, match=re.escape(missing)):
        model.predict(covariates=PRICE[: T + 2])
    error = r"covariates must have the columns of fit, in their order: \['price', 'free'\], got"
    with pytest.raises(ValueError, match=error):
        model.predict(covariates=PRICE[["free", "price"]])
    several = fitted({"a": LOAD}, {"a": PRICE})
    for given, error in (
        ({"b": PRICE}, "covariates must be of the same series as y, there is none for 'a'"),
        ([PRICE], "covariates must be of 1 series by name, as y, got 1"),
    ):
        with pytest.raises(ValueError, match=error):
            several.predict(covariates=given)


# -- files, and pandas itself


@pytest.mark.parametrize("y", [LOAD, WIDE, {"a": LOAD, 7: LOAD[:50]}, long(), [WIDE]], ids=str)
def test_a_file_goes_on_at_the_index(y, tmp_path):
    model = fitted(y)
    model.save(tmp_path / "model")
    found, expected = Forecaster.load(tmp_path / "model").predict(), model.predict()
    for each in expected if isinstance(y, dict) else [0] if isinstance(y, list) else [slice(None)]:
        same(found[each], expected[each])


def test_training_goes_on_with_the_same_stamps_alone(tmp_path):
    path, longer = tmp_path / "checkpoint", {**TINY, "epochs": 2, "schedule": "constant"}
    Forecaster(**{**longer, "epochs": 1}).fit(LOAD, checkpoint=path)
    same(Forecaster(**longer).fit(LOAD, resume=path).predict(), Forecaster(**longer).fit(LOAD).predict())
    with pytest.raises(ValueError, match="another training: it has form"):
        Forecaster(**longer).fit(LOAD.set_axis(LOAD.index.shift(1)), resume=path)


WITHOUT_PANDAS = """
import sys
sys.modules["pandas"] = None  # which makes its import fail
import numpy as np
from fastrnn.models import Forecaster

y = 5 + np.sin(np.arange(60) * 0.5)
model = Forecaster(hidden_size=4, epochs=1, context=8, horizon=3, seed=0).fit({"a": y})
assert list(model.predict()) == ["a"] and model.predict(y).shape == (3,)
model = Forecaster.load(sys.argv[1])
assert model.predict(y).shape == (3,)
try:
    model.predict()
except ImportError as error:
    print(error)
"""


def test_arrays_take_no_pandas(tmp_path):
    fitted(LOAD).save(tmp_path / "model")
    command = [sys.executable, "-c", WITHOUT_PANDAS, str(tmp_path / "model")]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert "forecasts of series that were of pandas take pandas" in done.stdout


def test_a_frame_of_another_package_is_refused():
    class Frame:
        def to_pandas(self):
            return WIDE

        def __array__(self, dtype=None, copy=None):
            return WIDE.to_numpy()

    with pytest.raises(TypeError, match=r"y must be of NumPy or pandas, got .*Frame; pass y.to_pandas\(\)"):
        fitted(Frame())


def test_a_form_is_what_json_can_express():
    for y in (LOAD, WIDE, long(), {"a": LOAD}, [A, B]):
        form = read_series("y", y).form
        assert Form(**json.loads(json.dumps(asdict(form)))) == form
