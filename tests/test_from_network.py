"""Models that are given their network: it predicts, learns and is saved as one of their own."""

import copy
import doctest
import pickle
import re

import numpy as np
import pytest

from fastrnn import checkpoint, diagnostics, interop
from fastrnn.data import Bytes, Vocabulary, Words
from fastrnn.layers import (
    GRU,
    LSTM,
    RNN,
    Dropout,
    Embedding,
    Last,
    Linear,
    LogSoftmax,
    Masking,
    Mean,
    ReLU,
    Reverse,
    Sequential,
    Sigmoid,
    Softmax,
)
from fastrnn.models import SequenceClassifier, SequenceTagger, TextGenerator, labelled, text

TINY = {"seed": 0, "epochs": 2, "batch_size": 4, "validation_fraction": 0}


def softmax(logits):
    return Softmax()(logits.astype(np.float64))


def lstm(*rest, features=3, **options):
    return Sequential(LSTM(features, 6, seed=0, **options), *rest)


def sequences(rng, tokens=None, dtype="float32"):
    """Some of different lengths."""
    lengths = rng.integers(2, 9, 12)
    if tokens:
        return [rng.integers(0, tokens, length) for length in lengths]
    return [rng.normal(size=(length, 3)).astype(dtype) for length in lengths]


def one_by_one(network, X):
    """What a network gives for each sequence by itself."""
    batch = 0 if network.batch_first else 1
    return [np.squeeze(network(np.expand_dims(x, batch)), 0 if x_pooled(network) else batch) for x in X]


def x_pooled(network):
    return any(isinstance(layer, (Last, Mean)) for layer in network._row())


POOLED = {
    "last": lambda: lstm(Last(), Linear(6, 3, seed=1)),
    "batch first": lambda: lstm(Last(), Linear(6, 3, seed=1), batch_first=True),
    "float64": lambda: lstm(Last(), Linear(6, 3, seed=1, dtype="float64"), dtype="float64"),
    "both ways": lambda: Sequential(
        GRU(3, 4, 2, bidirectional=True, batch_first=True, seed=0),
        Mean(),
        Dropout(0.5),
        Linear(8, 5, seed=1),
        ReLU(),
        head=Linear(5, 3, seed=2),
    ),
    "backwards": lambda: Sequential(
        Reverse(), LSTM(3, 6, seed=0, batch_first=True), Last(), Linear(6, 3, seed=1)
    ),
    "masked": lambda: Sequential(
        Masking(9.0), LSTM(3, 6, seed=0, batch_first=True), Last(), Linear(6, 3, seed=1)
    ),
    "nested": lambda: Sequential(
        encoder=lstm(Last(), batch_first=True), head=Sequential(Linear(6, 3, seed=1))
    ),
}
ENDS = {"logits": (), "softmax": (Softmax(),), "log_softmax": (LogSoftmax(),)}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("make", POOLED.values(), ids=POOLED)
def test_a_classifier_predicts_as_its_network(make, end, rng):
    network = Sequential(network=make(), **{f"end{k}": layer for k, layer in enumerate(ENDS[end])})
    model = SequenceClassifier.from_network(network, ["a", "b", "c"])
    X = sequences(rng, dtype=model.dtype)
    X[0][:] = X[1][1] = 9
    outputs = np.array(one_by_one(network, X))
    expected = outputs if end == "softmax" else softmax(outputs)
    np.testing.assert_allclose(model.predict_proba(X), expected, rtol=0, atol=1e-6)
    np.testing.assert_allclose(np.exp(model.predict_log_proba(X)), expected, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(model.predict(X), np.array(["a", "b", "c"])[expected.argmax(axis=1)])
    assert model.score(X, model.predict(X)) == 1
    assert not isinstance(model.network_._row()[-1], (Softmax, LogSoftmax)) and model.history_ == []


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("batch_first", [False, True])
def test_a_tagger_predicts_as_its_network(bidirectional, batch_first, rng, monkeypatch):
    monkeypatch.setattr("fastrnn.models.tagger.WINDOW", 3)
    network = Sequential(
        embedding=Embedding(9, 4, seed=0),
        lstm=LSTM(4, 5, bidirectional=bidirectional, batch_first=batch_first, seed=0),
        head=Linear(10 if bidirectional else 5, 4, seed=1),
        softmax=Softmax(),
    )
    model, X = SequenceTagger.from_network(network, [3, 1, 2, 0]), sequences(rng, tokens=9)
    expected = one_by_one(network, X)
    for found, each in zip(model.predict_proba(X), expected, strict=True):
        np.testing.assert_allclose(found[:, [3, 1, 2, 0]], each, rtol=0, atol=1e-6)
    tags = [np.array([3, 1, 2, 0])[each.argmax(axis=1)] for each in expected]
    assert model.score(X, tags) == 1 and model.classes_.tolist() == [0, 1, 2, 3]
    assert (model.n_tokens, model.bidirectional, model.n_features_in_) == (9, bidirectional, 1)


@pytest.mark.parametrize("classes", [["no", "yes"], [0, 1]])
def test_one_logit_and_a_sigmoid_tell_two_classes_apart(classes, rng):
    network, X = lstm(Last(), Linear(6, 1, seed=1), Sigmoid()), sequences(rng)
    second = np.array(one_by_one(network, X))[:, 0]
    model = SequenceClassifier.from_network(network, classes)
    np.testing.assert_allclose(model.predict_proba(X), np.stack([1 - second, second], axis=1), atol=1e-6)
    other = SequenceClassifier.from_network(network, classes[::-1])
    assert other.classes_.tolist() == classes
    np.testing.assert_allclose(other.predict_proba(X)[:, 0], second, rtol=0, atol=1e-6)
    model.partial_fit(X, rng.choice(classes, len(X)))
    assert (model.network_.parameters["2.weight"] != 0).all()


@pytest.mark.parametrize("fill", ["hold", "zeros"])
def test_a_tagger_of_a_network_that_skips_steps(fill, rng):
    network = Sequential(
        Masking(fill=fill), Embedding(5, 3, seed=0), GRU(3, 4, seed=0), Linear(4, 2, seed=1), Softmax()
    )
    model, X = SequenceTagger.from_network(network, ["a", "b"], **TINY), sequences(rng, tokens=5)
    assert any((x == 0).any() for x in X)
    for found, each in zip(model.predict_proba(X), one_by_one(network, X), strict=True):
        np.testing.assert_allclose(found, each, rtol=0, atol=1e-6)
    model.partial_fit(X, [rng.choice(["a", "b"], len(x)) for x in X])


def test_tokens_of_a_recurrent_layer_are_told(rng):
    network, X = lstm(Last(), Linear(6, 2, seed=1), features=9), sequences(rng, tokens=9)
    model = SequenceClassifier.from_network(network, [0, 1], n_tokens=9)
    np.testing.assert_allclose(model.predict_proba(X), softmax(np.array(one_by_one(network, X))), atol=1e-6)


MODELS = {
    "classifier": lambda **options: SequenceClassifier.from_network(
        lstm(Last(), Linear(6, 2, seed=1), Softmax(), batch_first=True), ["up", "down"], **TINY | options
    ),
    "tagger": lambda **options: SequenceTagger.from_network(
        Sequential(GRU(3, 6, bidirectional=True, seed=0), Linear(12, 2, seed=1)), ["b", "a"], **TINY | options
    ),
    "writer": lambda **options: TextGenerator.from_network(
        Sequential(Embedding(4, 3, seed=0), LSTM(3, 6, seed=0, batch_first=True), Linear(6, 4, seed=1)),
        "b ac",
        **TINY | {"bptt_steps": 5} | options,
    ),
}
models = pytest.mark.parametrize("name", MODELS)


def data_of(name, rng):
    if name == "writer":
        return ("abc cab a bc" * 6,)
    X = sequences(rng)
    y = rng.choice(["up", "down"], len(X))
    return X, y if name == "classifier" else [rng.choice(["a", "b"], len(x)) for x in X]


def said(model, data):
    if isinstance(model, TextGenerator):
        return model.generate("abc", 30, seed=0), model.bits_per_character(data[0])
    return np.concatenate([np.ravel(each) for each in model.predict_proba(data[0])]).tolist()


@models
def test_it_is_saved_and_copied(name, tmp_path, rng):
    model, data = MODELS[name](), data_of(name, rng)
    for trained in (False, True):
        if trained:
            model.partial_fit(*data)
        model.save(tmp_path / "model")
        for other in (
            type(model).load(tmp_path / "model"),
            pickle.loads(pickle.dumps(model)),
            copy.deepcopy(model),
        ):
            assert said(other, data) == said(model, data)
            assert repr(other.network_) == repr(model.network_)
            assert said(other.partial_fit(*data), data) != said(model, data)
    again = type(model).load(tmp_path / "model", epochs=0)
    assert said(again.fit(*data), data) == said(model, data), "fit begins with the weights that were saved"


@models
def test_it_learns_more(name, rng):
    model, data = MODELS[name](learning_rate=0.02), data_of(name, rng)
    before, weights = said(model, data), model.network.state_dict()
    network, losses = model.network_, []
    for _ in range(10):
        losses.append(model._mean_loss(model._examples(*data)))
        model.partial_fit(*data)
    assert losses[-1] < losses[0] and said(model, data) != before
    assert model.network_ is not network and repr(model.network_) == repr(network)
    for array, kept in zip(model.network.parameters.values(), weights.values(), strict=True):
        np.testing.assert_array_equal(array, kept)


@models
def test_fit_begins_with_the_weights_that_the_network_has(name, rng):
    data = data_of(name, rng)
    assert said(MODELS[name](epochs=0).fit(*data), data) == said(MODELS[name](), data)
    once, twice = MODELS[name]().fit(*data), MODELS[name]().partial_fit(*data).fit(*data).fit(*data)
    assert said(once, data) == said(twice, data) != said(MODELS[name](), data)
    assert len(once.history_) == 2


@models
def test_a_training_goes_on(name, tmp_path, rng):
    data, path = data_of(name, rng), tmp_path / "run"
    whole = MODELS[name](schedule="constant", epochs=3).fit(*data)
    MODELS[name](schedule="constant", epochs=1).fit(*data, checkpoint=path)
    resumed = MODELS[name](schedule="constant", epochs=3).fit(*data, resume=path)
    assert said(resumed, data) == said(whole, data) and "training" in checkpoint.load(path)[1]


@models
def test_it_is_diagnosed(name, rng):
    model, data = MODELS[name](), data_of(name, rng)
    found = diagnostics.diagnose_model(model, *data)
    assert {each.name.partition(".")[0] for each in found.directions} == {"1" if name == "writer" else "0"}


@pytest.mark.parametrize("name", ["classifier", "tagger"])
def test_scikit_learns_clone_has_the_network(name, rng):
    base = pytest.importorskip("sklearn.base")
    model, data = MODELS[name](epochs=0), data_of(name, rng)
    clone = base.clone(model)
    assert not hasattr(clone, "network_") and clone.network is not model.network
    assert said(clone.fit(*data), data) == said(model, data)


def test_a_network_goes_into_the_constructor_too(rng):
    X, y = data_of("classifier", rng)
    network = lstm(Last(), Linear(6, 2, seed=1))
    model = SequenceClassifier(network=network, scale=False, **TINY).fit(X, y)
    twin = SequenceClassifier.from_network(network, ["down", "up"], **TINY).fit(X, y)
    np.testing.assert_array_equal(model.predict_proba(X), twin.predict_proba(X))
    words = SequenceClassifier(
        network=Sequential(Embedding(4, 3), LSTM(3, 4), Last(), Linear(4, 2)),
        scale=False,
        epochs=0,
        validation_fraction=0,
    )
    assert words.fit(["ab", "ca", "bc", "ab"], [0, 1, 0, 1]).predict(["ab"]).shape == (1,)


def test_long_sequences_go_in_windows(rng):
    network = lstm(Last(), Linear(6, 2, seed=1))
    model = SequenceClassifier.from_network(network, [0, 1], bptt_steps=4, **TINY)
    assert model.network_.bptt_steps == 4
    model.partial_fit(rng.normal(size=(4, 9, 3)), [0, 1, 0, 1])


def test_tokens_keep_their_order(rng):
    """Whatever it is: that of code points, frequency, or chance."""
    network = Sequential(GRU(5, 6, seed=0), Linear(6, 5, seed=1), LogSoftmax())
    for symbols in ("hello"[1:] + "x ", "zyxwv", list("a€Ü-b")):
        symbols = list(dict.fromkeys(symbols))
        model = TextGenerator.from_network(network, symbols)
        tokens = rng.integers(0, 5, 30)
        written = "".join(symbols[token] for token in tokens)
        np.testing.assert_array_equal(model.vocabulary_.encode(written), tokens)
        assert model.vocabulary_.decode(tokens) == written
        scores = network(tokens[:, None])[:-1, 0]
        bits = -scores[np.arange(29), tokens[1:]].mean() / np.log(2)
        assert model.bits_per_character(written) == pytest.approx(bits, rel=1e-5)


@pytest.mark.parametrize(
    ("vocabulary", "options", "level", "prompt"),
    [
        (Vocabulary("abc"), {}, "character", "ab"),
        (Words("to be or not"), {}, "word", "to be"),
        (["\ufffd", "to", " be"], {"level": "word"}, "word", "to be"),
        (Bytes(), {}, "byte", b"\xff\x00"),
    ],
)
def test_vocabularies_of_every_kind(vocabulary, options, level, prompt, tmp_path):
    count = len(vocabulary)
    network = Sequential(Embedding(count, 3, seed=0), LSTM(3, 4, seed=0), Linear(4, count, seed=0))
    model = TextGenerator.from_network(network, vocabulary, **options)
    assert model.level == level
    model.save(tmp_path / "model")
    again = TextGenerator.load(tmp_path / "model")
    assert again.generate(prompt, 9, seed=0) == model.generate(prompt, 9, seed=0)
    assert again.vocabulary_ == model.vocabulary_


def test_a_writer_of_pytorchs(rng):
    torch = pytest.importorskip("torch")

    class Characters(torch.nn.Module):
        """What predicts the next character."""

        def __init__(self):
            super().__init__()
            self.embedding = torch.nn.Embedding(5, 4)
            self.gru = torch.nn.GRU(4, 6, num_layers=2, batch_first=True)
            self.head = torch.nn.Linear(6, 5)

    torch.manual_seed(0)
    theirs, symbols = Characters(), "e ah€"
    network = interop.from_torch(theirs.state_dict(), order=["embedding", "gru", "head"], batch_first=True)
    model = TextGenerator.from_network(network, symbols)
    tokens = rng.integers(0, 5, 40)
    with torch.no_grad():
        logits = theirs.head(theirs.gru(theirs.embedding(torch.from_numpy(tokens[None])))[0])[0]
        loss = torch.nn.functional.cross_entropy(logits[:-1], torch.from_numpy(tokens[1:]))
    written = "".join(symbols[token] for token in tokens)
    assert model.bits_per_character(written) == pytest.approx(float(loss) / np.log(2), rel=1e-5)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_a_classifier_of_kerass(tmp_path, rng, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    keras = pytest.importorskip("keras")
    pytest.importorskip("h5py")
    layers = [
        keras.layers.Input((None, 3)),
        keras.layers.Bidirectional(keras.layers.LSTM(4)),
        keras.layers.Dense(2, activation="softmax"),
    ]
    theirs = keras.Sequential(layers)
    theirs.save(tmp_path / "model.keras")
    model = SequenceClassifier.from_network(interop.from_keras(tmp_path / "model.keras"), ["a", "b"])
    x = rng.normal(size=(4, 7, 3)).astype("float32")
    np.testing.assert_allclose(model.predict_proba(x), theirs.predict(x, verbose=0), rtol=0, atol=1e-5)


def test_docstrings():
    assert doctest.testmod(text).failed == 0
    assert doctest.testmod(labelled, extraglobs={"SequenceClassifier": SequenceClassifier}).failed == 0


CLASSIFIER, TAGGER, WRITER = (
    each.from_network for each in (SequenceClassifier, SequenceTagger, TextGenerator)
)
HEAD = Linear(6, 2)


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (
            lambda: CLASSIFIER(LSTM(3, 6), [0, 1]),
            "network must be a Sequential, got LSTM\\(3, 6\\) of type LSTM; put it into one",
        ),
        (
            lambda: CLASSIFIER(lstm(HEAD), [0, 1]),
            "must give logits for each sequence: it needs Last, Mean or",
        ),
        (lambda: TAGGER(lstm(Last(), HEAD), [0, 1]), "must give logits for each step: it must not have Last"),
        (
            lambda: CLASSIFIER(lstm(Last(), HEAD), [0, 1, 2]),
            "network must give 3 logits, one for each, got 2",
        ),
        (
            lambda: CLASSIFIER(lstm(Last(), Linear(6, 1)), [0, 1]),
            r"must give 2 logits, .* got 1; of two, one logit will do if Sigmoid\(\) follows",
        ),
        (
            lambda: CLASSIFIER(lstm(Last(), HEAD, Sigmoid()), [0, 1]),
            r"must give logits: Sigmoid\(\) at its end must",
        ),
        (
            lambda: CLASSIFIER(lstm(Last(), HEAD, Softmax(), Dropout(0.5)), [0, 1]),
            r"logits: Softmax\(\) at its",
        ),
        (
            lambda: CLASSIFIER(lstm(Last(), HEAD, Softmax(), Sequential()), [0, 1]),
            r"logits: Softmax\(\) at its",
        ),
        (lambda: CLASSIFIER(Sequential(), [0, 1]), "network must have layers, got none"),
        (lambda: CLASSIFIER(Sequential(Softmax()), [0, 1]), "network must give logits for each sequence"),
        (lambda: CLASSIFIER(lstm(Last(), HEAD), [0, 0]), r"classes must be different labels, got \[0, 0\]"),
        (lambda: CLASSIFIER(lstm(Last(), HEAD), [0.5, 1]), "classes must hold labels"),
        (
            lambda: CLASSIFIER(Sequential(LSTM(3, 2), Last()), ["b", "a"]),
            r"classes must be sorted if a network ends in LSTM\(3, 2\), not in Linear",
        ),
        (lambda: CLASSIFIER(lstm(Last(), HEAD), [0, 1], hidden_size=9), "hidden_size must be 64 with such"),
        (lambda: CLASSIFIER(lstm(Last(), HEAD), [0, 1], scale=True), "scale must be False with such"),
        (lambda: CLASSIFIER(lstm(Last(), HEAD), [0, 1], pooling="mean"), "pooling must be 'last' with such"),
        (
            lambda: CLASSIFIER(lstm(Last(), HEAD), [0, 1], dtype="float64"),
            "dtype must be 'float32' with such",
        ),
        (
            lambda: CLASSIFIER(lstm(Last(), HEAD), [0, 1], class_weight="balanced"),
            "class_weight must be None",
        ),
        (lambda: CLASSIFIER(lstm(Last(), HEAD), [0, 1], n_tokens=5), "takes 3 different tokens, got 5"),
        (
            lambda: CLASSIFIER(Sequential(Linear(3, 3), LSTM(3, 6), Last(), HEAD), [0, 1], n_tokens=3),
            r"must begin with Embedding or a recurrent layer for tokens, got Linear\(3, 3\)",
        ),
        (
            lambda: CLASSIFIER(Sequential(training=LSTM(3, 6), last=Last(), head=HEAD), [0, 1]),
            "network must have no part named 'training'",
        ),
        (
            lambda: SequenceClassifier(network=lstm(Last(), HEAD)).fit(np.ones((4, 5, 3)), [0, 1, 0, 1]),
            "scale must be False with such a network, got True",
        ),
        (
            lambda: SequenceClassifier(network=lstm(Last(), HEAD), scale=False).fit(
                np.ones((2, 5, 2)), [0, 1]
            ),
            "network takes 3 features, got X with 2",
        ),
        (
            lambda: SequenceClassifier(
                network=Sequential(Embedding(7, 3), LSTM(3, 6), Last(), HEAD), scale=False
            ).fit(np.ones((2, 5, 3)), [0, 1]),
            "n_tokens must be 7, as many as the network takes, got None",
        ),
        (
            lambda: CLASSIFIER(lstm(Last(), HEAD), [0, 1]).fit(np.ones((3, 5, 3)), [0, 1, 2]),
            "network must give 3 logits",
        ),
        (lambda: CLASSIFIER(lstm(Last(), HEAD), [0, 1]).predict(np.ones((3, 5, 2))), "X has 2 features, but"),
        (lambda: CLASSIFIER(lstm(Last(), HEAD), [0, 1]).predict(["ab"]), "X"),
        (lambda: WRITER(lstm(Linear(6, 4)), "abcd"), "network takes 3 different tokens, got 4"),
        (lambda: WRITER(lstm(HEAD), "abc"), "network must give 3 logits, one for each, got 2"),
        (lambda: WRITER(lstm(Last(), Linear(6, 3)), "abc"), "must give logits for each step"),
        (
            lambda: WRITER(Sequential(RNN(3, 6, bidirectional=True), Linear(12, 3)), "abc"),
            "network must take one step after the other: ",
        ),
        (lambda: WRITER(lstm(Linear(6, 3)), "aba"), "vocabulary must have each once, got 'a' more than once"),
        (lambda: WRITER(lstm(Linear(6, 3)), ["a", "b", "cd"]), "vocabulary must be of single characters"),
        (
            lambda: WRITER(lstm(Linear(6, 3)), ["a", "b", "c"], level="word"),
            "must begin with the unknown word",
        ),
        (lambda: WRITER(lstm(Linear(6, 3)), [0, 1, 2]), "vocabulary must be a str or a list of str"),
        (lambda: WRITER(lstm(Linear(6, 3)), {"a", "b", "c"}), "vocabulary must be a str or a list of str"),
        (lambda: CLASSIFIER(lstm(Last(), HEAD), "ab"), "classes must be an array of labels, got 'ab'"),
        (lambda: WRITER(lstm(Linear(6, 3)), ""), "vocabulary must be a str or a list of str"),
        (
            lambda: TextGenerator(network=lstm(Linear(6, 3))).fit("abc" * 20),
            "vocabulary must be a list, in the order of the network's tokens, with network",
        ),
    ],
)
def test_what_does_not_fit_is_refused(call, error):
    with pytest.raises((TypeError, ValueError), match=error):
        call()


def test_a_network_of_another_class_is_refused():
    class Own(Sequential):
        """Whatever it does."""

    with pytest.raises(TypeError, match=re.escape("network must be a Sequential, got ")):
        CLASSIFIER(Own(LSTM(3, 6), Last(), HEAD), [0, 1])
