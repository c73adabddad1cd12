"""Training of networks of one's own: forms of data, losses, groups, frozen parts; against loops by hand."""

import numpy as np
import pytest

from fastrnn.data import Batches, Examples, Sequences
from fastrnn.layers import GRU, LSTM, Composite, Dropout, Embedding, Last, Linear, Mean, Sequential, Tanh
from fastrnn.losses import huber, mean_squared_error, softmax_cross_entropy
from fastrnn.optim import SGD, Adam
from fastrnn.training import fit

LENGTHS = [5, 9, 2, 7, 7, 3, 9, 4]


def ragged(features=3, seed=0, dtype="float64"):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(steps, features)).astype(dtype) for steps in LENGTHS]


def padded(items):
    whole = np.full((len(items), max(map(len, items)), *items[0].shape[1:]), 99, items[0].dtype)
    for place, item in enumerate(items):
        whole[place, : len(item)] = item
    return whole


def classifier(seed=0, dropout=0.0, **options):
    rng = np.random.default_rng(seed)
    return Sequential(
        GRU(3, 6, dtype="float64", seed=rng, **options),
        Last(),
        Dropout(dropout, seed=rng),
        Linear(6, 2, dtype="float64", seed=rng),
    )


def tagger(seed=0, outputs=2, **options):
    rng = np.random.default_rng(seed)
    layer = LSTM(3, 6, dtype="float64", seed=rng, **options)
    return Sequential(layer, Linear(6, outputs, dtype="float64", seed=rng))


def weights(network):
    return {name: array.copy() for name, array in network.parameters.items()}


def assert_same(first, second):
    assert first.keys() == second.keys()
    for name in first:
        np.testing.assert_array_equal(first[name], second[name])


LABELS = np.array([0, 1, 0, 1, 1, 0, 1, 1])


def test_a_sequential_learns_as_in_a_loop_by_hand():
    """Batches sorted by length, one step for each, and the mean of a whole epoch."""
    X, found, by_hand = ragged(), classifier(), classifier()
    training = fit(
        found,
        (X, LABELS),
        loss="softmax_cross_entropy",
        optimizer=Adam(found.parameters, 0.01),
        schedule="constant",
        batch_size=3,
        epochs=2,
        seed=5,
    )
    optimizer, rng, losses = Adam(by_hand.parameters, 0.01), np.random.default_rng(5), []
    dataset = Batches(Examples(Sequences(X, "float64"), LABELS), 3)
    for _ in range(2):
        for batch in dataset.batches(rng):
            x, lengths = batch.x.padded()
            y, back = by_hand.forward(x, lengths)
            loss, dy = softmax_cross_entropy(y, batch.y)
            back(dy)
            optimizer.step(by_hand.take_gradients())
            losses.append(loss * len(batch))
    assert_same(weights(found), weights(by_hand))
    assert training.history[1]["train_loss"] == pytest.approx(sum(losses[3:]) / 8)


def by_arrays(X):
    return padded(X), LABELS, LENGTHS


FORMS = {
    "padded": by_arrays,
    "object array": lambda X: (np.array([*X, None], dtype=object)[:-1], LABELS),
    "a function": lambda X: lambda: iter([(X, LABELS)]),
    "a function of padded": lambda X: lambda: iter([by_arrays(X)]),
    "labels in a list": lambda X: (X, LABELS.tolist()),
    "a dataset": lambda X: Batches(Examples(Sequences(X, "float64"), LABELS), 3),
}


def fit_classifier(data, **options):
    network = classifier()
    fit(
        network,
        data,
        loss="softmax_cross_entropy",
        batch_size=3,
        epochs=2,
        seed=5,
        schedule="constant",
        **options,
    )
    return weights(network)


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_every_form_of_data_is_the_same_data(form):
    assert_same(fit_classifier(form(ragged())), fit_classifier((ragged(), LABELS)))


class Arrays(Composite):
    """The same as a `classifier` or `tagger`, of one's own, which takes arrays."""

    def __init__(self, batch_first=False, make=classifier):
        self.chain = make(batch_first=batch_first)
        self.batch_first = batch_first
        super().__init__(**self.chain.parts)

    def __call__(self, x, lengths=None, **options):
        return self.chain(x, lengths, **options)

    def forward(self, x, lengths=None, **options):
        return self.chain.forward(x, lengths, **options)


@pytest.mark.parametrize("batch_first", [False, True])
def test_a_network_of_ones_own_gets_arrays_in_its_order(batch_first):
    network, expected = Arrays(batch_first), classifier()
    for each in (network, expected):
        fit(
            each,
            (ragged(), LABELS),
            loss="softmax_cross_entropy",
            validation=(ragged(seed=1), LABELS),
            batch_size=3,
            epochs=2,
            seed=5,
        )
    for first, second in zip(weights(network).values(), weights(expected).values(), strict=True):
        np.testing.assert_array_equal(first, second)


def test_a_network_of_ones_own_need_know_no_lengths_where_all_are_alike():
    class Plain(Arrays):
        def __call__(self, x):
            return super().__call__(x)

        def forward(self, x):
            return super().forward(x)

    data = np.stack([x[:2] for x in ragged()]), LABELS
    for validation in (None, data):
        fit(Plain(), data, loss="softmax_cross_entropy", validation=validation, epochs=1)
    with pytest.raises(TypeError, match="lengths"):
        fit(Plain(), (ragged(), LABELS), loss="softmax_cross_entropy", epochs=1)


def test_steps_after_the_end_do_not_count():
    """Of targets by step, in every form, with a loss of a name or a function that knows of no lengths."""
    X = ragged()
    y = [x @ np.array([[1.0, 0], [0, 2.0], [1.0, 1.0]]) for x in X]

    def squares(prediction, target):
        assert prediction.shape == target.shape == (prediction.size // 2, 2)  # the steps there are, in a row
        error = prediction - target
        return float((error**2).mean()), 2 * error / error.size

    found = []
    for data in ((X, y), (padded(X), padded(y), LENGTHS), (X, np.array([*y, None], dtype=object)[:-1])):
        for loss in ("mean_squared_error", squares):
            network = tagger()
            training = fit(network, data, loss=loss, batch_size=8, epochs=1, seed=0)
            found.append((training.history[0]["train_loss"], weights(network)))
            assert training.history[0]["samples"] == sum(LENGTHS)
    network = tagger()
    true = np.concatenate(y)
    predicted = np.concatenate([network(x[:, None])[:, 0] for x in X])
    for value, each in found:
        assert value == pytest.approx(((predicted - true) ** 2).mean())
        for name, array in each.items():
            np.testing.assert_allclose(array, found[0][1][name], rtol=0, atol=1e-12)


@pytest.mark.parametrize("make", [classifier, tagger])
@pytest.mark.parametrize("batch_first", [None, False, True])
def test_a_weight_is_as_many_copies(make, batch_first):
    """In training and validation, whose losses are means over all samples, for any network."""
    X, counts = ragged(), np.array([1, 3, 0, 2, 1, 5, 0, 1])
    y = LABELS if make is classifier else [(x[:, 0] > 0).astype(int) for x in X]
    copies = np.repeat(np.arange(8), counts)
    once, found = (X, y, None, counts), []
    for data in (once, ([X[k] for k in copies], [y[k] for k in copies])):
        network = make() if batch_first is None else Arrays(batch_first, make)
        samples = np.concatenate([np.ravel(each) for each in data[1]]).size
        training = fit(
            network,
            data,
            loss="softmax_cross_entropy",
            validation=data,
            optimizer=SGD(network.parameters, 0.01 * samples),
            batch_size=99,
            epochs=3,
        )
        losses = [training.history[-1][name] * samples for name in ("train_loss", "validation_loss")]
        found.append((weights(network), losses))
    for name, array in found[0][0].items():
        np.testing.assert_allclose(array, found[1][0][name], rtol=0, atol=1e-12)
    assert found[0][1] == pytest.approx(found[1][1])


def test_single_numbers_meet_outputs_of_one_column():
    X, y = ragged(), np.arange(8.0)
    network = Sequential(*classifier().parts.values(), Linear(2, 1, dtype="float64", seed=0))
    before = ((network(Sequences(X, "float64"))[:, 0] - y) ** 2).mean()
    training = fit(network, (X, y), loss="mean_squared_error", batch_size=8, epochs=1)
    assert training.history[0]["train_loss"] == pytest.approx(before)
    network = tagger(outputs=1)
    fit(network, (X, [x[:, 0] for x in X]), loss="huber", batch_size=8, epochs=1)


@pytest.mark.parametrize("own", [False, True])
def test_windows_carry_the_state_on(own):
    X = ragged()
    y = [np.cumsum(x[:, 0] > 0) % 2 for x in X]
    given = []

    class Spy(Arrays):
        def forward(self, x, lengths=None, **options):
            given.append(lengths)
            return super().forward(x, lengths, **options)

    found, by_hand = Spy(make=tagger) if own else tagger(), tagger()
    fit(
        found,
        (X, y),
        loss="softmax_cross_entropy",
        optimizer=SGD(found.parameters, 0.5),
        schedule="constant",
        batch_size=4,
        bptt_steps=2,
        epochs=1,
        seed=1,
    )
    optimizer, state = SGD(by_hand.parameters, 0.5), None
    dataset = Batches(Examples(Sequences(X, "float64"), Sequences(y)), 4, 2)
    for window in dataset.batches(np.random.default_rng(1)):
        x, lengths = window.x.padded()
        logits, state, back = by_hand.forward(
            x, lengths, state=state if window.follows else None, return_state=True
        )
        _, dlogits = softmax_cross_entropy(logits, window.y.padded()[0], lengths=lengths)
        back(dlogits)
        optimizer.step(by_hand.take_gradients())
    for name, array in weights(by_hand).items():
        np.testing.assert_allclose(found.parameters[name], array, rtol=0, atol=1e-12)
    assert not own or any(lengths is not None for lengths in given)


def test_tokens_and_rows():
    rng = np.random.default_rng(0)
    X, y = rng.integers(0, 9, (20, 6)), rng.integers(0, 3, 20)
    words = Sequential(Embedding(9, 4, seed=rng), Mean(), Linear(4, 3, seed=rng))
    first = fit(
        words, (X, y), loss="softmax_cross_entropy", epochs=30, optimizer=Adam(words.parameters, 0.05), seed=0
    )
    assert first.history[-1]["train_loss"] < 0.8 * first.history[0]["train_loss"]
    rows = Sequential(Linear(6, 8, seed=rng), Tanh(), Linear(8, 3, seed=rng))
    second = fit(
        rows, (X / 9, y), loss="softmax_cross_entropy", epochs=30, optimizer=Adam(rows.parameters, 0.05)
    )
    assert second.history[-1]["train_loss"] < 0.8 * second.history[0]["train_loss"]


def test_parts_are_read_once_for_each_epoch_and_batched_one_by_one():
    X, y = np.arange(12.0, dtype="float32")[:, None], np.zeros(12)
    seen, reads = [], []

    def files():
        for part in (slice(0, 5), slice(5, 12)):
            reads.append(part)
            yield X[part], y[part]

    class Spy(Linear):
        def forward(self, x):
            seen.append(x[:, 0].tolist())
            return super().forward(x)

    training = fit(
        Spy(1, 1, seed=0), files, loss="mean_squared_error", batch_size=4, epochs=2, seed=0, validation=files
    )
    first, second = np.concatenate(seen[:4]), np.concatenate(seen[4:])
    assert sorted(map(len, seen[:2])) == [1, 4] and sorted(map(len, seen[2:4])) == [3, 4]
    assert sorted(first[:5]) == X[:5, 0].tolist() and sorted(first) == sorted(second) == X[:, 0].tolist()
    assert (first != second).any()  # in another order
    assert len(reads) == 8 and [record["samples"] for record in training.history] == [12, 24]


# -- a network with a loss of its own


class Towers(Composite):
    """Two sequences, one tower for both: are they of one kind? A contrastive loss (Hadsell et al. 2006)."""

    def __init__(self, seed):
        rng = np.random.default_rng(seed)
        self.tower = Sequential(GRU(2, 8, seed=rng), Last(), Dropout(0.2, seed=rng), Linear(8, 3, seed=rng))
        super().__init__(tower=self.tower)

    def loss(self, batch, state, *, training):
        (first, second), alike = batch
        if training:
            a, back_a = self.tower.forward(first)
            b, back_b = self.tower.forward(second)  # the same layers again, before any way back
        else:
            a, b = self.tower(first), self.tower(second)
        away = a - b
        distance = np.sqrt((away**2).sum(axis=1) + 1e-12)
        near = np.maximum(0, 1 - distance)
        value = float(np.where(alike, distance**2, near**2).mean())
        if training:
            slope = np.where(alike, 2 * distance, -2 * near) / distance / len(alike)
            da = (away * slope[:, None]).astype("float32")
            back_b(-da)
            back_a(da)
        return value, len(alike), None


class Pairs:
    """A dataset of one's own: walks up and down, in pairs."""

    samples = 48

    def __init__(self, seed):
        rng = np.random.default_rng(seed)
        self.up = rng.integers(0, 2, (2, 48))
        self.walks = rng.normal(size=(2, 10, 48, 2)) + 0.7 * (2 * self.up[:, None, :, None] - 1)

    def batches(self, rng):
        order = np.arange(48) if rng is None else rng.permutation(48)
        for places in np.split(order, 4):
            pair = self.walks[:, :, places].astype("float32")
            yield pair, self.up[0, places] == self.up[1, places]


def fit_towers(seed=0, epochs=30, **options):
    network = Towers(seed)
    optimizer = Adam(network.parameters, 0.02)
    return fit(
        network,
        Pairs(1),
        validation=Pairs(2),
        optimizer=optimizer,
        clip_norm=1.0,
        epochs=epochs,
        patience=6,
        seed=np.random.default_rng(seed + 1),
        **options,
    )


def test_two_towers_learn_stop_early_and_keep_their_best():
    training = fit_towers()
    losses = [record["validation_loss"] for record in training.history]
    assert min(losses) < 0.6 * losses[0]
    assert training.best_epoch == 1 + int(np.argmin(losses))
    assert len(losses) == min(30, training.best_epoch + 6)
    found = [training.network.loss(batch, None, training=False)[0] for batch in Pairs(2).batches(None)]
    assert np.mean(found) == pytest.approx(min(losses))


def test_two_towers_go_on_bit_for_bit(tmp_path):
    whole = fit_towers(epochs=8)

    def power_cut(training):
        if len(training.history) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit_towers(epochs=8, checkpoint=tmp_path / "run", callbacks=power_cut)
    resumed = fit_towers(seed=9, epochs=8, checkpoint=tmp_path / "run", resume="auto")
    assert_same(weights(resumed.network), weights(whole.network))
    scores = [[record["validation_loss"] for record in each.history] for each in (whole, resumed)]
    assert scores[0] == scores[1] and resumed.best_epoch == whole.best_epoch


# -- groups and frozen parts


@pytest.mark.parametrize("clip_norm", [None, 0.1])
def test_a_frozen_part_does_not_change_by_a_bit(clip_norm):
    network, by_hand = classifier(), classifier()
    before = weights(network)
    fit(
        network,
        (ragged(), LABELS),
        loss="softmax_cross_entropy",
        optimizer=SGD(network.parts["3"].parameters, 0.5),
        clip_norm=clip_norm,
        batch_size=8,
        epochs=1,
    )
    y, back = by_hand.forward(Sequences(ragged(), "float64"))
    back(softmax_cross_entropy(y, LABELS)[1])
    gradients = {name: by_hand.gradients[f"3.{name}"] for name in ("weight", "bias")}
    norm = np.sqrt(sum((each**2).sum() for each in gradients.values()))
    factor = 1 if clip_norm is None else min(1, clip_norm / (norm + 1e-6))
    for name, array in weights(network).items():
        if name.startswith("0."):
            np.testing.assert_array_equal(array, before[name])
        else:
            step = 0.5 * factor * gradients[name[2:]]
            np.testing.assert_allclose(array, before[name] - step, rtol=0, atol=1e-12)


def test_a_frozen_part_need_not_be_gone_back_through():
    class Features(Composite):
        def __init__(self):
            self.encoder, self.head = classifier(), Linear(2, 1, dtype="float64", seed=0)
            super().__init__(encoder=self.encoder, head=self.head)

        def __call__(self, x, lengths=None):
            return self.head(self.encoder(x, lengths))

        def forward(self, x, lengths=None):
            return self.head.forward(self.encoder(x, lengths))

    network = Features()
    before = weights(network)
    data = ragged(), np.arange(8.0)
    fit(network, data, loss=huber, optimizer=Adam(network.head.parameters), epochs=3)
    assert_same(
        weights(network.encoder), {name[8:]: a for name, a in before.items() if name[:8] == "encoder."}
    )
    assert (network.head.parameters["weight"] != before["head.weight"]).any()
    with pytest.raises(RuntimeError, match=r"Features has no gradients of encoder\.0\.weight_ih_l0, "):
        fit(network, data, loss=huber, epochs=1)


def test_groups_have_rates_and_kinds_of_their_own():
    network, by_hand = classifier(), classifier()
    groups = [
        SGD(network.parts["0"].parameters, 0.5, momentum=0.9),
        Adam(network.parts["3"].parameters, 0.01),
    ]
    training = fit(
        network,
        (ragged(), LABELS),
        loss="softmax_cross_entropy",
        optimizer=groups,
        batch_size=8,
        epochs=3,
        schedule=lambda progress: 1 - progress / 2,
    )
    own = [SGD(by_hand.parts["0"].parameters, 0.5, momentum=0.9), Adam(by_hand.parts["3"].parameters, 0.01)]
    for epoch in range(3):
        y, back = by_hand.forward(Sequences(ragged(), "float64"))
        back(softmax_cross_entropy(y, LABELS)[1])
        for optimizer, lr, part in zip(own, (0.5, 0.01), "03", strict=True):
            optimizer.lr = lr * (1 - epoch / 6)
            optimizer.step(by_hand.parts[part].take_gradients())
    for name, array in weights(by_hand).items():
        np.testing.assert_allclose(network.parameters[name], array, rtol=0, atol=1e-12)
    assert [each.lr for each in groups] == [0.5, 0.01]
    assert training.optimizers == groups


def test_groups_go_on_bit_for_bit(tmp_path):
    def train(seed=0, last=0.01, **options):
        network = classifier(seed, dropout=0.3)
        groups = [SGD(network.parts["0"].parameters, 0.5), Adam(network.parts["3"].parameters, last)]
        given = {
            "loss": "softmax_cross_entropy",
            "batch_size": 3,
            "epochs": 4,
            "seed": np.random.default_rng(seed),
        }
        fit(network, (ragged(), LABELS), optimizer=groups, **given, **options)
        return weights(network)

    whole = train()
    stopped = train(checkpoint=tmp_path / "run", callbacks=lambda training: len(training.history) == 2)
    assert any((stopped[name] != whole[name]).any() for name in whole)
    assert_same(train(seed=3, resume=tmp_path / "run"), whole)
    with pytest.raises(ValueError, match=r"learning_rate of optimizer 1 = 0.01 instead of 0.02"):
        train(last=0.02, resume=tmp_path / "run")


# -- what it refuses

NETWORK = classifier()
OTHER = Linear(6, 2, dtype="float64", seed=0)


@pytest.mark.parametrize(
    ("optimizer", "error"),
    [
        (SGD(OTHER.parameters, 0.1), "must be over the network's own arrays.* got one over 'weight', 'bias'"),
        (SGD({"w": np.ones(2)}, 0.1), r"as Adam\(network\.parameters\) is, or some of them, got one"),
        ([SGD(NETWORK.parameters, 0.1), SGD(NETWORK.parts["3"].parameters, 0.1)], "two that share some"),
        (SGD({}, 0.1), "must be over the network's own arrays.* got one over none"),
        ([], r"optimizer must be an Optimizer or a list of some, got \[\]"),
        ("adam", "optimizer must be an Optimizer or a list of some, got 'adam'"),
    ],
)
def test_optimizers_that_are_not_the_networks_are_refused(optimizer, error):
    with pytest.raises((TypeError, ValueError), match=error):
        fit(NETWORK, (ragged(), LABELS), loss="softmax_cross_entropy", optimizer=optimizer, epochs=1)


LOSSES = {
    "a number": (lambda y, target: 1.0, "loss must return a pair, its value and its gradient, got 1.0"),
    "a triple": (lambda y, target: (1.0, y, y), "loss must return a pair"),
    "another shape": (
        lambda y, target: (1.0, y[:, :1]),
        r"a gradient of the shape of the network's output, \(8, 2\), got an array of shape \(8, 1\)",
    ),
    "no number": (lambda y, target: (y, y), "the loss must be a number, got"),
    "no gradient": (lambda y, target: (1.0, None), "got None of type NoneType"),
    "not finite": (lambda y, target: (float("nan"), y), "the loss became nan at step 1, in epoch 1"),
    "a gradient not finite": (
        lambda y, target: (1.0, y * np.nan),
        r"the gradient of .* became nan at step 1",
    ),
    "no such name": ("mse2", "loss, unless it is a function, must be one of '.*got 'mse2'"),
    "nothing": (None, "loss must be given, a name or a function, unless the network has loss"),
}


@pytest.mark.parametrize(("loss", "error"), LOSSES.values(), ids=LOSSES)
def test_losses_that_return_nonsense_are_told(loss, error):
    network = classifier()
    before = weights(network)
    with np.errstate(all="ignore"), pytest.raises((TypeError, ValueError, FloatingPointError), match=error):
        fit(network, (ragged(), LABELS), loss=loss, epochs=1)
    assert_same(weights(network), before)
    assert not dict(network.gradients)  # nor is anything left to be added to


X, WRONG = ragged(), ragged()
WRONG[3] = WRONG[3].copy()
WRONG[3][2, 1] = np.nan
DATA = {
    "a number": (
        3,
        r"data must be \(X, y\), .* or \(X, y, lengths, sample_weight\), a function that yields them, or a",
    ),
    "a single one": ((X,), r"data must be \(X, y\)"),
    "too few y": ((X, LABELS[:5]), "data's y must have something for each of the 8 in X, got 5"),
    "NaN": ((WRONG, LABELS), "data's X must be finite in float64, got NaN in sequence 3, step 2, feature 1"),
    "NaN in y": ((X, np.array([0.5, np.nan] * 4)), r"data's y must be finite, got NaN or inf at \[1\]"),
    "steps of y": ((X, [x[1:, 0] for x in X]), r"y\[0\] must have 5 steps, as X\[0\] has, got 4"),
    "y by step": ((X, [x[:, 0] for x in X]), "the network must give something for each step, as there are"),
    "labels as text": ((X, np.array(["a", "b"] * 4)), "data's y must be"),
    "features": (([x[:, :2] for x in X], LABELS), "2"),
    "lengths": ((padded(X), LABELS, [10] * 8), "lengths"),
    "weights": ((X, LABELS, None, [1, 2]), r"data's sample_weight must have shape \(8,\), got \(2,\)"),
    "no samples": (type("Data", (), {"batches": None.__init__})(), "samples"),
}


@pytest.mark.parametrize(("data", "error"), DATA.values(), ids=DATA)
def test_data_that_do_not_fit_are_told(data, error):
    network = classifier()
    before = weights(network)
    with pytest.raises((TypeError, ValueError), match=error):
        fit(network, data, loss="softmax_cross_entropy", epochs=1)
    assert_same(weights(network), before)
    if error != "2":
        with pytest.raises((TypeError, ValueError), match=error.replace("data", "validation", 1)):
            fit(network, (X, LABELS), validation=data, loss="softmax_cross_entropy", epochs=1)


def test_there_is_an_output_for_each_target():
    class Cut(Arrays):
        def forward(self, x, lengths=None):
            y, back = super().forward(x, lengths)
            return y[self.part], back

    y = [x[:, 0] for x in X]
    for make, target, part, error in [
        (tagger, y, np.s_[:, :1], r"each step, .* each, \(9, 8\), got an output of shape \(9, 1, 2\)"),
        (tagger, y, np.s_[:3], r"each step, .* each, \(9, 8\), got an output of shape \(3, 8, 2\)"),
        (classifier, LABELS, np.s_[:3], r"each sequence, .* each, \(8,\), got an output of shape \(3, 2\)"),
    ]:
        network = Cut(make=make)
        network.part = part
        with pytest.raises(ValueError, match=f"the network must give something for {error}"):
            fit(network, (X, target), loss="mean_squared_error", epochs=1)


def test_rows_have_no_lengths_and_windows_need_targets_by_step():
    rows = Linear(3, 1, seed=0)
    with pytest.raises(
        ValueError, match="data must be without lengths, as the network has no recurrent layers"
    ):
        fit(rows, (np.ones((4, 3)), np.ones(4), [1, 2, 3, 4]), loss=mean_squared_error, epochs=1)
    with pytest.raises(
        ValueError, match="bptt_steps must be None unless y has something for each step, got 2"
    ):
        fit(classifier(), (X, LABELS), loss="softmax_cross_entropy", epochs=1, bptt_steps=2)


def test_windows_are_not_of_a_direction_that_begins_at_the_end():
    both = Sequential(GRU(3, 4, bidirectional=True, seed=0), Linear(8, 1, seed=0))
    data = [np.ones((6, 3))], [np.ones((6, 1))]
    with pytest.raises(ValueError, match="bptt_steps must be None for a network with a bidirectional layer"):
        fit(both, data, loss="mean_squared_error", epochs=1, bptt_steps=2)
    fit(both, data, loss="mean_squared_error", epochs=1)


def test_a_parameter_that_was_rebound_to_another_shape_is_told():
    class Plain:
        """Arrays in a dict, which anybody may replace."""

        def __init__(self):
            self.parameters, self.gradients = {"w": np.zeros(2)}, {}

        def clear_gradients(self):
            self.gradients = {}

        def take_gradients(self):
            return self.gradients

        def loss(self, batch, state, *, training):
            if batch == 2:
                self.parameters["w"] = np.zeros(3)
            self.gradients = {"w": np.ones_like(self.parameters["w"])}
            return 1.0, 1, None

    network = Plain()
    data = Pairs(0)
    data.samples, data.batches = 3, lambda rng: iter([1, 2, 3])
    with pytest.raises(
        ValueError, match=r"parameters\['w'\] must be the array that the optimizer was made for"
    ):
        fit(network, data, optimizer=Adam(network.parameters), epochs=1)


def test_a_network_of_ones_own_must_return_what_it_should():
    class Short(Towers):
        def loss(self, batch, state, *, training):
            return super().loss(batch, state, training=training)[:2]

    with pytest.raises(TypeError, match=r"the network's loss must return \(value, count, state\), got"):
        fit(Short(0), Pairs(1), epochs=1)
    with pytest.raises(TypeError, match=r"network must have forward\(x\), which returns y and back"):
        fit(Composite(a=Linear(1, 1)), (np.ones((2, 1)), np.ones(2)), loss="huber", epochs=1)


def test_what_functions_return_that_cannot_be_used_is_told():
    network = classifier()
    before = weights(network)

    def run(**options):
        fit(network, (X, LABELS), **{"loss": "softmax_cross_entropy", "epochs": 2, **options})

    with pytest.raises(
        ValueError, match="what schedule returns must be a non-negative finite number, got nan"
    ):
        run(schedule=lambda progress: np.nan)
    with pytest.raises(
        TypeError, match="what schedule returns must be a non-negative finite number, got None"
    ):
        run(schedule=lambda progress: None)
    assert_same(weights(network), before)
    with pytest.raises(TypeError, match=r"metrics must return numbers by name, got 0\.5"):
        run(metrics=lambda network: 0.5)
    with pytest.raises(ValueError, match="metrics must return names of their own, got 'steps'"):
        run(metrics=lambda network: {"steps": 3.0})
    with pytest.raises(TypeError, match="data must come from a function that yields parts, got None"):
        fit(network, lambda: None, loss="softmax_cross_entropy", epochs=1)
    assert_same(weights(network), before)  # of the epoch that did not end

    class Half(Composite):
        def forward(self, x, lengths=None):
            return self.parts["head"].forward(self.parts["chain"](x, lengths))[: self.returned]

    half = Half(chain=classifier(), head=Linear(2, 2, dtype="float64", seed=0))
    options = {"loss": "softmax_cross_entropy", "optimizer": Adam(half.parts["head"].parameters), "epochs": 1}
    half.returned = 1
    with pytest.raises(TypeError, match="the network's forward must return y and back, got"):
        fit(half, (X, LABELS), **options)
    half.returned = 2
    fit(half, (X, LABELS), **options)
    with pytest.raises(TypeError, match="network must be one that can be called, to validate, got Half"):
        fit(half, (X, LABELS), validation=(X, LABELS), **options)


def test_a_truth_of_numpy_stops_a_training_too():
    network = classifier()
    training = fit(
        network,
        (X, LABELS),
        loss="softmax_cross_entropy",
        epochs=5,
        callbacks=lambda training: np.float64(training.history[-1]["train_loss"]) < 100,
    )
    assert len(training.history) == 1
