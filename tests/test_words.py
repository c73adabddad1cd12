"""Strings and lists of words into the models that read sequences."""

import numpy as np
import pytest

from fastrnn.layers import CELLS
from fastrnn.models import SequenceClassifier, SequenceRegressor, SequenceTagger

TINY = {"hidden_size": 12, "epochs": 30, "learning_rate": 0.02, "seed": 0}
GOOD = [["a", "good", "film"], ["good"], ["not", "bad"], ["a", "very", "good", "one"]] * 10
BAD = [["a", "bad", "film"], ["bad"], ["not", "good"], ["a", "very", "bad", "one"]] * 10
LABELS = ["+"] * 40 + ["-"] * 40


@pytest.fixture(scope="module")
def fitted():
    return SequenceClassifier(**TINY).fit(GOOD + BAD, LABELS)


def test_words_are_learned(fitted):
    assert fitted.score(GOOD + BAD, LABELS) == 1
    assert fitted.scaling_ is None and fitted.n_features_in_ == 1


@pytest.mark.parametrize(
    "of",
    [
        tuple,
        lambda X: [tuple(x) for x in X],
        lambda X: [np.array(x) for x in X],
        lambda X: np.array(X, object),
    ],
    ids=["tuple", "tuples", "arrays", "objects"],
)
def test_their_forms_are_alike(fitted, of):
    np.testing.assert_array_equal(fitted.predict_proba(of(GOOD)), fitted.predict_proba(GOOD))
    again = SequenceClassifier(**{**TINY, "epochs": 1}).fit(of(GOOD + BAD), LABELS)
    expected = SequenceClassifier(**{**TINY, "epochs": 1}).fit(GOOD + BAD, LABELS)
    np.testing.assert_array_equal(again.predict_proba(GOOD), expected.predict_proba(GOOD))


def test_a_string_is_its_characters(tmp_path):
    X = ["abab", "ba", "aab", "bba", "b", "aaaa"] * 10
    y = [text.count("a") for text in X]
    model = SequenceRegressor(**{**TINY, "epochs": 60}, pooling="mean").fit(X, y)
    letters = SequenceRegressor(**{**TINY, "epochs": 60}, pooling="mean").fit([list(text) for text in X], y)
    np.testing.assert_array_equal(model.predict(X), letters.predict(np.array(X)))
    pandas = pytest.importorskip("pandas")
    np.testing.assert_array_equal(model.predict(pandas.Series(X)), model.predict(X))
    model.save(tmp_path / "model")
    np.testing.assert_array_equal(SequenceRegressor.load(tmp_path / "model").predict(X), model.predict(X))


@pytest.mark.parametrize("cell", CELLS)
def test_an_unknown_word_says_nothing(cell):
    X, y = GOOD + BAD, [["det" if word == "a" else "else" for word in x] for x in GOOD + BAD]
    model = SequenceTagger(**{**TINY, "cell": cell, "epochs": 5}).fit(X, y)
    found = model.predict_proba([["a", "surprising", "film"], ["a", "other", "film"]])
    np.testing.assert_array_equal(found[0], found[1])
    assert not model.network_.recurrent.parameters["weight_ih_l0"][:, 0].any()
    known = model.predict_proba([["a", "good", "film"]])[0]
    assert not np.array_equal(known, found[0])


@pytest.mark.parametrize(
    ("X", "error"),
    [
        (["good", ""], r"X\[1\] must have at least 1 symbol, got an empty sequence"),
        ([["good", 1.5]], r"X\[0\]\[1\] must be a symbol, a str or an int, got 1.5"),
        ([["good", 7]], r"X\[0\] must use the 7 symbols that the model was fitted with, got 7"),
        ([[1.0, 2.0]], r"X\[0\]\[0\] must be a symbol"),
        ("good", "X must be a list of sequences of symbols"),
        ([], "X must have at least one sequence"),
    ],
)
def test_what_is_refused(fitted, X, error):
    with pytest.raises((TypeError, ValueError), match=error):
        fitted.predict(X)


def test_words_and_numbers_are_not_mixed_up(fitted):
    with pytest.raises(ValueError, match="lengths must be None: sequences of symbols have their own"):
        fitted.predict(GOOD, [1] * 40)
    numbers = SequenceClassifier(hidden_size=2, epochs=1).fit(np.zeros((80, 3)), LABELS)
    with pytest.raises(TypeError, match=r"X\[0\] must be an array of numbers, got dtype <U"):
        numbers.predict(GOOD)
    with pytest.raises(TypeError, match=r"X\[0\] must be an array of numbers, got dtype <U"):
        SequenceClassifier(n_tokens=5).fit(GOOD + BAD, LABELS)
