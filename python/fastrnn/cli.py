"""The command line: what follows `fastrnn`, from `train` to `info`."""

from __future__ import annotations

import argparse
import difflib
import io
import itertools
import os
import secrets
import signal
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import fastrnn
from fastrnn import checkpoint, conversion, demo, diagnostics, embed, examples, models, parallel
from fastrnn.checks import Array
from fastrnn.layers import CELLS
from fastrnn.layers.compression import WEIGHTS
from fastrnn.models.text import TextGenerator
from fastrnn.optim import OPTIMIZERS
from fastrnn.training import SCHEDULES

PARAMETERS = {  # of TextGenerator, as options: their type and what help says
    "cell": (str, f"the recurrent cell: {', '.join(CELLS)}"),
    "hidden_size": (int, "units in a layer"),
    "num_layers": (int, "recurrent layers"),
    "dropout": (float, "part of each layer's outputs dropped in training"),
    "initial": (str, "recurrent weights at the start: orthogonal or, with the cell rnn, identity"),
    "forget_bias": (float, "bias at the start of the gates that keep the state"),
    "epochs": (int, "passes over the text at most"),
    "batch_size": (int, "parallel streams of text"),
    "bptt_steps": (int, "characters that gradients flow back through"),
    "optimizer": (str, f"what learns: {', '.join(OPTIMIZERS)}"),
    "learning_rate": (float, "the optimizer's, at its highest"),
    "weight_decay": (float, "what weights lose in a step, times the learning rate"),
    "schedule": (str, f"how the learning rate changes: {', '.join(SCHEDULES)}"),
    "clip_norm": (float, "greatest norm of the gradients"),
    "validation_fraction": (float, "part at the end of the text that chooses the best weights"),
    "patience": (int, "stop after so many epochs without a better score in validation"),
    "max_steps": (int, "stop after so many steps of the optimizer"),
    "max_seconds": (float, "stop after so many seconds"),
    "level": (str, "what a text is made of: character, word or byte"),
    "max_vocabulary": (int, "words to know, the most frequent"),
    "embedding_size": (int, "learn a vector of so many numbers for each character or word"),
    "dtype": (str, "float32 or float64"),
    "seed": (int, "makes the run repeatable"),
}

QUESTIONS: dict[str, dict[str, Any]] = {  # options of the readers and writers of models
    "order": {
        "nargs": "+",
        "metavar": "NAME",
        "help": "modules of a PyTorch file as they follow each other, and layers, as Last or 'ELU(0.5)'",
    },
    "batch_first": {
        "action": argparse.BooleanOptionalAction,
        "help": "whether a model of PyTorch takes the batch first",
    },
    "nonlinearity": {"metavar": "NAME", "help": "of an RNN of PyTorch: tanh or relu"},
    "embedding": {
        "action": argparse.BooleanOptionalAction,
        "help": "whether the first in the order is an Embedding, and no Linear",
    },
    "ignore": {
        "nargs": "+",
        "metavar": "NAME",
        "help": "tensors and modules of a PyTorch file that have no part in what is computed",
    },
    "output": {"metavar": "NAME", "help": "the output of an ONNX model that is meant, if it has several"},
    "architecture": {"metavar": "FILE", "help": "of weights of Keras: what `model.to_json()` gives"},
    "version": {"type": int, "metavar": "N", "help": "of the Keras that a model was made with: 2 or 3"},
    "reset_after": {"action": argparse.BooleanOptionalAction, "help": "of a GRU of Keras"},
    "activation": {"metavar": "NAME", "help": "of the recurrent layers of Keras: usually tanh"},
    "recurrent_activation": {"metavar": "NAME", "help": "of their gates: usually sigmoid"},
    "lengths": {"action": "store_true", "help": "let an ONNX model take the lengths of sequences"},
    "states": {"action": "store_true", "help": "let it take and give states"},
    "tokens": {"action": "store_true", "help": "let it take tokens where the first layer is recurrent"},
    "weights": {
        "choices": WEIGHTS,
        "help": "compress the weights, for inference: a model stays whole, in a file of fastrnn's",
    },
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
    words = list(sys.argv[1:] if arguments is None else arguments)
    options = _options([*words[1:], "--help"] if words[:1] in ([], ["help"]) else words)
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors in ("strict", "surrogateescape"):
        sys.stdout.reconfigure(errors="replace")  # a character that it has not must not end a text
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            options.command(options)
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the flush at exit
        return 128 + signal.SIGPIPE
    except KeyboardInterrupt:
        print("fastrnn: interrupted", file=sys.stderr)
        return 128 + signal.SIGINT
    except Exception as error:  # of many kinds, since files may hold anything
        print(f"fastrnn: error: {_in_a_line(error)}", file=sys.stderr)
        return 1
    return 0


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    """What was asked for; a slip ends the program with the usage of the command it is in."""
    options, unknown = _parser().parse_known_args(arguments)
    if unknown:
        slip = unknown[0].partition("=")[0]
        known = difflib.get_close_matches(slip, options.parser._option_string_actions, 1)
        meant = f"; did you mean {known[0]}?" if known else ""
        options.parser.error(f"unrecognized arguments: {' '.join(unknown)}{meant}")
    return options


def _in_a_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        words = error.strerror if error.filename is None else f"{error.strerror}: {error.filename!r}"
    elif isinstance(error, (OSError, ValueError, TypeError, ArithmeticError, ImportError, MemoryError)):
        words = str(error) or type(error).__name__
    else:
        words = f"{type(error).__name__}: {error}"
    return " ".join(words.splitlines())


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    if parallel.leads():
        print(f"fastrnn: warning: {message}", file=sys.stderr)


def _train(options: argparse.Namespace) -> None:
    with parallel.launched() as comm:
        _train_here(options, several=comm is not None and comm.size > 1)


def _train_here(options: argparse.Namespace, *, several: bool) -> None:
    """Train, be it as one of several ranks, of which the first speaks and writes."""
    files = [("FILE", path) for path in options.files]
    if several and "-" in options.files:
        raise ValueError("FILE must be a file for several ranks, got '-': the first alone has standard input")
    beside = [("--checkpoint", options.checkpoint), ("--resume", options.resume)]
    parallel.on_first(_require_output, "-o", options.output, [*files, *beside])
    parallel.on_first(_require_output, "--checkpoint", options.checkpoint, files)
    resume = options.resume
    model = TextGenerator() if resume is None else parallel.on_first(TextGenerator.load, resume)
    chosen = {name: getattr(options, name) for name in PARAMETERS if hasattr(options, name)}
    model = TextGenerator(**{**model.get_params(), **chosen, "verbose": True})
    if several and model.seed is None:
        model.seed = parallel.on_first(secrets.randbits, 31)  # which all have then
    parts = [_read(path, model.level) for path in options.files]
    text = type(parts[0])().join(parts)
    units = "characters" if isinstance(text, str) else "bytes"
    _say(f"{len(text):,} {units}, {len(set(text))} different ones")
    replaceable = os.path.isfile(options.output) or not os.path.exists(options.output)

    def epoch_ended(current: TextGenerator) -> None:
        if replaceable and current.best_epoch_ in (None, len(current.history_)):
            parallel.on_first(current.save, options.output)

    try:
        model.fit(text, checkpoint=options.checkpoint, resume=resume, callbacks=epoch_ended)
    finally:
        if hasattr(model, "history_") and parallel.leads():  # trained to the end, or something to keep
            model.save(options.output)
            _say(f"{_described(model)} in {options.output}")


def _say(words: str) -> None:
    """A line of progress."""
    if parallel.leads():
        print(words, flush=True)


def _generate(options: argparse.Namespace) -> None:
    model = TextGenerator.load(options.model)
    prompt: Any = options.prompt
    if prompt is None:
        known = model.vocabulary_.symbols
        prompt = known[0] if model.level == "character" and "\n" not in known else "\n"
    end: Any = "\n"
    out: Any = sys.stdout
    if model.level == "byte":  # as they are, UTF-8 or not
        prompt, end, out = os.fsencode(prompt), b"\n", sys.stdout.buffer
    written = model.stream(prompt, options.n, options.temperature, options.top_k, options.top_p, options.seed)
    for part in itertools.chain([prompt], written, [end]):
        out.write(part)
        out.flush()


def _diagnose(options: argparse.Namespace) -> None:
    _require_output("-o", options.output, [("MODEL", options.model), ("DATA", options.data)])
    try:
        model = _load(options.model)
    except ValueError as error:
        raise ValueError(f"{error}; did you swap the arguments? MODEL comes first, then DATA") from None
    if isinstance(model, TextGenerator):
        found = diagnostics.diagnose_model(model, _read(options.data, model.level))
    else:
        data, named = _arrays(options.data)
        found = diagnostics.diagnose_model(model, *data, **named)
    print(found, flush=True)
    if options.output is not None:
        found.plot(options.output)


def _demo(options: argparse.Namespace) -> None:
    demo.run(options.output)


def _examples(options: argparse.Namespace) -> None:
    if options.name is None:
        width = max(map(len, examples.NAMES))
        for name in examples.NAMES:
            print(f"{name:<{width}}  {examples.summary(name)}")
    else:
        examples.run(options.name, options.output, quick=options.quick)


def _convert(options: argparse.Namespace) -> None:
    _require_output("OUT", options.target, [("IN", options.source)])
    given = {name: getattr(options, name) for name in QUESTIONS if hasattr(options, name)}
    conversion.convert(options.source, options.target, given)


def _export(options: argparse.Namespace) -> None:
    _require_output("-o", options.output, [("MODEL", options.model)])
    given = {
        name: getattr(options, name) for name in ("name", "dtype", "weights", "tokens") if name in options
    }
    try:
        network = fastrnn.load(options.model)
    except ValueError as error:
        if any(f"{name} must be given" in str(error) for name in QUESTIONS):
            raise ValueError(
                f"{error}. `fastrnn convert` has options for that: give MODEL to it first"
            ) from None
        raise
    embed.export_c(network, options.output, **given)
    print(f"{options.output} and {os.path.splitext(options.output)[0]}.h")


def _info(options: argparse.Namespace) -> None:
    if options.model is None:
        fastrnn.show_config()
        return
    conversion.tell(options.model)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fastrnn",
        description=f"{fastrnn.__doc__}\n\nThis is its command line; from Python: import fastrnn.",
        epilog="`fastrnn COMMAND --help` says more of a command, with examples.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"fastrnn {fastrnn.__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def command(run: Callable[[argparse.Namespace], None], what: str, *shown: str) -> Callable[..., Any]:
        """Add a command, with examples; its name is that of the function that runs it."""
        found = commands.add_parser(
            name := run.__name__[1:],
            help=what,
            description=f"{what[0].upper()}{what[1:]}.",
            epilog="\n".join(("examples:", *(f"  fastrnn {name}{example}" for example in shown))),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        found.set_defaults(command=run, parser=found)
        return found.add_argument

    add = command(
        _train,
        "train a text generator on text files",
        " book.txt -o model.safetensors",
        " *.txt -o model.safetensors --hidden-size 512 --max-seconds 600",
        " book.txt -o model.safetensors --checkpoint run",
        " book.txt -o model.safetensors --resume run --epochs 40",
    )
    what = "text, in UTF-8 unless `--level byte` is given, or `-` for standard input; several are read as one"
    add("files", nargs="+", metavar="FILE", help=what)
    add("-o", "--output", required=True, metavar="MODEL", help="the model file to write")
    add("--checkpoint", metavar="FILE", help="written after every epoch, to go on from")
    what = "go on from such a file, as if never stopped; its options hold unless others are given"
    add("--resume", metavar="FILE", help=what)
    defaults = TextGenerator().get_params()
    for name, (kind, text) in PARAMETERS.items():
        option = f"--{name.replace('_', '-')}"
        metavar = {int: "N", float: "X", str: "NAME"}[kind]
        usual = "" if defaults[name] is None else f" (default: {defaults[name]})"
        add(option, type=kind, metavar=metavar, help=text + usual, default=argparse.SUPPRESS)

    add = command(
        _generate,
        "write text with a trained model",
        " model.safetensors",
        ' model.safetensors --prompt "The " -n 2000 --temperature 0.7',
    )
    add("model", metavar="MODEL", help="a file that `fastrnn train` wrote")
    add("--prompt", metavar="TEXT", help="what to go on from (default: a new line)")
    add("-n", type=int, default=500, metavar="N", help="characters to write (default: %(default)s)")
    add("--temperature", type=float, default=1.0, metavar="X", help="lower is tamer (default: %(default)s)")
    add("--top-k", type=int, metavar="N", help="choose among the N likeliest characters")
    add("--top-p", type=float, metavar="X", help="choose among the likeliest that make up probability X")
    add("--seed", type=int, metavar="N", help="makes the text repeatable")

    add = command(
        _diagnose,
        "see how far back in time a model's gradients reach",
        " model.safetensors book.txt",
        " forecaster.safetensors series.csv -o diagnosis.png",
    )
    add("model", metavar="MODEL", help="a file that a model's save, or `fastrnn train`, wrote")
    what = "text, or `-` for standard input; or .npz with what the model's fit takes by name, such as X, y, "
    what += "lengths; or .npy or .csv with what it takes first, such as a Forecaster's y"
    add("data", metavar="DATA", help=what)
    add("-o", "--output", metavar="FIGURE", help="the figure to write, such as diagnosis.png (default: none)")

    add = command(_demo, "train on the prose in Python's documentation, in two minutes", "", " -o results")
    where = "directory for the model and its learning curve (default: %(default)s)"
    add("-o", "--output", default="fastrnn-demo", metavar="DIR", help=where)

    add = command(
        _examples, "list the examples on real data, or run one of them", "", " load", " vowels -o results"
    )
    add("name", nargs="?", choices=examples.NAMES, metavar="NAME", help="the one to run (default: list them)")
    where = "directory for its figure (default: %(default)s)"
    add("-o", "--output", default="fastrnn-examples", metavar="DIR", help=where)
    add("--quick", action="store_true", help="do the least that shows that it works")

    add = command(
        _convert,
        "make one model file of another: of fastrnn, PyTorch, ONNX or Keras",
        " model.onnx model.safetensors",
        " model.keras model.onnx --states",
        " w.pt model.onnx --order embedding lstm Last fc --batch-first",
        " model.safetensors small.safetensors --weights int8",
    )
    add("source", metavar="IN", help="a file of any of these, whatever its name is")
    kinds = ", ".join(conversion.WRITERS)
    add("target", metavar="OUT", help=f"the file to write, of the kind that its name ends in: {kinds}")
    for name, how in QUESTIONS.items():
        add(f"--{name.replace('_', '-')}", **how, default=argparse.SUPPRESS)

    add = command(
        _export,
        "write a network as one C file, with the same bits",
        " model.safetensors -o model.c",
        " model.onnx -o filter.c --name filter --weights int8",
        " text.safetensors -o text.c --tokens",
    )
    add("model", metavar="MODEL", help="a file that fastrnn.load reads: of fastrnn, PyTorch, ONNX or Keras")
    add(
        "-o", "--output", required=True, metavar="FILE.c", help="the file to write; the header goes beside it"
    )
    what = "what all names in C begin with (default: model)"
    add("--name", metavar="NAME", help=what, default=argparse.SUPPRESS)
    what = "what C computes in (default: as the network does)"
    add("--dtype", choices=("float32", "float64"), help=what, default=argparse.SUPPRESS)
    what = "what C has weights as (default: as the network has them)"
    add("--weights", choices=("float32", "float64", *WEIGHTS), help=what, default=argparse.SUPPRESS)
    add("--tokens", action="store_true", help="let a first layer that is recurrent take tokens")

    shown = ("", " model.safetensors", " model.onnx")
    add = command(_info, "show what a file holds, or what the kernels run on", *shown)
    what = "a file of fastrnn, PyTorch, ONNX, Keras or NumPy: its layers and weights, or why it is no network"
    what += " (default: show the versions, the kernels and the threads)"
    add("model", nargs="?", metavar="FILE", help=what)
    return parser


def _described(model: TextGenerator) -> str:
    if model.best_epoch_ is None:
        return f"the weights, {len(model.history_)} epochs old and not validated, are"
    bits = model.best_bits_per_character_
    return f"the weights of epoch {model.best_epoch_}, {bits:.3f} bits per character in validation, are"


def _read(path: str, level: str | None = None) -> Any:
    """The text in a file, or with ``-`` that of standard input; at the level of bytes, these as they are."""
    with open(0 if path == "-" else path, "rb", closefd=path != "-") as file:
        data = file.read()
    if level == "byte":
        return data
    try:
        return io.StringIO(data.decode("utf-8-sig"), newline=None).read()
    except UnicodeDecodeError as error:
        where, hint = f"{error.reason} at byte {error.start}", "; a model of --level byte takes any"
        raise ValueError(f"{path!r} is not UTF-8 text: {where}{hint if level else ''}") from None


def _load(path: str) -> Any:
    """The model in a file, whichever it is."""
    _, metadata = checkpoint.load(path)
    name = metadata.get("model")
    if name not in models.__all__:
        raise ValueError(f"{path!r} holds no model that fastrnn knows, but {name!r}")
    return getattr(models, name).load(path)


def _arrays(path: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arrays in a file: one without a name, or some by the names of arguments of `fit`."""
    ending = os.path.splitext(path)[1].lower()
    if ending not in (".npz", ".npy", ".csv"):
        raise ValueError(f"{path!r} must be .npz, .npy or .csv for this model")
    text = _read(path) if ending == ".csv" else ""
    with open(path, "rb") as file:
        try:
            found = _table(text) if ending == ".csv" else np.load(file)
            return ((found,), {}) if isinstance(found, np.ndarray) else ((), dict(found))
        except Exception as error:  # of many kinds: of NumPy, of the zip file, of what it is packed with
            reason = f"{error}" or type(error).__name__
            raise ValueError(f"{path!r} is not a readable {ending} file: {reason}") from None


def _table(text: str) -> Array:
    """The numbers of a CSV file, whose first line may be words."""
    try:
        list(map(float, text.partition("\n")[0].split(",")))
        header = 0
    except ValueError:
        header = 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that there are no rows
        table = np.loadtxt(io.StringIO(text), float, delimiter=",", skiprows=header, ndmin=2)
    if not table.size:
        raise ValueError("it has no numbers")
    return table


def _require_output(option: str, path: str | None, others: Sequence[tuple[str, str | None]]) -> None:
    """Refuse, before any work, a file to write that cannot be written, or that is one of the others."""
    if path is None:
        return
    if path == "-":
        raise ValueError(f"{option} must be a file, got '-': standard output has the messages")
    for what, other in others:
        if other is not None and _same_file(path, other):
            raise ValueError(f"{option} must be another file than {what} {other!r}, got {path!r}")
    checkpoint.require_writable(path)


def _same_file(path: str, other: str) -> bool:
    """Whether two paths lead to one file, or will; devices can be used for several things at once."""
    other = "/dev/stdin" if other == "-" else other
    if os.path.exists(path) and os.path.exists(other):
        return os.path.isfile(path) and os.path.samefile(path, other)
    return os.path.realpath(path) == os.path.realpath(other)
