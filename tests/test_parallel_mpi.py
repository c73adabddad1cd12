"""Trainings on 1, 2 and 4 ranks of MPI, by the program ranks.py: one result, errors on all, and no hang."""

import argparse
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fastrnn
from fastrnn import cli
from fastrnn.data import Shards
from fastrnn.models import TextGenerator
from fastrnn.training import fit

PACKAGE = Path(fastrnn.__file__).parent
BESIDE = Path(sys.executable).parent / "mpiexec"
MPIEXEC = str(BESIDE) if BESIDE.exists() else shutil.which("mpiexec")
MISSING = importlib.util.find_spec("mpi4py") is None or MPIEXEC is None
needs_mpi = pytest.mark.skipif(MISSING, reason="needs mpi4py and mpiexec: the extra mpi, and PyPI's mpich")

ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": os.pathsep.join(filter(None, [str(PACKAGE.parent), os.environ.get("PYTHONPATH")])),
    "OMPI_ALLOW_RUN_AS_ROOT": "1",  # of Open MPI, in a container
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",  # more ranks than cores
}


def mpiexec(size, *words):
    """Run Python on so many ranks."""
    command = [MPIEXEC, "-n", str(size), sys.executable, *map(str, words)]
    return subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=600)


def ranks(size, case, folder):
    return mpiexec(size, "-m", "mpi4py", Path(__file__).parent / "ranks.py", case, folder)


def succeeded(found):
    assert found.returncode == 0, found.stdout + found.stderr
    return found


@pytest.fixture(scope="module")
def trainings(tmp_path_factory):
    """The results of all trainings of ranks.py, by the number of ranks."""
    folder = tmp_path_factory.mktemp("ranks")
    np.save(folder / "X.npy", np.random.default_rng(0).normal(size=(45, 12, 3)).astype("float32"))
    for size in (1, 2, 4):
        succeeded(ranks(size, "trainings", folder))
    return {size: dict(np.load(folder / f"trainings{size}.npz")) for size in (1, 2, 4)}


@needs_mpi
@pytest.mark.parametrize("size", [2, 4])
def test_ranks_give_the_bits_of_one(trainings, size):
    one, several = trainings[1], trainings[size]
    assert len(one) > 50
    assert one.keys() == several.keys()
    different = [name for name, array in one.items() if not np.array_equal(array, several[name])]
    assert not different
    assert len(one["told_to_stop.history"]) == len(one["frozen_parts.history"]) == 2


@needs_mpi
def test_one_piece_gives_the_bits_of_no_ranks_and_more_other_sums(tmp_path):
    succeeded(ranks(1, "alone", tmp_path))
    found = np.load(tmp_path / "alone.npz")
    for case in ("rows", "windows"):
        names = [name.partition("/")[2] for name in found if name.startswith(f"{case} alone/")]
        assert names
        for name in names:
            assert np.array_equal(found[f"{case} alone/{name}"], found[f"{case} one piece/{name}"])
            if case == "rows":
                several = found[f"rows four pieces/{name}"]
                assert np.allclose(found[f"rows alone/{name}"], several, rtol=0, atol=1e-5)


@needs_mpi
def test_what_differs_is_an_error_on_every_rank(tmp_path):
    succeeded(ranks(2, "differences", tmp_path))
    one, other = json.loads((tmp_path / "differences.json").read_text())
    assert one == other
    words = {
        "seed": "state of the random numbers, which one seed makes the same, is",
        "order": "state of the random numbers, which one seed makes the same, is",
        "model": "parameter 0.weight_hh_l0 is (32, 8) on rank 0, (36, 9) on rank 1",
        "width": "width of data is [3] on rank 0, [2] on rank 1",
        "batch": "batch_size of data is 8 on rank 0, 9 on rank 1",
        "rows": "samples of data is 37 on rank 0, 36 on rank 1",
        "numbers": "first batch (checksum) of data is",
        "epochs": "epochs is 2 on rank 0, 3 on rank 1",
        "vocabulary": "vocabulary is ' abd' on rank 0, ' abc' on rank 1",
        "batches": "as many batches on all ranks, but batch is 3 on rank 0, the end on rank 1",
        "checkpoint": "comparison of arguments on rank 0, require_writable on rank 1",
        "folder": "FileNotFoundError",
        "callback": "KeyError: 'on all'",
        "diverging": "FloatingPointError",
        "part": "TypeError: a batch must have part(place, pieces) for data_parallel",
        "pieces of shards": "pieces must be as many as there are shards, 4, got 2",
        "batch of shards": "batch_size must be a multiple of the 2 shards, got 9",
        "shards": "pieces must be 1, 2, 4, 8 … for each of 2 ranks, in all 2, 4 …, got 3",
        "pieces": "pieces is 2 on rank 0, 4 on rank 1",
    }
    assert words.keys() == one.keys()
    for name, expected in words.items():
        assert expected in one[name]


@needs_mpi
def test_other_versions_are_said_once_and_threads_are_shared(tmp_path):
    if len(fastrnn.config._core.config()["isas"]) < 2:
        pytest.skip("needs kernels for two instruction sets")
    succeeded(ranks(2, "other", tmp_path))
    told, before, within, after = json.loads((tmp_path / "other.json").read_text())
    assert [len(each) for each in told] == [1, 0]
    assert f"fastrnn is {fastrnn.__version__!r} on rank 0, '0.0.9' on rank 1" in told[0][0]
    assert ", 'baseline' on rank 1" in told[0][0]
    assert after == before
    assert all(count <= max(1, most) for count, most in zip(within, before, strict=True))
    if "OMP_NUM_THREADS" not in os.environ:
        assert sum(within) <= max(2, os.cpu_count())


@needs_mpi
def test_an_error_on_one_rank_ends_all_with_its_traceback(tmp_path):
    found = ranks(2, "raise", tmp_path)
    assert found.returncode != 0
    assert "rank 1 of 2 has failed, and ends all of them" in found.stderr
    assert "ZeroDivisionError" in found.stderr


@needs_mpi
def test_a_killed_training_goes_on_with_any_number_of_ranks(trainings, tmp_path):
    found = ranks(2, "kill", tmp_path)
    assert found.returncode != 0
    assert (tmp_path / "run").exists()
    assert not (tmp_path / "not here").exists()
    (tmp_path / "resumed").touch()
    kept = (tmp_path / "run").read_bytes()
    for size in (1, 4):
        (tmp_path / "run").write_bytes(kept)
        succeeded(ranks(size, "kill", tmp_path))
        found = np.load(tmp_path / f"resumed{size}.npz")
        assert len(found) == 10
        assert all(np.array_equal(trainings[1][f"uninterrupted.{name}"], found[name]) for name in found)


@needs_mpi
def test_the_command_line_speaks_and_writes_on_one_rank(tmp_path):
    (tmp_path / "text").write_text("the cat sat on the mat. " * 100)
    options = "--hidden-size 8 --epochs 2 --batch-size 4 --bptt-steps 16".split()
    words = ["-m", "fastrnn", "train", tmp_path / "text", "-o", tmp_path / "model", *options]
    found = succeeded(mpiexec(2, *words))
    lines = found.stdout.splitlines()
    assert [line[:9] for line in lines] == ["2,400 cha", "epoch   1", "epoch   2", "the weigh"]
    model = TextGenerator.load(tmp_path / "model")
    assert isinstance(model.seed, int)  # which rank 0 has drawn for all
    assert len(model.history_) == 2


def test_standard_input_is_of_one_rank_alone():
    with pytest.raises(ValueError, match="FILE must be a file for several ranks"):
        cli._train_here(argparse.Namespace(files=["-"], checkpoint=None, resume=None), several=True)


def test_shards_are_checked():
    network = fastrnn.Sequential(fastrnn.GRU(3, 4, seed=0), fastrnn.Last())
    rows = np.zeros((8, 5, 3), "float32"), np.zeros((8, 4), "float32")
    options = {"loss": "mean_squared_error", "epochs": 1}
    with pytest.raises(TypeError, match="go with data_parallel"):
        fit(network, Shards([rows, rows]), **options)
    with pytest.raises(ValueError, match="batch_size must be a multiple of the 3 shards, got 32"):
        Shards([rows] * 3).share_of(32)
    with pytest.raises(TypeError, match="shards must be a list of data, got 3 of type int"):
        Shards(3)
    with pytest.raises(ValueError, match="at least one"):
        Shards([])
    with pytest.raises(TypeError, match="not to be iterated"):
        next(Shards([rows]).batches(None))


def test_without_mpi4py_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    with pytest.raises(ImportError, match=r"fastrnn\[mpi\]"), fastrnn.parallel.data_parallel():
        pass
