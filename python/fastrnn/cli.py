"""The command line: `fastrnn train`, `generate`, `demo`, `examples` and `info`."""

from __future__ import annotations

import argparse
import importlib.util
import os
import signal
import sys
import tempfile
from collections.abc import Sequence

import fastrnn
from fastrnn import demo, examples
from fastrnn.models.networks import CELLS
from fastrnn.models.text import TextGenerator
from fastrnn.training import SCHEDULES

PARAMETERS = {  # of TextGenerator, as options: their type and what help says
    "cell": (str, f"the recurrent cell: {', '.join(CELLS)}"),
    "hidden_size": (int, "units in a layer"),
    "num_layers": (int, "recurrent layers"),
    "dropout": (float, "part of each layer's outputs dropped in training"),
    "epochs": (int, "passes over the text at most"),
    "batch_size": (int, "parallel streams of text"),
    "bptt_steps": (int, "characters that gradients flow back through"),
    "learning_rate": (float, "Adam's, at its highest"),
    "schedule": (str, f"how the learning rate changes: {', '.join(SCHEDULES)}"),
    "clip_norm": (float, "greatest norm of the gradients"),
    "validation_fraction": (float, "part at the end of the text that chooses the best weights"),
    "patience": (int, "stop after so many epochs without a better score in validation"),
    "max_seconds": (float, "stop after so many seconds"),
    "level": (str, "what a text is made of: character, word or byte"),
    "max_vocabulary": (int, "words to know, the most frequent"),
    "dtype": (str, "float32 or float64"),
    "seed": (int, "makes the run repeatable"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Parameters
    ----------
    arguments : sequence of str, optional
        The words after the program's name; by default those that the program was started with.

    Returns
    -------
    int
        The exit code: not 0 after an error, of which standard error gets one line.
    """
    options = _parser().parse_args(arguments)
    try:
        options.command(options)
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the flush at exit
        return 128 + signal.SIGPIPE
    except KeyboardInterrupt:
        print("fastrnn: interrupted", file=sys.stderr)
        return 128 + signal.SIGINT
    except (OSError, ValueError, ArithmeticError, ImportError, MemoryError) as error:
        print(f"fastrnn: error: {error or type(error).__name__}", file=sys.stderr)
        return 1
    return 0


def _train(options: argparse.Namespace) -> None:
    text = "".join(_read(path) for path in options.files)
    _require_writable(options.output)
    chosen = {name: getattr(options, name) for name in PARAMETERS if hasattr(options, name)}
    model = TextGenerator(**chosen, verbose=importlib.util.find_spec("tqdm") is not None)
    print(f"{len(text):,} characters, {len(set(text))} different ones", flush=True)

    def epoch_ended(current: TextGenerator) -> None:
        print(demo.epoch_line(current), flush=True)
        if current.best_epoch_ in (None, len(current.history_)):
            current.save(options.output)

    try:
        model.fit(text, checkpoint=options.checkpoint, resume=options.resume, on_epoch=epoch_ended)
    finally:
        if hasattr(model, "history_"):  # trained to the end, or interrupted with something to keep
            model.save(options.output)
            print(f"{_described(model)} in {options.output}", flush=True)


def _generate(options: argparse.Namespace) -> None:
    model = TextGenerator.load(options.model)
    prompt = options.prompt
    if prompt is None:
        characters = getattr(model.vocabulary_, "characters", "\n")
        prompt = "\n" if "\n" in characters else characters[0]
    written = model.stream(prompt, options.n, options.temperature, options.top_k, options.top_p, options.seed)
    print(prompt, end="", flush=True)
    for character in written:
        print(character, end="", flush=True)
    print(flush=True)


def _demo(options: argparse.Namespace) -> None:
    demo.run(options.output)


def _examples(options: argparse.Namespace) -> None:
    if options.name is None:
        width = max(map(len, examples.NAMES))
        for name in examples.NAMES:
            print(f"{name:<{width}}  {examples.summary(name)}")
    else:
        examples.run(options.name, options.output, quick=options.quick)


def _info(options: argparse.Namespace) -> None:
    fastrnn.show_config()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="fastrnn", description=fastrnn.__doc__)
    parser.add_argument("--version", action="version", version=f"fastrnn {fastrnn.__version__}")
    commands = parser.add_subparsers(metavar="command", required=True)

    train = commands.add_parser("train", help="train a text generator on text files")
    train.set_defaults(command=_train)
    train.add_argument("files", nargs="+", metavar="FILE", help="UTF-8 text; several are read as one")
    train.add_argument("-o", "--output", required=True, metavar="MODEL", help="the model file to write")
    train.add_argument("--checkpoint", metavar="FILE", help="written after every epoch, to go on from")
    train.add_argument("--resume", metavar="FILE", help="go on from such a file, as if never stopped")
    defaults = TextGenerator().get_params()
    for name, (kind, text) in PARAMETERS.items():
        option = f"--{name.replace('_', '-')}"
        metavar = {int: "N", float: "X", str: "NAME"}[kind]
        usual = "" if defaults[name] is None else f" (default: {defaults[name]})"
        train.add_argument(option, type=kind, metavar=metavar, help=text + usual, default=argparse.SUPPRESS)

    generate = commands.add_parser("generate", help="write text with a trained model")
    generate.set_defaults(command=_generate)
    add = generate.add_argument
    add("model", metavar="MODEL", help="a file that `fastrnn train` wrote")
    add("--prompt", metavar="TEXT", help="what to go on from (default: a new line)")
    add("-n", type=int, default=500, metavar="N", help="characters to write (default: %(default)s)")
    add("--temperature", type=float, default=1.0, metavar="X", help="lower is tamer (default: %(default)s)")
    add("--top-k", type=int, metavar="N", help="choose among the N likeliest characters")
    add("--top-p", type=float, metavar="X", help="choose among the likeliest that make up probability X")
    add("--seed", type=int, metavar="N", help="makes the text repeatable")

    show = commands.add_parser("demo", help="train on the prose in Python's documentation, in two minutes")
    show.set_defaults(command=_demo)
    where = "directory for the model and its learning curve (default: %(default)s)"
    show.add_argument("-o", "--output", default="fastrnn-demo", metavar="DIR", help=where)

    example = commands.add_parser("examples", help="list the examples on real data, or run one of them")
    example.set_defaults(command=_examples)
    add = example.add_argument
    add("name", nargs="?", choices=examples.NAMES, metavar="NAME", help="the one to run (default: list them)")
    where = "directory for its figure (default: %(default)s)"
    add("-o", "--output", default="fastrnn-examples", metavar="DIR", help=where)
    add("--quick", action="store_true", help="do the least that shows that it works")

    info = commands.add_parser("info", help="show the version and what the kernels run on")
    info.set_defaults(command=_info)
    return parser


def _described(model: TextGenerator) -> str:
    if model.best_epoch_ is None:
        return f"the weights, {len(model.history_)} epochs old and not validated, are"
    bits = model.best_bits_per_character_
    return f"the weights of epoch {model.best_epoch_}, {bits:.3f} bits per character in validation, are"


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8-sig") as file:
            return file.read()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path!r} is not UTF-8 text: {error.reason} at byte {error.start}") from None


def _require_writable(path: str) -> None:
    """Find out before the training, not after it, that its result cannot be written."""
    if os.path.isdir(path):
        raise IsADirectoryError(f"{path!r} is a directory")
    with tempfile.TemporaryFile(dir=os.path.dirname(os.path.abspath(path))):
        pass
