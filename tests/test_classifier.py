"""Classifier and regressor: what they learn, how they pool, and that gradients are those of the loss."""

import copy
import doctest
import pickle

import numpy as np
import pytest

import fastrnn
from fastrnn.backend import BACKENDS
from fastrnn.data import Examples, Sequences
from fastrnn.layers import CELLS
from fastrnn.losses import mean_squared_error
from fastrnn.models import SequenceClassifier, SequenceRegressor, classifier, networks, regressor
from fastrnn.training.learning import Supervised

TINY = {"hidden_size": 8, "epochs": 15, "learning_rate": 0.03, "seed": 0}


def drifts(count=60, seed=0):
    """Ragged random walks that fall or rise."""
    rng = np.random.default_rng(seed)
    y = rng.choice(["falling", "rising"], count)
    steps = [rng.normal(1 if way == "rising" else -1, 0.5, (rng.integers(3, 15), 2)) for way in y]
    return [np.cumsum(x, axis=0) / 5 for x in steps], y


def network_of(cell, pooling, bptt_steps, bidirectional=False, num_layers=1):
    rng = np.random.default_rng(0)
    recurrent = CELLS[cell](2, 3, num_layers, bidirectional=bidirectional, dtype="float64", seed=rng)
    options = {"pooling": pooling, "dropout": 0.0, "bptt_steps": bptt_steps}
    return networks.network_of(recurrent, 2, **options, rng=rng)


def batch_of(lengths=(5, 9, 1, 7)):
    rng = np.random.default_rng(1)
    x = [rng.normal(size=(length, 2)) for length in lengths]
    return Examples(Sequences(x, "float64"), rng.normal(size=(len(lengths), 2)))


def learn(network, batch, training=True):
    return Supervised(network, mean_squared_error, stateful=False)(batch, None, training=training)


class TestPooling:
    @pytest.mark.parametrize("bidirectional", [False, True])
    @pytest.mark.parametrize("pooling", ["last", "mean", "max"])
    def test_each_sequence_pools_its_own_steps(self, backend, pooling, bidirectional):
        network, batch = network_of("lstm", pooling, None, bidirectional, 2), batch_of()
        expected = []
        for item in batch.x.items:
            y, _ = network.recurrent(item[:, None])
            last = np.concatenate([y[-1, 0, :3], y[0, 0, 3:]]) if bidirectional else y[-1, 0]
            pooled = {"last": last, "mean": y[:, 0].mean(axis=0), "max": y[:, 0].max(axis=0)}[pooling]
            expected.append(network.head(pooled))
        np.testing.assert_allclose(network(batch.x), expected, rtol=1e-12)

    @pytest.mark.parametrize("cell", CELLS)
    @pytest.mark.parametrize("bidirectional", [False, True])
    @pytest.mark.parametrize("pooling", ["last", "mean", "max"])
    def test_gradients_are_those_of_the_loss(self, backend, pooling, bidirectional, cell):
        """Against central differences in float64."""
        network, batch = network_of(cell, pooling, None, bidirectional), batch_of()
        loss, count, _ = learn(network, batch)
        assert count == 4 and loss == pytest.approx(learn(network, batch, training=False)[0], rel=1e-12)
        assert network.gradients.keys() == network.parameters.keys()
        rng = np.random.default_rng(2)
        for name, parameter in network.parameters.items():
            direction = rng.standard_normal(parameter.shape)
            parameter += 1e-6 * direction
            above = learn(network, batch, training=False)[0]
            parameter -= 2e-6 * direction
            slope = (above - learn(network, batch, training=False)[0]) / 2e-6
            parameter += 1e-6 * direction
            assert slope == pytest.approx((network.gradients[name] * direction).sum(), rel=1e-5, abs=1e-8)

    @pytest.mark.parametrize("pooling", ["last", "mean", "max"])
    def test_windows_that_hold_all_steps_change_nothing(self, pooling):
        whole, cut, batch = network_of("gru", pooling, None), network_of("gru", pooling, 9), batch_of()
        assert learn(whole, batch) == learn(cut, batch)
        for name, gradient in whole.gradients.items():
            np.testing.assert_array_equal(cut.gradients[name], gradient)

    @pytest.mark.parametrize("pooling", ["last", "mean", "max"])
    def test_windows_change_the_gradient_alone(self, pooling):
        whole, cut, batch = network_of("lstm", pooling, None), network_of("lstm", pooling, 3), batch_of()
        losses = [learn(network, batch)[0] for network in (whole, cut)]
        assert losses[0] == pytest.approx(losses[1], rel=1e-12)
        np.testing.assert_allclose(cut.gradients["head.weight"], whole.gradients["head.weight"], rtol=1e-12)

    def test_last_goes_back_through_the_last_steps_only(self):
        """The steps before them give a state that is taken as it is."""
        network, batch = network_of("gru", "last", 4), batch_of()
        learn(network, batch)
        truth = network_of("gru", "last", None)
        layer = network_of("gru", "last", None).recurrent
        outputs, backs = [], []
        for item in batch.x.items:
            state = truth.recurrent(item[:-4, None])[1] if len(item) > 4 else None
            _, h, back = layer.forward(item[-4:, None], state)
            outputs.append(truth.head(h[-1, 0]))
            backs.append(back)
        _, doutputs = mean_squared_error(np.array(outputs), batch.y)
        for back, d in zip(backs, doutputs, strict=True):
            back(None, (d @ truth.head.parameters["weight"])[None, None])
        expected = layer.gradients["weight_hh_l0"]  # the sum
        np.testing.assert_allclose(network.gradients["recurrent.weight_hh_l0"], expected, rtol=1e-10)

    def test_mean_goes_back_window_by_window(self):
        network, batch = network_of("gru", "mean", 4), batch_of((10,))
        learn(network, batch)
        truth = network_of("gru", "mean", None)
        x = batch.x.items[0][:, None]
        output = truth.head(truth.recurrent(x)[0].mean(axis=0))
        _, doutput = mean_squared_error(output, batch.y)
        dy = doutput @ truth.head.parameters["weight"] / 10
        state = None
        for start in (0, 4, 8):
            y, state, back = truth.recurrent.forward(x[start : start + 4], state)
            back(np.broadcast_to(dy, y.shape))
        expected = truth.recurrent.gradients["weight_ih_l0"]
        np.testing.assert_allclose(network.gradients["recurrent.weight_ih_l0"], expected, rtol=1e-10)

    def test_steps_that_run_twice_are_dropped_alike(self):
        """Between layers: then both passes have the same outputs, and the maxima are where they were."""
        rng = np.random.default_rng(0)
        layer = fastrnn.LSTM(2, 3, 2, dropout=0.5, dtype="float64", seed=rng)
        options = {"pooling": "mean", "dropout": 0.5, "bptt_steps": 3}
        network = networks.network_of(layer, 2, **options, rng=rng)
        seen = []
        forward = layer.forward
        layer.forward = lambda *arguments: (seen.append(forward(*arguments)), seen[-1])[1]
        learn(network, batch_of())
        after = rng.bit_generator.state
        assert len(seen) == 6
        for (first, *_), (second, *_) in zip(seen[:3], seen[3:], strict=True):
            np.testing.assert_array_equal(first, second)
        learn(network, batch_of())
        assert rng.bit_generator.state != after


class TestClassifier:
    @pytest.mark.parametrize(
        "options",
        [
            {},
            {"cell": "gru", "pooling": "mean"},
            {"cell": "rnn", "pooling": "max", "num_layers": 2, "dropout": 0.2, "seed": 1},
            {"bidirectional": True, "dtype": "float64"},
            {"bptt_steps": 4},
            {"bptt_steps": 4, "pooling": "mean"},
            {"class_weight": "balanced", "schedule": "warmup"},
        ],
        ids=str,
    )
    def test_learns(self, options):
        (X, y), (unseen, truth) = drifts(), drifts(seed=1)
        model = SequenceClassifier(**{**TINY, **options}).fit(X, y)
        assert model.score(unseen, truth) > 0.9
        assert model.history_[-1]["train_loss"] < model.history_[0]["train_loss"] / 2
        assert model.classes_.tolist() == ["falling", "rising"] and model.n_features_in_ == 2
        probabilities = model.predict_proba(unseen)
        np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-12)
        np.testing.assert_array_equal(model.classes_[probabilities.argmax(axis=1)], model.predict(unseen))
        np.testing.assert_allclose(np.log(probabilities), model.predict_log_proba(unseen), rtol=1e-9)

    def test_backends_agree(self):
        pytest.importorskip("fastrnn._core", reason="the native kernels are not built")
        found = []
        for name in BACKENDS:
            with fastrnn.use_backend(name):
                model = SequenceClassifier(**{**TINY, "epochs": 2}, dtype="float64", dropout=0.3)
                found.append(model.fit(*drifts()).predict_log_proba(drifts(seed=1)[0]))
        np.testing.assert_allclose(*found, rtol=1e-7)

    @pytest.mark.parametrize("labels", [[3, 7], [True, False], ["a", "b"], [0.0, 1.0]])
    def test_labels_of_any_kind(self, labels):
        X, y = drifts(20)
        given = np.where(y == "rising", *labels)
        predicted = SequenceClassifier(**{**TINY, "epochs": 1}).fit(X, given).predict(X)
        assert predicted.dtype == given.dtype and set(predicted.tolist()) <= set(labels)

    def test_predictions_do_not_depend_on_the_batch(self):
        X, y = drifts()
        model = SequenceClassifier(**{**TINY, "epochs": 1}).fit(X, y)
        together = model.predict_log_proba(X)
        np.testing.assert_array_equal(together, np.concatenate([model.predict_log_proba([x]) for x in X]))

    def test_tokens(self):
        rng = np.random.default_rng(0)
        X = [rng.integers(0, 5, size=rng.integers(2, 9)) for _ in range(80)]
        y = [int((x == 3).any()) for x in X]
        model = SequenceClassifier(**{**TINY, "epochs": 40}, n_tokens=7, pooling="max").fit(X, y)
        assert model.score(X, y) > 0.9 and model.n_features_in_ == 1
        model.predict([np.array([6])])  # never seen in fit
        with pytest.raises(ValueError, match=r"X must be tokens within 0..6, got 7 in sequence 0, step 1"):
            model.predict([np.array([5, 7])])
        with pytest.raises(TypeError, match=r"X\[0\] must be integer tokens"):
            model.predict([np.array([1.0])])

    def test_class_weights_are_those_of_the_formula(self):
        X, y = drifts(30)
        y[:24] = "falling"
        weights = SequenceClassifier(**TINY, class_weight="balanced").fit(X, y)._class_weights
        counts = [(y == label).sum() for label in ("falling", "rising")]
        assert weights == pytest.approx([30 / 2 / count for count in counts])
        rare = SequenceClassifier(**TINY, class_weight={"falling": 1e-3}).fit(X, y)
        assert rare._class_weights[0] == pytest.approx(1e-3 * rare._class_weights[1])
        assert np.dot(rare._class_weights, counts) == pytest.approx(30)  # a mean of 1
        assert (rare.predict(X) == "rising").mean() > 0.9

    @pytest.mark.parametrize("batch_size", [60, 4, 1])
    def test_class_weights_do_not_depend_on_the_batches(self, batch_size):
        """Inputs without information: balanced, each class is as likely."""
        y = np.array(["a"] * 54 + ["b"] * 6)
        epochs = {60: 300, 4: 60, 1: 30}[batch_size]
        options = {"hidden_size": 2, "epochs": epochs, "learning_rate": 0.02, "validation_fraction": 0}
        model = SequenceClassifier(
            **options, class_weight="balanced", batch_size=batch_size, clip_norm=None, seed=0
        )
        model.fit(np.zeros((60, 1, 1)), y)
        np.testing.assert_allclose(model.predict_proba(np.zeros((1, 1, 1))), 0.5, atol=0.03)

    def test_held_out_are_some_of_each_class(self):
        X, y = drifts(60)
        y[:] = ["a"] * 40 + ["b"] * 20
        seen = []

        class Watched(SequenceClassifier):
            def _split(self, examples):
                seen.extend(super()._split(examples))
                return seen

        Watched(**{**TINY, "epochs": 1, "validation_fraction": 0.15}).fit(X, y)
        assert [np.bincount(part.y).tolist() for part in seen] == [[34, 17], [6, 3]]

    def test_validation_data_of_ones_own(self):
        (X, y), held_out = drifts(20), drifts(10, seed=2)
        model = SequenceClassifier(**{**TINY, "epochs": 2}).fit(X, y, validation_data=held_out)
        assert model.history_[-1]["samples"] == 40
        truth = model.predict_log_proba(held_out[0])[np.arange(10), (held_out[1] == "rising").astype(int)]
        best = model.history_[model.best_epoch_ - 1]["validation_loss"]
        assert best == pytest.approx(-truth.mean(), rel=1e-5)

    @pytest.mark.parametrize(
        ("X", "y", "error"),
        [
            ([[1.0]] * 3, None, "SequenceClassifier requires y to be passed, but the target y is None"),
            ([[1.0]] * 3, [0, 1], r"a label for each of 3 sequences, shape \(3,\), got \(2,\)"),
            ([[1.0]] * 3, [0.5, 1, 2], "Unknown label type: continuous"),
            ([[1.0]] * 3, [np.nan, 1, 2], "Unknown label type: continuous"),
            ([], [], "X must have at least one sequence"),
        ],
    )
    def test_bad_data_is_refused(self, X, y, error):
        with pytest.raises(ValueError, match=error):
            SequenceClassifier().fit(X, y)

    @pytest.mark.parametrize(
        ("option", "value", "expected"),
        [
            ("pooling", "sum", "one of 'last', 'mean', 'max', got 'sum'"),
            ("layout", "TNC", "one of 'NTC', 'NCT', got 'TNC'"),
            ("bidirectional", 1, "True or False, got 1"),
            ("class_weight", "even", "None, 'balanced' or a dict"),
            ("class_weight", {"up": 1.0}, "of labels in y, got 'up'"),
            ("schedule", "sine", "one of 'constant', 'cosine', 'step', 'warmup', got 'sine'"),
        ],
    )
    def test_bad_parameters_are_refused(self, option, value, expected):
        with pytest.raises((TypeError, ValueError), match=f"{option} must be {expected}"):
            SequenceClassifier(**{**TINY, option: value}).fit(*drifts(10))

    def test_windows_and_two_directions_do_not_go_together(self):
        with pytest.raises(ValueError, match="bptt_steps goes with bidirectional=False only"):
            SequenceClassifier(bidirectional=True, bptt_steps=5).fit(*drifts(10))

    def test_use_before_fit(self):
        with pytest.raises(RuntimeError, match="this SequenceClassifier is not fitted yet: call fit first"):
            SequenceClassifier().predict([[1.0]])

    def test_other_features_than_in_fit_are_refused(self):
        model = SequenceClassifier(**{**TINY, "epochs": 1}).fit(*drifts(10))
        with pytest.raises(ValueError, match="X has 3 features, but SequenceClassifier is expecting 2"):
            model.predict([np.zeros((4, 3))])

    def test_a_matrix_must_have_the_columns_of_that_in_fit(self):
        X = np.random.default_rng(0).normal(size=(10, 6))
        model = SequenceClassifier(**{**TINY, "epochs": 1}).fit(X, X[:, 0] > 0)
        assert model.n_features_in_ == 6
        with pytest.raises(ValueError, match="X has 4 features, but SequenceClassifier is expecting 6"):
            model.predict(X[:, :4])
        assert model.predict(X[:, :4, None]).shape == (10,)

    def test_a_single_sequence_goes_into_a_list(self):
        X, y = drifts(20)
        model = SequenceClassifier(**{**TINY, "epochs": 1}).fit(X, y)
        with pytest.raises(
            ValueError, match=r"X has 1 features, .* 2 features as input; a single sequence goes"
        ):
            model.predict(X[0])

    def test_sequences_in_a_list_have_any_length(self):
        lists = [[0.1 * k, 0.2, 0.3] for k in range(30)]
        model = SequenceClassifier(**{**TINY, "epochs": 1}).fit(lists, np.arange(30) % 2)
        for few in ([[0.1, 0.2], [0.1]], [[0.1, 0.2]], [np.array([0.1, 0.2])], ([0.1, 0.2],)):
            assert len(model.predict(few)) == len(few)
        np.testing.assert_array_equal(
            model.predict_proba([[0.1, 0.2]]), model.predict_proba([np.array([0.1, 0.2])])
        )

    @pytest.mark.parametrize(
        "integers", [[[1_700_000_000, 1_700_000_060]] * 12, np.arange(36).reshape(12, 3)]
    )
    def test_integers_are_numbers(self, integers):
        """Timestamps and samples of a converter have no table of weights, one for each value."""
        y = np.arange(12) % 2
        model = SequenceClassifier(**{**TINY, "epochs": 1}).fit(integers, y)
        other = SequenceClassifier(**{**TINY, "epochs": 1}).fit(np.array(integers, dtype=float), y)
        np.testing.assert_array_equal(
            model.predict_proba(integers), other.predict_proba(np.array(integers, dtype=float))
        )
        assert model.network_.parameters["recurrent.weight_ih_l0"].shape == (32, 1)

    def test_scores_need_a_label_for_each_sequence(self):
        X, y = drifts(20)
        model = SequenceClassifier(**{**TINY, "epochs": 1}).fit(X, y)
        with pytest.raises(ValueError, match=r"y must have a label for each of 20 sequences, .* got \(5,\)"):
            model.score(X, y[:5])

    def test_padding_is_not_data(self):
        """A model that was given lengths wants them with every array."""
        X, y = drifts(20)
        padded = np.zeros((20, 14, 2))
        for row, x in zip(padded, X, strict=True):
            row[: len(x)] = x
        lengths = [len(x) for x in X]
        model = SequenceClassifier(**{**TINY, "epochs": 2}).fit(padded, y, lengths)
        expected = model.predict_proba(padded, lengths)
        np.testing.assert_array_equal(model.predict_proba(X), expected)
        for use in (model.predict, model.predict_proba):
            with pytest.raises(ValueError, match="lengths must be passed with an array, as in fit"):
                use(padded)
        for use in (model.score, model.partial_fit):
            with pytest.raises(ValueError, match="lengths must be passed with an array, as in fit"):
                use(padded, y)
        with pytest.raises(ValueError, match="lengths must be passed with an array, as in fit"):
            model.fit(padded, y, lengths, validation_data=(padded, y))
        assert model.fit(padded, y).predict(padded).shape == (20,)

    def test_classes_still_to_come(self):
        X, y = drifts(20)
        model = SequenceClassifier(**TINY)
        model.partial_fit(X, y, classes=["rising", "steady", "falling"]).partial_fit(X, ["steady"] * 20)
        assert model.predict_proba(X).shape == (20, 3)

    def test_it_can_be_pickled(self):
        X, y = drifts(10)
        model = SequenceClassifier(**{**TINY, "epochs": 1}, class_weight="balanced").fit(X, y)
        copy = pickle.loads(pickle.dumps(model))
        np.testing.assert_array_equal(copy.predict_proba(X), model.predict_proba(X))
        copy.partial_fit(X, y)


class TestRegressor:
    def data(self, targets, count=80, seed=0):
        rng = np.random.default_rng(seed)
        X = [rng.normal(size=(rng.integers(4, 12), 2)) for _ in range(count)]
        y = np.array([1000 + 50 * x.mean(axis=0) for x in X])
        return X, y[:, 0] if targets == 1 else y

    @pytest.mark.parametrize("options", [{}, {"bidirectional": True}, {"bptt_steps": 6}], ids=str)
    @pytest.mark.parametrize("targets", [1, 2])
    def test_learns_in_the_targets_own_units(self, targets, options):
        X, y = self.data(targets)
        unseen, truth = self.data(targets, seed=1)
        model = SequenceRegressor(**{**TINY, "epochs": 60, **options}, pooling="mean").fit(X, y)
        predicted = model.predict(unseen)
        assert predicted.shape == truth.shape and predicted.dtype == np.float64
        assert model.score(unseen, truth) > 0.85
        assert abs(predicted.mean() - 1000) < 20

    @pytest.mark.parametrize("targets", [1, 2])
    def test_score_is_scikit_learns(self, targets):
        metrics = pytest.importorskip("sklearn.metrics")
        X, y = self.data(targets, 20)
        model = SequenceRegressor(**{**TINY, "epochs": 1}).fit(X, y)
        assert model.score(X, y) == pytest.approx(metrics.r2_score(y, model.predict(X)), rel=1e-5)

    def test_targets_that_do_not_vary(self):
        X, _ = self.data(1, 10)
        model = SequenceRegressor(**{**TINY, "epochs": 2}).fit(X, np.full(10, 7.0))
        np.testing.assert_array_equal(model.predict(X), 7)
        assert model.score(X, np.full(10, 7.0)) == 1 and model.score(X, np.full(10, 1e6)) == 0

    @pytest.mark.parametrize(("count", "value"), [(40, 1e-6), (40, 0.1), (17, 0.1), (40, -1e9 / 3), (40, 0)])
    def test_a_constant_is_predicted_exactly(self, count, value, tmp_path):
        X, y = self.data(2, count)
        y[:, 1] = value
        model = SequenceRegressor(**TINY, pooling="mean").fit(X, y)
        np.testing.assert_array_equal(model.predict(X)[:, 1], y[0, 1])
        alone = SequenceRegressor(**TINY, pooling="mean").fit(X, y[:, 0])
        assert model.score(X, y) > (1 + alone.score(X, y[:, 0])) / 2 - 0.1  # 1 for the one that is met
        model.save(tmp_path / "model")
        np.testing.assert_array_equal(SequenceRegressor.load(tmp_path / "model").predict(X), model.predict(X))

    def test_targets_that_cannot_be_squared(self):
        X, y = self.data(1, 40)
        model = SequenceRegressor(**{**TINY, "epochs": 2}).fit(X, y)
        before = model.predict(X)
        for too_large in (1e200 * y, 1e308 * np.sign(y - 1000)):
            for fit in (model.fit, model.partial_fit):
                with pytest.raises(ValueError, match="y must be numbers that can be squared"):
                    fit(X, too_large)
        np.testing.assert_array_equal(model.predict(X), before)
        assert np.isfinite(model.fit(X, 1e-200 * y).score(X, 1e-200 * y))  # squares of 0 are no division by 0

    def test_the_scale_is_that_of_what_is_trained_on(self):
        X, y = self.data(1, 40)
        parts = []

        class Watched(SequenceRegressor):
            def _split(self, examples):
                parts.extend(super()._split(examples))
                return parts

        model = Watched(**{**TINY, "epochs": 1}).fit(X, y)
        assert len(parts[1]) == 4
        np.testing.assert_allclose(model.target_scaling_.mean, parts[0].y.mean(axis=0), rtol=1e-12)
        np.testing.assert_allclose(model.target_scaling_.deviation, parts[0].y.std(axis=0), rtol=1e-12)

    @pytest.mark.parametrize("first", ["constant", "small"])
    def test_the_scale_follows_chunks_without_a_change_of_predictions(self, first):
        X, y = self.data(2)
        start = np.full_like(y, 3.0) if first == "constant" else 1e-3 * y
        model = SequenceRegressor(**{**TINY, "dtype": "float64"}, pooling="mean").partial_fit(X, start)
        before = model.predict(X)
        other = copy.deepcopy(model)
        other._learn_scale(other._read(X, y, None, learn=False))
        np.testing.assert_allclose(other.predict(X), before, rtol=1e-9, atol=1e-9)
        for _ in range(200):
            model.partial_fit(X, y)
        both = np.concatenate([start, *[y] * 200])
        np.testing.assert_allclose(model.target_scaling_.mean, both.mean(axis=0), rtol=1e-9)
        np.testing.assert_allclose(model.target_scaling_.deviation, both.std(axis=0), rtol=1e-9)
        assert model.score(X, y) > 0.8

    def test_a_failed_partial_fit_keeps_scale_and_predictions(self):
        X, y = self.data(1)
        model = SequenceRegressor(**{**TINY, "epochs": 2}).fit(X, y)
        before, scaling = model.predict(X), model.target_scaling_
        with np.errstate(all="ignore"), pytest.raises(FloatingPointError):
            for _ in range(5):
                model.set_params(learning_rate=1e300, clip_norm=None).partial_fit(X, 1000 * y)
                before, scaling = model.predict(X), model.target_scaling_
        np.testing.assert_array_equal(model.predict(X), before)
        assert model.target_scaling_ is scaling

    def test_scores_need_as_many_targets(self):
        X, y = self.data(2, 20)
        model = SequenceRegressor(**{**TINY, "epochs": 1}).fit(X, y)
        with pytest.raises(ValueError, match=r"y must have shape \(20,\) or \(20, M\), got \(5, 2\)"):
            model.score(X, y[:5])
        with pytest.raises(ValueError, match=r"y must have 2 target\(s\), as in fit, got 1"):
            model.score(X, y[:, 0])

    @pytest.mark.parametrize(
        ("y", "error"),
        [
            (None, "SequenceRegressor requires y to be passed"),
            (np.zeros(3), r"y must have shape \(4,\) or \(4, M\), got \(3,\)"),
            (np.zeros((4, 2, 2)), r"got \(4, 2, 2\)"),
            (np.zeros((4, 0)), r"got \(4, 0\)"),
            ([1.0, np.nan, 2.0, 3.0], "y must be finite, got NaN or inf for sequence 1"),
            (["a"] * 4, "y must be an array of numbers, got dtype <U1"),
        ],
    )
    def test_bad_targets_are_refused(self, y, error):
        with pytest.raises((TypeError, ValueError), match=error):
            SequenceRegressor().fit(np.zeros((4, 3)), y)

    def test_as_many_targets_as_in_the_first_call(self):
        X, y = self.data(2, 10)
        model = SequenceRegressor(**{**TINY, "epochs": 1}).fit(X, y)
        with pytest.raises(ValueError, match=r"y must have shape \(N, 2\), as in fit, got \(10,\)"):
            model.partial_fit(X, y[:, 0])


@pytest.mark.parametrize("module", [classifier, regressor])
def test_the_examples_in_the_docstrings(module):
    results = doctest.testmod(module)
    assert results.attempted and not results.failed
