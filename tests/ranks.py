"""A program for test_parallel_mpi.py to run under mpiexec: ``ranks.py CASE FOLDER``."""

import json
import os
import signal
import sys
import warnings
from pathlib import Path

import numpy as np
from mpi4py import MPI

RANK, SIZE = MPI.COMM_WORLD.rank, MPI.COMM_WORLD.size
LAST = RANK == SIZE - 1 and SIZE > 1  # the one that does what the others do not
CASE, FOLDER = sys.argv[1], Path(sys.argv[2])
if CASE == "other" and LAST:
    os.environ["FASTRNN_ISA"] = "baseline"

import fastrnn  # noqa: E402
from fastrnn.data import Shards  # noqa: E402
from fastrnn.layers import Composite  # noqa: E402
from fastrnn.losses import mean_squared_error  # noqa: E402
from fastrnn.models import Forecaster, SequenceClassifier, SequenceTagger, TextGenerator  # noqa: E402
from fastrnn.optim import SGD, Adam  # noqa: E402
from fastrnn.parallel import data_parallel, ranks  # noqa: E402
from fastrnn.training import fit  # noqa: E402

PIECES = 4
ranks.PATIENCE = 0.5 if CASE == "raise" else 60.0  # a machine may be busy


def data(count=45):
    """Sequences of different lengths, and of which of two kinds each is."""
    rng = np.random.default_rng(3)
    X = [rng.normal(size=(rng.integers(5, 25), 3)).astype("float32") for _ in range(count)]
    return X, np.array([int(x.mean() > 0) for x in X])


X, Y = data()


def network(hidden=8, seed=0, dropout=0.3, features=3):
    lstm = fastrnn.LSTM(features, hidden, num_layers=2, dropout=dropout, seed=seed)
    return fastrnn.Sequential(lstm, fastrnn.Last(), fastrnn.Linear(hidden, 2, seed=seed))


def train(net=None, given=(X[:37], Y[:37]), **options):
    net = network() if net is None else net
    usual = {"loss": "softmax_cross_entropy", "validation": (X[37:], Y[37:]), "epochs": 2, "seed": 1}
    return fit(net, given, **{**usual, **options})


def weights(found):
    net = getattr(found, "network_", None) or found.network
    return {name: array.copy() for name, array in net.parameters.items()}


# -- what trains, each with its weights and its history, which must not depend on the number of ranks


def whole_training():
    return train(accumulate=2, clip_norm=0.1, schedule="warmup", patience=2)


def frozen_parts():
    net = network()
    trained = [Adam(net.parts["0"].parameters, 0.01), SGD(net.parts["2"].parameters, 0.01)]
    usual = {"metrics": lambda _: {"rank": RANK}, "monitor": "rank"}  # which does not get better
    return train(net, optimizer=trained, epochs=5, patience=1, **usual)


def doubles():
    net = fastrnn.Sequential(
        fastrnn.GRU(3, 5, dtype="float64", seed=0), fastrnn.Linear(5, 1, dtype="float64", seed=0)
    )
    return train(net, ([x for x in X], [x[:, :1] for x in X]), loss="huber", validation=None, bptt_steps=7)


def few_rows():
    return train(given=(X[:6], Y[:6]), batch_size=5)  # a batch of one row, of which three pieces have none


def uninterrupted(**options):
    return train(epochs=4, **options)


class Own(Composite):
    """A network with a loss of its own, and with arrays of two dtypes."""

    def __init__(self):
        gru, head = fastrnn.GRU(3, 5, seed=0), fastrnn.Linear(5, 1, dtype="float64", seed=0)
        super().__init__(gru=gru, head=head)

    def loss(self, batch, state, *, training):
        x, lengths = batch.x.padded()
        hidden, _, back = self.gru.forward(x, lengths=lengths)
        y, head_back = self.head.forward(hidden[-1].astype("float64"))
        value, dy = mean_squared_error(y, batch.y[:, None].astype("float64"))
        if training:
            dhidden = np.zeros_like(hidden)
            dhidden[-1] = head_back(dy)
            back(dhidden)
        return value, len(batch), None


def own_network():
    return train(Own(), loss=None)


def weighted():
    return train(given=(X, Y, None, np.linspace(0, 1, len(X))))


def stopped():
    return train(epochs=None, max_seconds=0.1, schedule="constant")


def told_to_stop():
    return train(epochs=50, callbacks=lambda training: RANK == SIZE - 1 and len(training.history) == 2)


def classifier():
    array = np.lib.format.open_memmap(FOLDER / "X.npy", mode="r")
    options = {"hidden_size": 8, "epochs": 2, "dropout": 0.2, "seed": 0, "class_weight": "balanced"}
    model = SequenceClassifier(**options).fit(array, Y, checkpoint=FOLDER / f"model{SIZE}")
    model.set_params(epochs=3).fit(array, Y, checkpoint=FOLDER / f"model{SIZE}", resume="auto")
    return model.partial_fit(array, Y)


def tagger():
    options = {"hidden_size": 6, "bptt_steps": 6, "bidirectional": False, "epochs": 2, "seed": 0}
    return SequenceTagger(**options).fit(X, [np.arange(len(x)) % 2 for x in X])


def text():
    model = TextGenerator(hidden_size=12, epochs=2, batch_size=6, bptt_steps=20, seed=0)
    return model.fit("the cat sat on the mat. " * 40)


def forecaster():
    options = {"hidden_size": 6, "epochs": 2, "horizon": 4, "context": 16, "batch_size": 16, "seed": 0}
    return Forecaster(**options).fit(np.sin(np.arange(120) * 0.3))


def in_shards():
    opened = []

    def shard(place):
        def parts():
            opened.append(place)
            if place != 2:  # which is empty
                yield X[place * 9 : place * 11 + 5], Y[place * 9 : place * 11 + 5]

        return parts

    found = train(given=Shards([shard(place) for place in range(4)]), batch_size=12)
    each = 4 // SIZE
    assert {*opened} == {*range(RANK * each, (RANK + 1) * each)}
    return found


OF_NETWORKS = [
    whole_training,
    frozen_parts,
    doubles,
    few_rows,
    weighted,
    uninterrupted,
    told_to_stop,
    in_shards,
]
OF_MODELS = [classifier, tagger, text, forecaster]


def same(comm, name, arrays, records):
    """Whether all ranks have come to the same."""
    mine = [name, {key: array.tobytes() for key, array in arrays.items()}, records]
    return all(each == mine for each in comm.allgather(mine))


def run_trainings():
    arrays = {}
    for training in OF_NETWORKS + OF_MODELS:
        with data_parallel(pieces=PIECES) as comm:
            found = training()
            records = getattr(found, "history_", None) or found.history
            assert same(comm, training.__name__, weights(found), records), training
            arrays.update({f"{training.__name__}.{name}": array for name, array in weights(found).items()})
            told = [
                [r["train_loss"], r.get("validation_loss", 0), r["clipped"], r["samples"]] for r in records
            ]
            arrays[f"{training.__name__}.history"] = np.array(told)
    with data_parallel() as comm:
        found = stopped()
        assert same(comm, "stopped", weights(found), found.history)
    if RANK == 0:
        np.savez(FOLDER / f"trainings{SIZE}.npz", **arrays)


def run_alone():
    """One rank beside no rank."""
    recording = ([np.concatenate(X)], [np.concatenate(X)[:, :1]])

    def rows():
        return weights(train(network(dropout=0.0), clip_norm=0.1))

    def windows(given=recording):
        net = fastrnn.Sequential(fastrnn.GRU(3, 5, seed=0), fastrnn.Linear(5, 1, seed=0))
        options = {"validation": None, "bptt_steps": 20, "batch_size": 1, "schedule": "constant"}
        return weights(train(net, given, loss="huber", **options))

    found = {"rows alone": rows(), "windows alone": windows()}
    with data_parallel(pieces=1):
        found |= {"rows one piece": rows(), "windows one piece": windows(Shards([recording]))}
    with data_parallel(pieces=4):
        found["rows four pieces"] = rows()
    np.savez(
        FOLDER / "alone.npz", **{f"{case}/{n}": a for case, each in found.items() for n, a in each.items()}
    )


class Pairs:
    """Data whose batches cannot be cut into pieces."""

    samples = None

    def batches(self, rng):
        yield X[:4], Y[:4]


def run_differences():
    def parts():
        for _ in range(2 - LAST):
            yield X, Y

    def more_pieces():
        return train(given=Shards([(X, Y)] * 2), validation=Shards([(X, Y)] * 4), batch_size=12)

    def sentence():
        return "abc " * 100 if LAST else "abd " * 100

    def raising(_):
        raise KeyError("on all")

    cases = {
        "seed": lambda: train(network(seed=int(LAST))),
        "order": lambda: train(seed=int(LAST)),
        "model": lambda: train(network(hidden=8 + LAST)),
        "width": lambda: train(
            network(features=3 - LAST), ([x[:, : 3 - LAST] for x in X], Y), validation=None
        ),
        "batch": lambda: train(batch_size=8 + LAST),
        "rows": lambda: train(given=(X[LAST:37], Y[LAST:37])),
        "numbers": lambda: train(given=([x + float(LAST) for x in X], Y)),
        "epochs": lambda: train(epochs=2 + LAST),
        "vocabulary": lambda: TextGenerator(hidden_size=8, seed=0, epochs=1).fit(sentence()),
        "batches": lambda: train(given=parts, validation=None),
        "checkpoint": lambda: train(checkpoint=FOLDER / "c" if LAST else None),
        "folder": lambda: train(checkpoint=FOLDER / "missing" / "c"),
        "callback": lambda: train(callbacks=raising),
        "diverging": lambda: train(loss=lambda y, _: (np.nan, y)),
        "part": lambda: train(given=Pairs(), validation=None),
        "pieces of shards": more_pieces,
        "batch of shards": lambda: train(given=Shards([(X, Y)] * 2), batch_size=9),
        "shards": lambda: train(given=Shards([(X, Y)] * 3), batch_size=12),
    }
    found = {}
    for name, case in cases.items():
        try:
            with data_parallel():
                case()
        except Exception as error:
            found[name] = f"{type(error).__name__}: {error}"
    try:
        with data_parallel(pieces=2 + 2 * LAST):
            pass
    except ValueError as error:
        found["pieces"] = str(error)
    everyone = MPI.COMM_WORLD.allgather(found)
    if RANK == 0:
        (FOLDER / "differences.json").write_text(json.dumps(everyone))


def run_other():
    if LAST:
        fastrnn.__version__ = "0.0.9"
    with warnings.catch_warnings(record=True) as told, data_parallel() as comm:
        warnings.simplefilter("always")
        found = train()
        assert same(comm, "other", weights(found), found.history)
    everyone = MPI.COMM_WORLD.allgather([str(each.message) for each in told])
    threads = MPI.COMM_WORLD.allgather(fastrnn.get_num_threads())
    with data_parallel():
        within = MPI.COMM_WORLD.allgather(fastrnn.get_num_threads())
    after = MPI.COMM_WORLD.allgather(fastrnn.get_num_threads())
    if RANK == 0:
        (FOLDER / "other.json").write_text(json.dumps([everyone, threads, within, after]))


def run_raise():
    with data_parallel():
        train(callbacks=lambda _: 1 / 0 if LAST else None)


def run_kill():
    def killed(training):
        if LAST and len(training.history) == 2 and not (FOLDER / "resumed").exists():
            os.kill(os.getpid(), signal.SIGKILL)

    checkpoint = FOLDER / "run" if RANK == 0 else FOLDER / "not here"
    with data_parallel(pieces=PIECES):
        found = uninterrupted(checkpoint=checkpoint, resume="auto", callbacks=killed)
    if RANK == 0:
        np.savez(FOLDER / f"resumed{SIZE}.npz", **weights(found))


{
    "trainings": run_trainings,
    "alone": run_alone,
    "differences": run_differences,
    "other": run_other,
    "raise": run_raise,
    "kill": run_kill,
}[CASE]()
