"""The readers of other systems' files, each on thousands of mutated ones.

    python tests/fuzz_readers.py torch -n 10000

The files are those in tests/recorded/<reader>, but for its folders and scripts. None may need more than four
gigabytes, more than a minute, or end in anything but a ValueError.
"""

import argparse
import signal
import sys
import tempfile
import warnings
from pathlib import Path

from mutations import survives

from fastrnn import interop

RECORDED = Path(__file__).parent / "recorded"


def torch(path):
    """All recurrent layers; what a file does not tell is answered."""
    try:
        return interop.from_torch(path, layers=True)
    except ValueError as error:
        if "must be given" not in str(error):
            raise
    return interop.from_torch(path, layers=True, batch_first=False, nonlinearity="tanh")


def keras(path):
    """The whole model; of weights alone the recurrent layers."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return interop.from_keras(path)
        except ValueError as error:
            if "architecture=" not in str(error):
                raise
        answers = {"activation": "tanh", "recurrent_activation": "sigmoid", "reset_after": True}
        return interop.from_keras(path, layers=True, **answers)


def onnx(path):
    """All recurrent layers, and the whole row."""
    interop.from_onnx(path, layers=True)
    return interop.from_onnx(path)


#: What reads a path, by the folder in tests/recorded that has its files: a line for each reader.
READERS = {"torch": torch, "keras": keras, "onnx": onnx}


def main():
    import resource  # not on Windows

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "readers", nargs="*", default=list(READERS), help=f"{', '.join(READERS)}: all if left out"
    )
    parser.add_argument("-n", type=int, default=10_000, help="mutations for each reader")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
    signal.signal(signal.SIGALRM, too_long)
    for name in options.readers:
        files = [each for each in (RECORDED / name).iterdir() if each.is_file() and each.suffix != ".py"]
        directory = Path(tempfile.mkdtemp(prefix=f"fuzz-{name}-"))
        refused = survives(READERS[name], files, options.n, directory, options.seed, another)
        signal.alarm(0)
        print(f"{name}: {options.n} mutated files, {refused} refused, the others read")


def another(done):
    """The clock starts anew for each file."""
    signal.alarm(60)


def too_long(number, frame):
    raise TimeoutError("a file took a minute")


if __name__ == "__main__":
    sys.exit(main())
