"""Many models: each is what it is alone, whoever fits it, and keeps nothing of its data."""

import gc
import pickle
import threading
import weakref

import numpy as np
import pytest

import fastrnn
from fastrnn.models import Forecaster, SequenceRegressor, TextGenerator, many
from fastrnn.models.members import Many

TINY = SequenceRegressor(hidden_size=5, epochs=2, dropout=0.2, seed=3)


def data_of(members, seed=0, steps=8):
    """Members of different sizes, each with sequences and a number for each."""
    rng = np.random.default_rng(seed)
    X = [rng.normal(size=(12 + 3 * k, steps + k, 2)) for k in range(members)]
    return [(x, x[:, :, 0].mean(axis=1)) for x in X]


def weights(models):
    return [model.network_.state_dict() for model in models]


def assert_same(found, expected):
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.keys() == other.keys()
        assert all(np.array_equal(one[name], other[name]) for name in one)


@pytest.fixture(params=[1, 3])
def on_threads(request, threads):
    threads(request.param)


@pytest.mark.usefixtures("on_threads", "backend")
def test_each_member_is_what_it_is_alone():
    data = data_of(4)
    crowd = many(TINY).fit(data)
    alone = [SequenceRegressor(**TINY.get_params()).fit(*each) for each in data]
    assert_same(weights(crowd), weights(alone))
    assert [each.history_[-1]["train_loss"] for each in crowd] == [
        each.history_[-1]["train_loss"] for each in alone
    ]
    for found, each, (X, _) in zip(crowd.predict([X for X, _ in data]), alone, data, strict=True):
        assert np.array_equal(found, each.predict(X))
    assert crowd.score(data) == [each.score(*of) for each, of in zip(alone, data, strict=True)]


def test_a_forecaster_for_each_series_and_a_generator_for_each_text():
    waves = [np.sin(np.arange(90 + 5 * k) * 0.3 + k) for k in range(3)]
    one = Forecaster(horizon=2, context=10, hidden_size=4, max_steps=3, seed=0)
    crowd = many(one).fit(waves)
    for each, wave in zip(crowd, waves, strict=True):
        assert np.array_equal(each.predict(), Forecaster(**one.get_params()).fit(wave).predict())
    texts = [20 * "to be or not to be ", 30 * "that is the question "]
    crowd = many(TextGenerator(hidden_size=4, max_steps=2, seed=0)).fit(texts)
    for each, text in zip(crowd, texts, strict=True):
        alone = TextGenerator(hidden_size=4, max_steps=2, seed=0).fit(text)
        assert each.generate("t", 5, seed=1) == alone.generate("t", 5, seed=1)


def test_members_are_in_their_order():
    crowd = many(TINY).fit(data_of(4))
    assert len(crowd) == 4 and [*crowd] == crowd.estimators_ and crowd[1:3] == crowd.estimators_[1:3]
    assert crowd[-1] is crowd.estimators_[3]
    assert repr(many(SequenceRegressor())) == "Many(estimator=SequenceRegressor())"


@pytest.mark.usefixtures("on_threads")
def test_a_generator_gives_each_a_seed_in_their_order():
    data = data_of(1) * 4
    crowd = many(SequenceRegressor(hidden_size=4, epochs=1, seed=np.random.default_rng(5))).fit(data)
    rng = np.random.default_rng(5)
    alone = [SequenceRegressor(hidden_size=4, epochs=1, seed=rng).fit(*each) for each in data]
    assert_same(weights(crowd), weights(alone))
    assert len({each.seed for each in crowd}) == 4


@pytest.mark.usefixtures("on_threads")
class TestErrors:
    @pytest.mark.parametrize("as_given", [list, iter])
    def test_name_the_member_and_change_nothing(self, as_given):
        data = data_of(5)
        crowd = many(TINY).fit(data)
        before = crowd.estimators_
        data[3] = (np.full((9, 4, 2), np.nan), np.zeros(9))
        with pytest.raises(ValueError, match=r"^member 3: X must be finite"):
            crowd.fit(as_given(data))
        assert crowd.estimators_ is before

    def test_of_data_in_a_list_come_before_anything_is_computed(self):
        fits = []
        one = SequenceRegressor(epochs=1, initial=fits.append)
        with pytest.raises(ValueError, match=r"^member 1: y must have shape"):
            many(one).fit([*data_of(1), (np.zeros((9, 4, 2)), np.zeros(8))])
        assert not fits

    def test_of_a_training_are_those_of_the_first_member(self):
        """Which is the last to fail."""
        calls = []

        def loss(y, target):
            calls.append(y.shape[1])
            if y.shape[1] == 3 or (y.shape[1] == 2 and calls.count(2) > 40):
                raise RuntimeError(f"{y.shape[1]} targets")
            return fastrnn.losses.mean_squared_error(y, target)

        rng = np.random.default_rng(0)
        data = [(x, rng.normal(size=(len(x), 1 + k))) for k, (x, _) in enumerate(data_of(3))]
        with pytest.raises(RuntimeError, match=r"^member 1: 2 targets$"):
            many(SequenceRegressor(hidden_size=4, epochs=60, loss=loss, seed=0)).fit(data)

    def test_of_whoever_gives_the_data_pass_through(self):
        def given():
            yield from data_of(3)
            raise OSError("no more")

        with pytest.raises(OSError, match=r"^no more$"):
            many(TINY).fit(given())

    @pytest.mark.parametrize("data", [data_of(1)[0], np.zeros((2, 3, 4)), {"a": data_of(1)[0]}, "text", None])
    def test_what_is_not_of_several_members(self, data):
        with pytest.raises(TypeError, match=r"^data must be a list with those of each member, got "):
            many(TINY).fit(data)

    def test_nobody(self):
        with pytest.raises(ValueError, match="at least one member, got none"):
            many(TINY).fit([])

    def test_predictions_for_another_number(self):
        crowd = many(TINY).fit(data_of(2))
        with pytest.raises(ValueError, match=r"^data must be of 2 members, as in fit, got 1$"):
            crowd.predict([np.zeros((3, 4, 2))])
        with pytest.raises(ValueError, match=r"^member 1: X has 3 features"):
            crowd.predict([np.zeros((3, 4, 2)), np.zeros((3, 4, 3))])

    def test_too_many_arguments(self):
        with pytest.raises(TypeError, match=r"^member 0: data must be as of SequenceRegressor\.fit\(X"):
            many(TINY).fit([(*data_of(1)[0], None, None, 7)])

    def test_parameters_and_what_is_no_model(self):
        with pytest.raises(ValueError, match=r"^hidden_size must be"):
            many(SequenceRegressor(hidden_size=0)).fit(data_of(1))
        with pytest.raises(TypeError, match=r"^estimator must be a model of fastrnn\.models, got"):
            many(SequenceRegressor).fit(data_of(1))
        with pytest.raises(RuntimeError, match="not fitted yet"):
            len(many(TINY))


def test_ctrl_c_ends_it_with_the_epoch_and_leaves_what_was(threads):
    threads(2)
    crowd, data = many(TINY).fit(data_of(2)), data_of(2)
    before, epochs = crowd.estimators_, []

    def loss(y, target):
        epochs.append(threading.current_thread())
        if len(epochs) == 20:
            signal_main()
        return fastrnn.losses.mean_squared_error(y, target)

    crowd.set_params(estimator=SequenceRegressor(hidden_size=4, epochs=10**6, loss=loss, seed=0))
    with pytest.raises(KeyboardInterrupt):
        crowd.fit(data)
    assert crowd.estimators_ is before
    assert threading.main_thread() not in epochs and not any(each.is_alive() for each in epochs)


def signal_main():
    import signal

    signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)


class TestThreads:
    def test_each_has_a_member_and_computes_without_help(self, threads):
        threads(3)
        seen = {}

        def loss(y, target):
            seen.setdefault(threading.current_thread(), set()).add(fastrnn.get_num_threads())
            return fastrnn.losses.mean_squared_error(y, target)

        many(SequenceRegressor(hidden_size=4, epochs=3, loss=loss, seed=0)).fit(data_of(12))
        assert threading.main_thread() not in seen and 1 <= len(seen) <= 3
        assert all(counts == {1} for counts in seen.values())
        assert fastrnn.get_num_threads() == 3

    def test_who_comes_while_they_are_at_work_computes_alone(self, threads):
        """In another thread, which fits its members itself, on one thread."""
        threads(2)
        data, seen, others = data_of(2), set(), []

        def seeing(y, target):
            seen.add((threading.current_thread(), fastrnn.get_num_threads()))
            return fastrnn.losses.mean_squared_error(y, target)

        def run():
            many(SequenceRegressor(hidden_size=4, epochs=2, loss=seeing, seed=0)).fit(data)

        def loss(y, target):
            if not others:
                others.append(threading.Thread(target=run))
                others[0].start()
                others[0].join()
            return fastrnn.losses.mean_squared_error(y, target)

        many(SequenceRegressor(hidden_size=4, epochs=1, loss=loss, seed=0)).fit(data)
        assert seen == {(others[0], 1)}


class TestMemory:
    def test_no_data_are_kept(self, threads):
        threads(2)
        alive = []

        def given():
            for X, y in data_of(12):
                big = X.copy()
                alive.append(weakref.ref(big))
                yield big, y
                del big
                assert sum(each() is not None for each in alive) <= 4  # two at work, and those that are made

        crowd = many(TINY).fit(given())
        gc.collect()
        assert not any(each() is not None for each in alive)
        crowd.predict([X for X, _ in data_of(12)])

    def test_a_member_has_little_besides_its_weights(self):
        tracemalloc = pytest.importorskip("tracemalloc")
        one = SequenceRegressor(hidden_size=8, epochs=4, seed=0)
        data = [(x, y) for x, y in data_of(2, steps=40)] * 10
        many(one).fit(data[:2])
        tracemalloc.start()
        try:
            few, after_few = many(one).fit(data[:4]), tracemalloc.get_traced_memory()[0]
            more, after_more = many(one).fit(data), tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()
        each = (after_more - after_few) / len(more)
        size = sum(array.nbytes for array in few[0].network_.parameters.values())
        assert size < each < size + 30_000
        assert len(pickle.dumps(more)) < len(more) * (size + 8_000)


def test_a_crowd_is_pickled():
    data = data_of(2)
    crowd = many(TINY).fit(data)
    copy = pickle.loads(pickle.dumps(crowd))
    assert isinstance(copy, Many)
    assert all(map(np.array_equal, copy.predict([X for X, _ in data]), crowd.predict([X for X, _ in data])))
