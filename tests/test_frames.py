"""Data of pandas: what it holds, the names of its columns, and errors that say where."""

from functools import partial

import numpy as np
import pytest

from fastrnn.models import SequenceClassifier, SequenceGenerator, SequenceRegressor, SequenceTagger

pd = pytest.importorskip("pandas")

TINY = {"hidden_size": 4, "epochs": 1, "seed": 0}
Y = np.arange(12) % 2


def frames():
    return [pd.DataFrame({"temp": np.arange(5.0) + k, "press": -np.arange(5.0)}) for k in range(12)]


def fit(X):
    return SequenceClassifier(**TINY).fit(X, Y)


@pytest.mark.parametrize(
    "form",
    [
        lambda X: [x.astype("Float64") for x in X],
        lambda X: [x.astype(object) for x in X],
        lambda X: pd.Series(X, dtype=object),
        tuple,
    ],
)
def test_every_form_is_the_same(form):
    expected = fit(frames()).predict_proba(frames())
    np.testing.assert_array_equal(fit(form(frames())).predict_proba(form(frames())), expected)


def test_a_series_of_arrays():
    arrays = pd.Series([x.to_numpy() for x in frames()])
    np.testing.assert_array_equal(
        fit(arrays).predict_proba(arrays), fit(list(arrays)).predict_proba(list(arrays))
    )


@pytest.mark.parametrize(
    ("X", "error"),
    [
        (
            lambda: pd.DataFrame({"dim_0": [x["temp"] for x in frames()]}),
            r"got a Series in X\[0, 0\], column 'dim_0': .*; sequences go into a list, one by one",
        ),
        (
            lambda: [x.assign(kind="a") for x in frames()],
            r"got 'a' of type str in X\[0\]\[0, 2\], column 'kind'",
        ),
        (
            lambda: [x.astype("Float64").where(x < 13) for x in frames()],
            r"got <NA> of type NAType in X\[9\]\[4, 0\], column 'temp'",
        ),
        (
            lambda: [x.where(x < 13) for x in frames()],
            "X must be finite .* NaN in sequence 9, step 4, feature 0",
        ),
        (
            lambda: [x.assign(when=pd.Timestamp("2020-01-01")) for x in frames()],
            r"got Timestamp.*X\[0\]\[0, 2\], column 'when'",
        ),
        (
            lambda: [*frames()[:5], frames()[5][["press", "temp"]], *frames()[6:]],
            r"same order .* \['temp', 'press'\] in X\[0\] and \['press', 'temp'\] in X\[5\]",
        ),
    ],
)
def test_what_cannot_be_used_is_named_with_its_place(X, error):
    with pytest.raises((TypeError, ValueError), match=error):
        fit(X())


def test_columns_are_those_of_fit(tmp_path):
    model = fit(frames())
    assert model.feature_names_in_.tolist() == ["temp", "press"] and model.n_features_in_ == 2
    model.save(tmp_path / "model")
    for fitted in (model, SequenceClassifier.load(tmp_path / "model")):
        assert fitted.predict(frames()).shape == (12,)
        for use in (fitted.predict, fitted.predict_proba, partial(fitted.partial_fit, y=Y)):
            with pytest.raises(
                ValueError, match=r"X must have the columns of fit.*: \['temp', 'press'\], got"
            ):
                use([x[["press", "temp"]] for x in frames()])
    with pytest.warns(
        UserWarning, match="X does not have valid feature names, but SequenceClassifier was"
    ) as seen:
        arrays = [x.to_numpy() for x in frames()]
        for use in (
            model.predict,
            model.predict_proba,
            partial(model.score, y=Y),
            partial(model.partial_fit, y=Y),
        ):
            use(arrays)
    assert {each.filename for each in seen} == {__file__}  # however many methods are between
    unnamed = fit([x.to_numpy() for x in frames()])
    assert not hasattr(unnamed, "feature_names_in_")
    with pytest.warns(UserWarning, match="X has feature names, but SequenceClassifier was fitted without"):
        unnamed.predict(frames())
    assert not hasattr(model.fit([x.to_numpy() for x in frames()], Y), "feature_names_in_")


def test_columns_of_a_matrix():
    X = pd.DataFrame(np.random.default_rng(0).normal(size=(12, 3)), columns=list("abc"))
    model = SequenceRegressor(**TINY).fit(X, X["a"])
    assert model.feature_names_in_.tolist() == ["a", "b", "c"] and model.n_features_in_ == 3
    with pytest.raises(ValueError, match="X must have the columns of fit, in their order"):
        model.predict(X[["c", "b", "a"]])
    numbered = X.set_axis([0, 1, 2], axis=1)
    assert not hasattr(SequenceRegressor(**TINY).fit(numbered, X["a"]), "feature_names_in_")


def test_columns_of_vectors(tmp_path):
    X = pd.DataFrame({"length": np.arange(12.0), "width": np.arange(12.0) % 5})
    SequenceGenerator(**TINY).fit(X, ["ab"] * 12).save(tmp_path / "model")
    model = SequenceGenerator.load(tmp_path / "model")
    assert model.feature_names_in_.tolist() == ["length", "width"] and len(model.predict(X)) == 12
    with pytest.raises(ValueError, match="X must have the columns of fit, in their order"):
        model.predict(X[["width", "length"]])
    with pytest.warns(
        UserWarning, match="X does not have valid feature names, but SequenceGenerator was fitted"
    ):
        model.score(X.to_numpy(), ["ab"] * 12)


def test_tokens_of_pandas():
    X = pd.DataFrame(np.arange(36).reshape(12, 3) % 7)
    expected = SequenceClassifier(**TINY, n_tokens=7).fit(X.to_numpy(), Y).predict_proba(X.to_numpy())
    for form in (X, X.astype("Int64"), X.astype(object), [row.astype("Int64") for _, row in X.iterrows()]):
        found = SequenceClassifier(**TINY, n_tokens=7).fit(form, Y).predict_proba(form)
        np.testing.assert_array_equal(found, expected)


def test_labels_of_a_tagger_may_be_columns():
    y = [np.where(x["temp"] > 6, "high", "low") for x in frames()]
    by_list = SequenceTagger(**TINY).fit(frames(), y)
    by_frame = SequenceTagger(**TINY).fit(frames(), pd.DataFrame(y))
    assert by_frame.score(frames(), pd.DataFrame(y)) == by_list.score(frames(), y)


def test_targets_of_pandas():
    y = pd.DataFrame({"a": np.arange(12.0), "b": 1.0}).astype("Float64")
    assert SequenceRegressor(**TINY).fit(frames(), y).predict(frames()).shape == (12, 2)
    y.iloc[3, 1] = pd.NA
    with pytest.raises(TypeError, match=r"y must be .* got <NA> of type NAType in y\[3, 1\], column 'b'"):
        SequenceRegressor(**TINY).fit(frames(), y)
