"""Labels of every kind: learned and kept through a file with their type, or refused before anything is."""

import fractions

import numpy as np
import pytest

from fastrnn.models import SequenceClassifier, SequenceGenerator, SequenceTagger

X = np.random.default_rng(0).normal(size=(12, 3, 2))
TINY = {"hidden_size": 3, "epochs": 1, "seed": 0}
NAN = float("nan")


def objects(*labels):
    return np.array(labels * 6, dtype=object)


KEPT = {
    "integers": [3, 7] * 6,
    "negative": [-1, 1] * 6,
    "strings": ["a", "bcd"] * 6,
    "of NumPy": [np.str_("a"), np.str_("b")] * 6,
    "bools": [True, False] * 6,
    "bools of NumPy": [np.True_, np.False_] * 6,
    "whole floats": [1.0, 2.0] * 6,
    "bytes wide": np.array([1, 2] * 6, np.uint8),
    "another order of bytes": np.array([1, 2] * 6, ">i4"),
    "fixed width": np.array(["a", "bcd"] * 6),
    "objects": objects("a", "b"),
    "integers as objects": objects(1, 2),
    "bools as objects": objects(True, False),
}

REFUSED = {
    "None": (
        objects("yes", None),
        r"got None of type NoneType in NAME\[1\] and 'yes' of type str in NAME\[0\]",
    ),
    "NaN": (objects("yes", NAN), r"got nan of type float in NAME\[1\]"),
    "NaN in a list": (["yes", NAN] * 6, r"got nan of type float in NAME\[1\]"),
    "only None": ([None] * 12, r"got None of type NoneType in NAME\[0\]"),
    "mixed": ([1, "x"] * 6, r"got 'x' of type str in NAME\[1\] and 1 of type int in NAME\[0\]"),
    "mixed bools": (["x", True] * 6, r"got True of type bool in NAME\[1\]"),
    "mixed objects": (objects(1, "x"), r"got 'x' of type str in NAME\[1\]"),
    "bytes": ([b"a", b"b"] * 6, r"dtype |S1; decode them first: np.char.decode\(NAME\)"),
    "bytes as objects": (objects(b"a", b"b"), r"got b'a' of type bytes in NAME\[0\]"),
    "bytes and strings": (["a", b"b"] * 6, r"got b'b' of type bytes in NAME\[1\]"),
    "dates": (np.array(["2020-01-01", "2021-01-01"] * 6, "M8[D]"), r"got dtype datetime64\[D\]"),
    "times": (np.array([1, 2] * 6, "m8[s]"), r"got dtype timedelta64\[s\]"),
    "tuples": ([("a", 1), ("b", 2)] * 6, "shape|numbers"),
    "ragged tuples": ([("a", 1), ("b",)] * 6, "must (be|have)"),
    "great integers": ([2**70, 1] * 6, "strings or integers of 64 bits, got 1180591620717411303424"),
    "fractions": ([fractions.Fraction(1), fractions.Fraction(2)] * 6, "strings or integers of 64 bits"),
    "numbers": ([0.5, 1.0] * 6, r"Unknown label type: continuous.* 0.5 in NAME\[0\]"),
    "NaN among numbers": ([1.0, NAN] * 6, r"Unknown label type: continuous.* nan in NAME\[1\]"),
    "complex": ([1.0, 2j] * 6, "got dtype complex128"),
    "structures": (np.zeros(12, [("a", "i4")]), "got dtype"),
    "masked": (np.ma.masked_equal([1, 2] * 6, 2), "got a masked array; fill it first"),
}


def of_classifier(labels):
    return SequenceClassifier(**TINY).fit(X, labels)


def of_tagger(labels):
    return SequenceTagger(**TINY).fit(np.concatenate(X)[None, :12], [labels])


def of_generator(labels):
    return SequenceGenerator(**TINY).fit(labels, ["ab"] * 12)


@pytest.mark.parametrize("labels", KEPT.values(), ids=KEPT)
@pytest.mark.parametrize("fit", [of_classifier, of_tagger, of_generator])
@pytest.mark.filterwarnings("ignore:nothing is held out")
def test_they_come_back_from_a_file_as_they_were(fit, labels, tmp_path):
    model = fit(labels)
    model.save(tmp_path / "model")
    loaded = type(model).load(tmp_path / "model")
    assert loaded.classes_.dtype == model.classes_.dtype
    assert model.classes_.tolist() == loaded.classes_.tolist() == sorted(set(list(labels)))
    assert [type(c) for c in loaded.classes_.tolist()] == [type(c) for c in model.classes_.tolist()]
    expected = {str: "OU", bool: "b", int: "iu", float: "f"}[type(np.asarray(labels).tolist()[0])]
    assert model.classes_.dtype.kind in expected


@pytest.mark.parametrize(("labels", "error"), REFUSED.values(), ids=REFUSED)
@pytest.mark.parametrize("fit", [of_classifier, of_tagger, of_generator])
def test_what_cannot_be_kept_is_refused_before_training(fit, labels, error):
    name = {of_classifier: "y", of_tagger: r"y\[0\]", of_generator: "X"}[fit]
    with pytest.raises((TypeError, ValueError), match=error.replace("NAME", name)):
        fit(labels)


def test_kinds_of_two_sequences_are_not_mixed():
    with pytest.raises(TypeError, match=r"y must .* got 1 in y\[1\] and 'a' in y\[0\]"):
        SequenceTagger(**TINY).fit(X[:2], [["a", "b", "a"], [1, 2, 1]])


def test_padded_labels_may_hold_anything_behind_the_end():
    y = np.array([["a", "b", None], ["b", "a", "b"]], dtype=object)
    model = SequenceTagger(**TINY, validation_fraction=0).fit(X[:2], y, [2, 3])
    assert model.classes_.tolist() == ["a", "b"] and 0 <= model.score(X[:2], y, [2, 3]) <= 1


def test_labels_of_pandas(tmp_path):
    pd = pytest.importorskip("pandas")
    kinds = {
        "boolean": pd.Series([True, False] * 6, dtype="boolean"),
        "Int64": pd.Series([1, 2] * 6, dtype="Int64"),
        "string": pd.Series(["a", "b"] * 6, dtype="string"),
        "category": pd.Series(["a", "b"] * 6, dtype="category"),
        "object": pd.Series(["a", "b"] * 6, dtype=object),
    }
    for labels in kinds.values():
        model = of_classifier(labels)
        model.save(tmp_path / "model")
        loaded = SequenceClassifier.load(tmp_path / "model")
        assert loaded.classes_.tolist() == model.classes_.tolist() == sorted(set(labels))
        assert loaded.classes_.dtype == model.classes_.dtype
    for labels in (
        pd.Series(["a", pd.NA] * 6, dtype="string"),
        pd.Series([True, pd.NA] * 6, dtype="boolean"),
    ):
        with pytest.raises(TypeError, match=r"got <NA> of type NAType in y\[1\]"):
            of_classifier(labels)
    with pytest.raises(TypeError, match=r"got Timestamp.* in y\[0\]|got dtype datetime64"):
        of_classifier(pd.Series([pd.Timestamp("2020-01-01")] * 12))
