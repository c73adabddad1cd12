"""What fitting promises, whichever the model: going on, files, interrupts, errors, memory."""

import copy
import gc
import io
import itertools
import pickle
import re
import subprocess
import sys
import weakref

import numpy as np
import pytest
from cells import cell_of

from fastrnn import checkpoint
from fastrnn.layers import CELLS, Layer, Linear, Recurrent
from fastrnn.layers.layer import held_in
from fastrnn.models import (
    Forecaster,
    SequenceClassifier,
    SequenceGenerator,
    SequenceRegressor,
    SequenceTagger,
    SequenceToSequence,
    TextGenerator,
)
from fastrnn.optim import SGD, Adam, AdamW
from fastrnn.training import StopTraining

TINY = {"hidden_size": 5, "epochs": 5, "batch_size": 6, "num_layers": 2, "dropout": 0.3, "seed": 0}
LABELS = np.array([3, 7])


def data(count=20, seed=0):
    rng = np.random.default_rng(seed)
    X = [rng.normal(size=(rng.integers(3, 9), 2)) for _ in range(count)]
    return X, np.array([x.sum() > 0 for x in X])


def classifier(**options):
    X, y = data()
    return SequenceClassifier(**{**TINY, "class_weight": {3: 2.0}, **options}), (X, LABELS[y.astype(int)])


def regressor(**options):
    X, _ = data()
    return SequenceRegressor(**{**TINY, **options}), (X, np.array([x[0] for x in X]))


def tagger(**options):
    X, _ = data()
    options = {**TINY, "bidirectional": False, "bptt_steps": 3, **options}
    return SequenceTagger(**options), (X, [np.where(x[:, 0] > 0, "up", "down") for x in X])


def writer(level="character", **options):
    model = TextGenerator(**{**TINY, "bptt_steps": 7, **options}, level=level)
    return model, ("the cat sat on the mat. " * 12,)


def words(**options):
    return writer("word", max_vocabulary=6, **options)


def bytes_(**options):
    return writer("byte", **options)


def translator(**options):
    X = [tuple("abc"[(k + n) % 3] for k in range(n % 4 + 1)) for n in range(20)]
    return SequenceToSequence(**{**TINY, "bidirectional": False, **options}), (X, [x[::-1] for x in X])


def inventor(**options):
    X = [[n, -n] for n in range(20)]
    return SequenceGenerator(**{**TINY, **options}), (X, ["abc"[: n % 4] for n in range(20)])


def forecaster(**options):
    series = np.sin(np.arange(90) * 0.4)
    return Forecaster(**{**TINY, "context": 6, "horizon": 3, **options}), (series,)


def forecaster_with_prices(**options):
    model, (series,) = forecaster(**options)
    return model, (np.stack([series, -series], axis=1), np.cos(np.arange(90)))


MODELS = (classifier, regressor, tagger, writer, words, bytes_, translator, inventor)
ALL_MODELS = (*MODELS, forecaster, forecaster_with_prices)


def weights(model):
    return {name: array.copy() for name, array in model.network_.parameters.items()}


def assert_same(first, second):
    assert first.keys() == second.keys()
    for name in first:
        np.testing.assert_array_equal(first[name], second[name])


def timeless(model):
    return [{key: value for key, value in r.items() if "second" not in key} for r in model.history_]


def without(whole, key):
    return {name: value for name, value in whole.items() if name != key}


def stopper(epoch, error=KeyboardInterrupt):
    def stop(model):
        if len(model.history_) == epoch:
            raise error

    return stop


@pytest.mark.parametrize("make", MODELS)
@pytest.mark.parametrize("stop", [1, 3])
@pytest.mark.parametrize("part", [0.2, 0.0])
def test_resuming_is_bit_equal_to_never_having_stopped(tmp_path, make, stop, part):
    whole, given = make(validation_fraction=part)
    whole.fit(*given)
    path = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        make(validation_fraction=part)[0].fit(*given, checkpoint=path, callbacks=stopper(stop))
    resumed = make(validation_fraction=part)[0].fit(*given, resume=path, checkpoint=path)
    assert_same(weights(resumed), weights(whole))
    assert timeless(resumed) == timeless(whole) and resumed.best_epoch_ == whole.best_epoch_
    finished = type(whole).load(path)
    assert_same(weights(finished), weights(whole))
    assert timeless(finished) == timeless(whole)


@pytest.mark.parametrize("make", MODELS)
def test_what_comes_back_from_a_file_is_bit_equal(tmp_path, make):
    model, given = make()
    model.fit(*given).save(tmp_path / "model")
    loaded = type(model).load(tmp_path / "model")
    assert_same(weights(loaded), weights(model))
    assert loaded.get_params() == model.get_params()
    assert loaded.history_ == model.history_ and loaded.best_epoch_ == model.best_epoch_
    if make in (writer, words, bytes_):
        assert loaded.generate("the", 9, seed=1) == model.generate("the", 9, seed=1)
    else:
        found, expected = loaded.predict(given[0]), model.predict(given[0])
        assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))
        assert np.asarray(found[0]).dtype == np.asarray(expected[0]).dtype


@pytest.mark.parametrize("make", MODELS)
def test_partial_fit_goes_on_from_the_weights(make):
    model, given = make(epochs=0)
    model.fit(*given)
    before = model._mean_loss(model._read(*padded(given), learn=False))
    for _ in range(8):
        assert model.partial_fit(*given) is model
    assert model._mean_loss(model._read(*padded(given), learn=False)) < before


def padded(given):
    return given if len(given) == 1 else (*given, None)


@pytest.mark.parametrize("make", MODELS)
def test_partial_fit_begins_like_fit(make):
    model, given = make()
    model.partial_fit(*given)
    assert model.history_ == [] and model.best_epoch_ is None
    other, _ = make()
    assert_same(weights(other.partial_fit(*given)), weights(model))


@pytest.mark.parametrize("make", [classifier, writer])
def test_a_failed_partial_fit_changes_nothing(make):
    model, given = make(epochs=1, clip_norm=None)
    model.fit(*given)
    before = weights(model)
    model.learning_rate = 1e300
    with np.errstate(all="ignore"), pytest.raises(FloatingPointError):
        for _ in range(5):
            model.partial_fit(*given)
            before = weights(model)
    assert_same(weights(model), before)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"hidden_size": 6}, "hidden_size = 5 instead of 6"),
        ({"cell": "gru"}, "cell = 'lstm' instead of 'gru'"),
        ({"dropout": 0.0}, r"dropout = 0.3 instead of 0.0"),
        ({"batch_size": 5}, "batch_size = 6 instead of 5"),
        ({"seed": 1}, "seed = 0 instead of 1"),
        ({"pooling": "max"}, "pooling = 'last' instead of 'max'"),
        ({"learning_rate": 0.5, "num_layers": 1}, "num_layers = 2 instead of 1"),
        ({"class_weight": None}, r"class_weight = \[\[3, 2.0\]\] instead of None"),
    ],
)
def test_a_checkpoint_of_another_training_is_refused(tmp_path, options, error):
    model, given = classifier()
    model.fit(*given, checkpoint=tmp_path / "run")
    with pytest.raises(ValueError, match=f"the checkpoint is of another training: it has .*{error}"):
        classifier(**options)[0].fit(*given, resume=tmp_path / "run")


def test_a_checkpoint_of_other_data_is_refused(tmp_path):
    model, (X, y) = classifier()
    model.fit(X, y, checkpoint=tmp_path / "run")
    fresh, _ = classifier(class_weight=None)
    with pytest.raises(ValueError, match=r"classes = \[3, 7\] instead of \[3, 8\]"):
        classifier()[0].fit(X, np.where(y == 7, 8, y), resume=tmp_path / "run")
    with pytest.raises(ValueError, match="samples = 18 instead of 9"):
        classifier()[0].fit(X[:10], y[:10], resume=tmp_path / "run")
    with pytest.raises(ValueError, match="n_features = 2 instead of 1"):
        fresh.fit([x[:, :1] for x in X], y, resume=tmp_path / "run")


def test_files_that_are_no_checkpoint_are_refused(tmp_path):
    model, given = classifier()
    model.fit(*given).save(tmp_path / "model")
    with pytest.raises(ValueError, match=r"not the state of its training: SequenceClassifier\.load"):
        model.fit(*given, resume=tmp_path / "model")
    with pytest.raises(ValueError, match="holds no SequenceTagger, but 'SequenceClassifier'"):
        tagger()[0].fit(*tagger()[1], resume=tmp_path / "model")
    with pytest.raises(FileNotFoundError):
        model.fit(*given, resume=tmp_path / "nothing")


def test_a_training_can_go_on_for_longer(tmp_path):
    whole, given = classifier(schedule="constant", epochs=6)
    whole.fit(*given)
    classifier(schedule="constant", epochs=2)[0].fit(*given, checkpoint=tmp_path / "run")
    longer = classifier(schedule="constant", epochs=6)[0].fit(*given, resume=tmp_path / "run")
    assert_same(weights(longer), weights(whole))


@pytest.mark.parametrize("make", MODELS)
def test_an_interrupt_leaves_the_best_so_far(make):
    model, given = make(validation_fraction=0.3)
    best = {}

    def interrupt(current):
        if current.best_epoch_ == len(current.history_):
            best.update(weights(current))
        if len(current.history_) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        model.fit(*given, callbacks=interrupt)
    assert len(model.history_) == 3
    assert_same(weights(model), best)


@pytest.mark.parametrize("make", MODELS)
def test_a_fit_that_fails_before_an_epoch_has_ended_changes_nothing(tmp_path, make):
    model, given = make()
    before = weights(model.fit(*given))
    history = model.history_
    model.set_params(learning_rate=1e300, clip_norm=None, cell="rnn", hidden_size=9, batch_size=1)
    with np.errstate(all="ignore"), pytest.raises(FloatingPointError, match=r"at step \d+, in epoch 1"):
        model.fit(*given, checkpoint=tmp_path / "run")
    with pytest.raises(ValueError, match="learning_rate"):
        model.set_params(learning_rate=-1).fit(*given)
    assert_same(weights(model), before)
    assert model.history_ is history


def test_a_checkpoint_outlives_divergence(tmp_path):
    path = tmp_path / "run"
    model, given = classifier(validation_fraction=0.0)
    seen = []

    def poison(current):
        seen.append(weights(current))
        if len(seen) == 2:
            current.network_.parameters["head.bias"][0] = np.nan

    with pytest.raises(FloatingPointError, match="the loss became nan at step 9, in epoch 3"):
        model.fit(*given, checkpoint=path, callbacks=poison)
    assert_same(weights(SequenceClassifier.load(path)), seen[1])
    assert len(SequenceClassifier.load(path).history_) == 2


@pytest.mark.parametrize("make", ALL_MODELS)
def test_a_checkpoint_that_cannot_be_written_is_found_before_the_first_step(tmp_path, make, monkeypatch):
    model, given = make()
    monkeypatch.setattr(type(model), "_train", None)  # nobody gets there
    with pytest.raises(FileNotFoundError) as found:
        model.fit(*given, checkpoint=tmp_path / "nowhere" / "run")
    assert found.value.filename == str(tmp_path / "nowhere" / "run")
    assert not hasattr(model, "history_")


@pytest.mark.parametrize("make", ALL_MODELS)
def test_a_callback_gets_the_very_model_as_it_is_then(make):
    """So that a function which knows the model by another name sees what it has learned, not what it had."""
    model, given = make(epochs=3)
    seen = []

    def look(current):
        seen.append((current is model, len(model.history_), weights(model)))

    model.fit(*given, callbacks=look)
    assert [(same, epochs) for same, epochs, _ in seen] == [(True, 1), (True, 2), (True, 3)]
    again, _ = make(epochs=3)
    assert_same(weights(again.fit(*given)), weights(model))  # and nothing depends on being looked at
    assert any((seen[0][2][name] != array).any() for name, array in seen[2][2].items())


@pytest.mark.parametrize("make", ALL_MODELS)
def test_what_cannot_be_called_is_found_before_the_first_step(make, monkeypatch):
    model, given = make()
    monkeypatch.setattr(type(model), "_train", None)  # nobody gets there
    with pytest.raises(TypeError, match=r"callbacks must be a function, .* got 5 of type int"):
        model.fit(*given, callbacks=5)


@pytest.mark.parametrize("error", [OSError("disk full"), GeneratorExit(), KeyboardInterrupt()])
@pytest.mark.parametrize("part", [0.3, 0.0])
@pytest.mark.parametrize("make", ALL_MODELS)
def test_after_an_error_in_a_callback_a_model_has_the_best_weights_so_far(make, part, error):
    model, given = make(validation_fraction=part)
    best = {}

    def look(current):
        if current.best_epoch_ in (None, len(current.history_)):
            best.update(weights(current))

    with pytest.raises(type(error)):
        model.fit(*given, callbacks=[look, stopper(3, error)])
    assert_same(weights(model), best)
    assert len(model.history_) == 3
    assert_same(weights(copy.deepcopy(model).partial_fit(*given)), weights(model.partial_fit(*given)))


@pytest.mark.parametrize("make", [classifier, writer, forecaster])
@pytest.mark.parametrize("way", ["returns", "raises"])
def test_a_callback_can_stop_a_training(make, way):
    model, given = make(schedule="constant", validation_fraction=0.0)
    seen = []

    def stop(current):
        seen.append(len(current.history_))
        if seen[-1] == 2 and way == "raises":
            raise StopTraining
        return seen[-1] == 2

    model.fit(*given, callbacks=stop)
    assert seen == [1, 2] and len(model.history_) == 2
    shorter, _ = make(schedule="constant", validation_fraction=0.0, epochs=2)
    assert_same(weights(shorter.fit(*given)), weights(model))


def test_resume_auto_goes_on_where_there_is_a_file(tmp_path):
    whole, given = classifier()
    whole.fit(*given)
    for stop in (2, 4, None):  # one line of a script, run again and again
        model = classifier()[0]
        callbacks = [] if stop is None else [lambda current, stop=stop: len(current.history_) == stop]
        model.fit(*given, checkpoint=tmp_path / "run", resume="auto", callbacks=callbacks)
    assert_same(weights(model), weights(whole))
    assert timeless(model) == timeless(whole)
    with pytest.raises(ValueError, match='resume="auto" goes with a checkpoint'):
        model.fit(*given, resume="auto")


@pytest.mark.parametrize("part", [0.2, 0.0])
def test_divergence_that_stays_finite_is_warned_of(part):
    text = "the cat sat on the mat. " * 40
    options = {**TINY, "bptt_steps": 7, "dropout": 0.0, "validation_fraction": part}
    with pytest.warns(UserWarning, match=r"training has diverged: its loss is \d.*, where guessing has 2"):
        TextGenerator(**options, learning_rate=1e6).fit(text)
    TextGenerator(**options, learning_rate=0.01).fit(text)  # a warning is an error here


def test_the_warning_of_divergence_leaves_the_weights_and_names_the_caller():
    X, _ = data()
    options = {"hidden_size": 8, "epochs": 4, "seed": 0, "cell": "gru", "clip_norm": None}
    best = {}
    model = SequenceRegressor(**options, learning_rate=1e3, validation_fraction=0)
    with pytest.warns(UserWarning, match="diverged") as caught:
        model.fit(X, [x.sum() for x in X], callbacks=lambda current: best.update(weights(current)))
    assert_same(weights(model), best)
    assert [each.filename for each in caught] == [__file__]


def test_guessing_is_no_divergence():
    """Labels that have nothing to do with the data, and a constant target."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 5, 2))
    SequenceClassifier(**TINY, learning_rate=0.05).fit(X, rng.integers(0, 2, 60))
    SequenceRegressor(**TINY).fit(X, np.full(60, 3.0))
    SequenceRegressor(**TINY).fit(X, rng.normal(size=60))


OTHERS = {
    "dtype": "float64",
    "hidden_size": 99,
    "num_layers": 1,
    "cell": "gru",
    "seed": 5,
    "dropout": 0.0,
    "batch_size": 3,
    "bidirectional": True,
    "layout": "NCT",
    "pooling": "max",
    "n_tokens": 4,
    "class_weight": None,
    "level": "byte",
    "vocabulary": "xyz",
    "max_vocabulary": 2,
}


def uses(model, given):
    """What a fitted model says, by every method."""
    if isinstance(model, TextGenerator):
        return [model.generate("the cat", 9, seed=1), model.bits_per_character(given[0])]
    found = [*model.predict(given[0]), model.score(*given)]
    for name in ("predict_proba", "predict_log_proba"):
        found += list(getattr(model, name)(given[0])) if hasattr(model, name) else []
    if isinstance(model, SequenceGenerator):
        found += [*model.generate(given[0], 2, seed=1), model.bits_per_symbol(*given)]
    return found


@pytest.mark.parametrize("make", MODELS)
def test_parameters_set_after_fitting_do_not_change_the_model(make):
    model, given = make()
    same, _ = make()
    model.fit(*given)
    same.fit(*given)
    others = {name: value for name, value in OTHERS.items() if name in model.get_params()}
    if others.get("bptt_steps", model.bptt_steps) is not None:
        others.pop("bidirectional", None)
    model.set_params(**others)
    for found, expected in zip(uses(model, given), uses(same, given), strict=True):
        np.testing.assert_array_equal(found, expected)
    model.partial_fit(*given)
    same.partial_fit(*given)
    assert_same(weights(model), weights(same))
    model.set_params(batch_size=0, dtype="float16")
    assert len(uses(model, given)) == len(uses(same, given))


def test_inputs_are_never_written():
    for make in (classifier, regressor, tagger):
        model, (X, y) = make(epochs=1)
        for array in (*X, *(y if isinstance(y, list) else [y])):
            array.flags.writeable = False
        model.fit(X, y).predict(X)
        model.score(X, y)


def test_a_damaged_file_is_refused(tmp_path):
    model, given = classifier()
    model.fit(*given).save(tmp_path / "model")
    tensors, metadata = checkpoint.load(tmp_path / "model")
    tensors.pop("head.bias")
    checkpoint.save(tmp_path / "model", tensors, metadata)
    with pytest.raises(ValueError, match=r"an inconsistent SequenceClassifier: .*'head\.bias' is missing"):
        SequenceClassifier.load(tmp_path / "model")


@pytest.mark.parametrize("make", ALL_MODELS)
def test_a_file_that_lacks_anything_is_refused_by_its_name(tmp_path, make):
    model, given = make(epochs=1)
    path = tmp_path / "model"
    model.fit(*given).save(path)
    tensors, metadata = checkpoint.load(path)
    damaged = [(tensors, without(metadata, key)) for key in metadata]
    damaged += [(without(tensors, key), metadata) for key in tensors]
    damaged += [({**tensors, key: np.zeros(99)}, metadata) for key in (*tensors, "more")]
    damaged += [({**tensors, key: tensors[key].astype(int)}, metadata) for key in tensors]
    damaged += [(tensors, {**metadata, "parameters": value}) for value in (None, [], {"bands": 3})]
    damaged += [(tensors, {**metadata, "parameters": {**metadata["parameters"], "hidden_size": 10**15}})]
    for arrays, words in damaged:
        checkpoint.save(path, arrays, words)
        try:
            loaded = type(model).load(path)
        except ValueError as error:
            assert str(error).startswith(f"'{path}' holds ")
        else:  # what can be done without, such as a text's mean length of a word
            assert_same(weights(loaded), weights(model))


# -- copies, and what they hold


def through_joblib(model):
    joblib = pytest.importorskip("joblib")
    file = io.BytesIO()
    joblib.dump(model, file)
    file.seek(0)
    return joblib.load(file)


COPIES = {
    "joblib": through_joblib,
    "pickle": lambda model: pickle.loads(pickle.dumps(model)),
    "deepcopy": copy.deepcopy,
}


def outputs(model, given):
    """What the model predicts or writes, as numbers."""
    if isinstance(model, TextGenerator):
        return np.array([model.bits_per_character(given[0])])
    if isinstance(model, SequenceGenerator):
        return np.array([model.score(*given)])
    if isinstance(model, SequenceToSequence):
        return np.array([model._mean_loss(model._read(*given, None, learn=False))])
    predict = getattr(model, "predict_proba", model.predict)
    return np.concatenate([np.ravel(each) for each in predict(given[0])])


@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)
@pytest.mark.parametrize("make", [*MODELS, forecaster])
def test_a_copy_learns_and_is_saved_as_the_model_itself(tmp_path, make, copied):
    """Before and after the first `partial_fit`, which makes an optimizer."""
    model, given = make(epochs=1)
    model.fit(*given)
    for _ in range(2):
        other = copied(model)
        before = outputs(other, given)
        for each in (model, other):
            each.partial_fit(*given).partial_fit(*given)
        assert (outputs(other, given) != before).any()
        np.testing.assert_array_equal(outputs(other, given), outputs(model, given))
        other.save(tmp_path / "model")
        assert_same(weights(type(model).load(tmp_path / "model")), weights(model))


def test_a_model_on_memory_mapped_weights_predicts_and_learns(tmp_path):
    """As joblib gives large ones to its workers: read-only."""
    joblib = pytest.importorskip("joblib")
    model, given = classifier()
    joblib.dump(model.fit(*given).partial_fit(*given), tmp_path / "model")
    other = joblib.load(tmp_path / "model", mmap_mode="r")
    assert not any(array.flags.writeable for array in other.network_.parameters.values())
    np.testing.assert_array_equal(outputs(other, given), outputs(model, given))
    np.testing.assert_array_equal(
        outputs(other.partial_fit(*given), given), outputs(model.partial_fit(*given), given)
    )


@pytest.mark.parametrize("make", [*MODELS, forecaster])
def test_what_is_loaded_into_the_network_of_a_copy_is_used(make):
    model, given = make(epochs=1)
    other = through_joblib(model.fit(*given))
    expected = outputs(other, given)
    state = other.network_.state_dict()
    other.network_.load_state_dict({name: array * 0 for name, array in state.items()})
    assert (outputs(other, given) != expected).any()
    other.network_.load_state_dict(state)
    np.testing.assert_array_equal(outputs(other, given), expected)


MARK = 123.0625


def marked(make, **options):
    """A model and data with a number that nothing else has, in each of its numeric inputs."""
    model, given = make(**options)
    X = given[0]
    if make in (classifier, regressor, tagger):
        for x in X:
            x[1, 1] = MARK
    elif make is inventor:
        X = np.array(X, float)
        X[3, 1] = MARK
    return model, (X, *given[1:])


POOLED = [(make, pooling) for make in (classifier, regressor) for pooling in ("last", "mean", "max")]
UNPOOLED = [(make, None) for make in (tagger, translator, inventor, writer)]


@pytest.mark.parametrize(("make", "pooling"), [*POOLED, *UNPOOLED])
@pytest.mark.parametrize("way", ["fit", "partial_fit", "interrupted"])
def test_a_model_keeps_nothing_of_its_training_data(make, pooling, way):
    options = {"bptt_steps": 3, "pooling": pooling} if pooling else {}
    model, given = marked(make, epochs=2, validation_fraction=0.2, **options)
    arrays = [x for part in given for x in part if isinstance(x, np.ndarray)]
    arrays += [part for part in given if isinstance(part, np.ndarray)]
    alive = [weakref.ref(array) for array in arrays]
    if way == "interrupted":
        with pytest.MonkeyPatch.context() as patch:
            interrupt_on_the_way_back(patch)
            with pytest.raises(KeyboardInterrupt):
                model.fit(*given)
    else:
        getattr(model, way)(*given)
    del arrays, given
    gc.collect()
    assert not any(reference() is not None for reference in alive)
    pickled = pickle.dumps(model)
    assert np.float32(MARK).tobytes() not in pickled and np.float64(MARK).tobytes() not in pickled
    averages = 2 if way == "partial_fit" else 0
    size = sum(array.nbytes for array in model.network_.parameters.values())
    assert len(pickled) < (1 + averages) * size + 12_000


def test_a_forecaster_keeps_the_end_of_its_series_but_not_the_rest():
    model, (series,) = forecaster(epochs=1)
    mark = 1.0625  # at three places, none of them in the context of the last forecast
    series, past = np.concatenate([[mark], series] * 3), np.cos(np.arange(273))
    alive = [weakref.ref(array) for array in (series, past)]
    model.fit(series, past)
    del series, past
    gc.collect()
    assert [reference() for reference in alive] == [None, None]
    pickled = pickle.dumps(model)
    assert np.float32(mark).tobytes() not in pickled and np.float64(mark).tobytes() not in pickled


def interrupt_on_the_way_back(patch):
    """Ctrl-C between forward and back of the third step."""
    forward, calls = Linear.forward, iter(range(100))

    def interrupted(*args):
        y, back = forward(*args)

        def interrupted_back(dy):
            if next(calls) == 2:
                raise KeyboardInterrupt
            return back(dy)

        return y, interrupted_back

    patch.setattr(Linear, "forward", interrupted)


def test_patience_without_validation_is_refused():
    for make in (regressor, writer):
        model, given = make(patience=2, validation_fraction=0.0)
        with pytest.raises(
            ValueError, match="patience must be None if there is nothing to validate on, got 2"
        ):
            model.fit(*given)
        model.partial_fit(*given)  # which has no validation ever
    model, given = regressor(patience=2, validation_fraction=0.0)
    model.fit(*given, validation_data=given)


@pytest.mark.parametrize("error", [MemoryError, KeyboardInterrupt])
@pytest.mark.parametrize("make", [classifier, writer, forecaster])
def test_a_partial_fit_that_ends_early_changes_nothing(monkeypatch, make, error):
    """Neither weights nor the optimizer, the order of the data or the masks of dropout."""
    model, given = make(batch_size=2)
    twin = copy.deepcopy(model.fit(*given).partial_fit(*given))
    take_gradients, calls = Layer.take_gradients, iter(range(100))

    def take(self):
        if next(calls) == 2:
            raise error
        return take_gradients(self)

    with monkeypatch.context() as patch:
        patch.setattr(type(model.network_), "take_gradients", take)
        with pytest.raises(error):
            model.partial_fit(*given)
    assert_same(weights(model), weights(twin))
    assert_same(weights(model.partial_fit(*given)), weights(twin.partial_fit(*given)))


LONG = """
import sys
import numpy as np
from fastrnn.models import SequenceClassifier, SequenceTagger

T = int(sys.argv[2])
x = np.memmap(sys.argv[1], np.float32, "r", shape=(2, T, 4))
options = dict(hidden_size=8, epochs=1, bptt_steps=100, validation_fraction=0.0, seed=0, cell="rnn")
for pooling in ("last", "mean", "max"):
    SequenceClassifier(**options, pooling=pooling).fit(x, [0, 1])
SequenceTagger(**options, bidirectional=False).fit(list(x), [np.arange(T) % 2 == 0] * 2).predict([x[0]])
print(*[line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")])
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_memory_does_not_grow_with_a_sequence(tmp_path):
    """Beyond its own pages, which the system may take back, and a few bytes of labels a step."""
    peaks = []
    for steps in (10_000, 200_000):
        path = tmp_path / str(steps)
        np.random.default_rng(0).normal(size=2 * steps * 4).astype(np.float32).tofile(path)
        done = subprocess.run([sys.executable, "-c", LONG, path, str(steps)], capture_output=True, check=True)
        peaks.append(int(done.stdout) * 1024)
    more = 190_000
    assert peaks[1] - peaks[0] < 2 * more * 4 * 4 + more * 40


# -- what layers and optimizers can do, asked of a model


def by_hand(model, given, steps, make):
    """The weights after steps of an optimizer of one's own, on the batches of a model that is not trained."""
    untrained = copy.deepcopy(model).set_params(epochs=0).fit(*given)
    network, rng = untrained.network_, untrained._rng
    training = untrained._split(untrained._read(*padded(given), learn=True))[0]
    untrained._learn_scale(training)
    optimizers = make(network.parameters)
    batches = itertools.islice(untrained._dataset(training).batches(rng), steps)
    for batch in batches:
        untrained._learner()(batch, None, training=True)
        gradients = network.take_gradients()
        for optimizer in optimizers:
            optimizer.step({name: gradients[name] for name in optimizer.parameters})
    return weights(untrained)


PLAIN = {
    "dropout": 0.0,
    "clip_norm": None,
    "schedule": "constant",
    "max_steps": 2,
    "validation_fraction": 0.0,
}


@pytest.mark.parametrize(("name", "kind"), [("adam", AdamW), ("sgd", SGD)])
def test_weights_decay_but_not_biases_and_learned_states(name, kind):
    options = {**PLAIN, "layer_options": {"learned_state": True}, "learning_rate": 0.05}
    model, given = classifier(**options, optimizer=name, weight_decay=0.3, class_weight=None)

    def make(parameters):
        decaying = {key: array for key, array in parameters.items() if ".weight" in key}
        others = {key: array for key, array in parameters.items() if key not in decaying}
        assert any("initial_h" in key for key in others) and any("bias" in key for key in others)
        plain = Adam if kind is AdamW else SGD
        return kind(decaying, 0.05, weight_decay=0.3), plain(others, 0.05)

    expected = by_hand(model, given, 2, make)
    assert_same(weights(model.fit(*given)), expected)
    undecayed = weights(classifier(**options, optimizer=name, class_weight=None)[0].fit(*given))
    assert any((undecayed[key] != array).any() for key, array in expected.items())


@pytest.mark.parametrize("make", ALL_MODELS)
def test_an_optimizer_of_ones_own(make):
    """With a part frozen; it goes on in partial_fit, with the rate of then."""
    made = []

    def head_alone(parameters, lr):
        heads = {
            name: array
            for name, array in parameters.items()
            if "recurrent" not in name and "lstm" not in name
        }
        made.append(SGD({name: heads[name] for name in list(heads)[-1:]}, lr))
        return made[-1]

    model, given = make(optimizer=head_alone, epochs=2, weight_decay=0.0)
    untrained, _ = make(epochs=0)
    before, after = weights(untrained.fit(*given)), weights(model.fit(*given))
    assert [name for name in before if (before[name] != after[name]).any()] == list(made[0].parameters)
    model.partial_fit(*given).set_params(learning_rate=1e-4).partial_fit(*given)
    assert model._optimizers[0][0].lr == pytest.approx(1e-4)


@pytest.mark.parametrize("make", [classifier, tagger, writer, translator, inventor, forecaster])
@pytest.mark.parametrize("cell", [cell for cell in CELLS if cell_of(cell).keeps])
def test_initial_values_are_asked_for_in_the_model(make, cell):
    model, given = make(cell=cell, epochs=0, initial="orthogonal", forget_bias=2.5)
    network = model.fit(*given).network_
    layers = [each for each in held_in(network) if isinstance(each, Recurrent)]
    facts = cell_of(cell)
    gate = facts.gates.index(facts.keeps)
    for layer in layers:
        H = layer.hidden_size
        w = layer.parameters["weight_hh_l0"].reshape(-1, H, H)
        np.testing.assert_allclose(w @ w.transpose(0, 2, 1), np.broadcast_to(np.eye(H), w.shape), atol=1e-5)
        both = layer.parameters["bias_ih_l0"] + layer.parameters["bias_hh_l0"]
        np.testing.assert_allclose(both.reshape(-1, H)[gate], 2.5)
    assert layers
    plain, _ = make(cell=cell, epochs=0)
    other = weights(plain.fit(*given))
    assert [name for name in other if (other[name] != weights(model)[name]).any()]


def test_an_irnn_in_a_model():
    model, given = classifier(
        cell="rnn",
        epochs=0,
        num_layers=1,
        dropout=0.0,
        initial="identity",
        layer_options={"nonlinearity": "relu"},
    )
    layer = model.fit(*given).network_.parts["recurrent"]
    assert layer.nonlinearity == "relu"
    np.testing.assert_array_equal(layer.parameters["weight_hh_l0"], np.eye(5))


def test_a_function_of_the_network_sets_the_initial_values():
    def zeros(network):
        for array in network.parameters.values():
            array[...] = 0

    model, given = classifier(epochs=0, initial=zeros)
    assert not any(array.any() for array in weights(model.fit(*given)).values())


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (
            {"layer_options": {"recurent_dropout": 0.1}},
            "layer_options must be of .*recurrent_dropout.* got 'recurent",
        ),
        ({"layer_options": {"hidden_size": 3}}, "layer_options must be of .* got 'hidden_size'"),
        ({"layer_options": 3}, "layer_options must be a dict of options by name, got 3"),
        ({"layer_options": {"recurrent_dropout": 2}}, "recurrent_dropout must be .* got 2"),
        (
            {"layer_options": {"nonlinearity": "relu"}},
            "layer_options must be of activation, .* with cell='lstm', got 'nonlinearity'",
        ),
        ({"cell": "rnn", "forget_bias": 1.0}, "forget_bias=1.0 must go with cell='rnn'"),
        ({"initial": "identity"}, "initial='identity' must go with cell='lstm'"),
        ({"initial": "zeros"}, "initial must be one of 'orthogonal', 'identity', got 'zeros'"),
        ({"optimizer": "adamw"}, "optimizer must be one of 'adam', 'rmsprop', 'sgd', got 'adamw'"),
        (
            {"optimizer": lambda p, lr: None},
            r"optimizer must return an Optimizer or a list of some, got \[None\]",
        ),
        ({"optimizer": lambda p, lr: SGD({"w": np.ones(1)}, lr)}, "must be over the network's own arrays"),
        ({"optimizer": "rmsprop", "weight_decay": 0.1}, "weight_decay goes with optimizer=.* got 'rmsprop'"),
        ({"weight_decay": -1}, "weight_decay must be a non-negative finite number, got -1"),
        ({"schedule": "linear"}, "schedule must be one of 'constant'"),
    ],
)
def test_what_cannot_be_asked_for_is_told_before_training(options, error):
    model, given = classifier(**options)
    with pytest.raises((TypeError, ValueError), match=error):
        model.fit(*given, callbacks=lambda _: pytest.fail("nobody gets here"))
    assert not hasattr(model, "history_")


def test_what_was_asked_for_is_saved_but_functions_which_are_given_again(tmp_path):
    asked = {"initial": "orthogonal", "forget_bias": 1.0, "optimizer": "sgd", "weight_decay": 0.1}
    asked |= {
        "layer_options": {"recurrent_dropout": np.float64(0.2), "recompute": True},
        "schedule": "warmup",
    }
    model, given = classifier(**asked)
    model.fit(*given).save(tmp_path / "model")
    loaded = SequenceClassifier.load(tmp_path / "model")
    assert {name: loaded.get_params()[name] for name in asked} == asked
    functions = {"initial": lambda network: None, "schedule": lambda progress: 1.0, "optimizer": Adam}
    model, given = classifier(**functions)
    model.fit(*given, checkpoint=tmp_path / "run", callbacks=lambda current: len(current.history_) == 2)
    again = classifier(**functions)[0].fit(*given, resume=tmp_path / "run")
    assert_same(weights(again), weights(classifier(**functions)[0].fit(*given)))
    again.save(tmp_path / "model")
    loaded = SequenceClassifier.load(tmp_path / "model")
    np.testing.assert_array_equal(outputs(loaded, given), outputs(again, given))
    with pytest.raises(ValueError, match="optimizer must be given again"):
        loaded.partial_fit(*given)
    with pytest.raises(ValueError, match="initial must be given again"):
        loaded.fit(*given)
    np.testing.assert_array_equal(outputs(loaded, given), outputs(again, given))
    loaded.set_params(optimizer="sgd").partial_fit(*given)
    loaded = SequenceClassifier.load(tmp_path / "model", **functions)
    assert {name: loaded.get_params()[name] for name in functions} == functions
    assert_same(weights(loaded.fit(*given)), weights(again))
    with pytest.raises(ValueError, match="inconsistent"):
        SequenceClassifier.load(tmp_path / "model", **functions, hidden_size=99)
    with pytest.raises(ValueError, match="instead of 'adam'"):
        classifier()[0].fit(*given, resume=tmp_path / "run")


@pytest.mark.parametrize("kind", [np.random.default_rng, np.random.RandomState])
def test_a_seed_may_be_a_generator(kind):
    found = []
    for _ in range(2):
        rng = kind(3)
        model, given = classifier(seed=rng)
        found.append([weights(copy.copy(model).fit(*given)) for _ in range(2)])
    (first, second), again = found
    assert any((first[name] != second[name]).any() for name in first)
    assert_same(first, again[0])
    assert_same(second, again[1])


@pytest.mark.parametrize("make", ALL_MODELS)
def test_a_docstring_describes_every_parameter_and_attribute_once(make):
    model, given = make(epochs=1)
    _, *sections = re.split(r"\n(\w+)\n-{3,}\n", type(model).__doc__)
    said = dict(zip(sections[::2], sections[1::2], strict=True))
    names = {
        title: [
            name
            for line in re.findall(r"^(\w[\w, ]*)", said[title], re.M)
            for name in line.strip().split(", ")
        ]
        for title in ("Parameters", "Attributes")
    }
    assert sorted(names["Parameters"]) == sorted(model.get_params())
    assert len(names["Attributes"]) == len(set(names["Attributes"]))
    learned = {name for name in dir(model.fit(*given)) if name.endswith("_") and not name.startswith("_")}
    assert learned - {"best_bits_per_character_"} <= set(names["Attributes"])
