"""Runs the code on a Markdown page as its reader would: block after block, in one namespace.

A block of Python that is followed at once by a block of text has printed it; `...` stands for anything.
A block that starts with `>>>` is a doctest. A code-block with a caption is a file of that name, which is
written into the current folder. In a block of console, commands of fastrnn are run, and Python on a file.
"""

import contextlib
import doctest
import io
import re
import shlex
import subprocess
import sys
from pathlib import Path

from fastrnn import cli

FENCE = re.compile(
    r"^```(?:(python|text|console)|\{code-block\} \w+\n:caption: (\S+)\n)\n(.*?)^```\n",
    re.MULTILINE | re.DOTALL,
)
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def blocks(path):
    """(language or a file's name, line number, source, whether it follows the one before at once)."""
    page, end = path.read_text(), 0
    for found in FENCE.finditer(page):
        language, name, source = found.groups()
        line = page.count("\n", 0, found.start(3)) + 1
        yield language or name, line, source, not page[end : found.start()].strip()
        end = found.end()


def write_files(path, folder=Path()):
    """Write the files that a page has into a folder; return their names."""
    files = {name: source for name, _, source, _ in blocks(path) if name not in ("python", "text", "console")}
    for name, source in files.items():
        (folder / name).write_text(source)
    return set(files)


def run(path, names=None):
    """Run a page's blocks in `names`, which gets what they define; return what they print."""
    names = {} if names is None else names
    names["__name__"] = "__main__"
    files = write_files(path)
    everything, printed = [], ""
    for language, line, source, at_once in blocks(path):
        where = f"{path}, line {line}"
        if language in files:
            continue
        if language == "text":
            assert not at_once or expected(source, printed), f"{where}: printed was\n{printed}"
            continue
        with contextlib.redirect_stdout(io.StringIO()) as output:
            if language == "console":
                run_commands(source, files)
            elif source.startswith(">>>"):
                run_doctest(source, names, path, line)
            else:
                exec(compile("\n" * (line - 1) + source, path, "exec"), names)
        printed = output.getvalue()
        everything.append(printed)
    return "".join(everything)


def expected(wanted, printed):
    return doctest.OutputChecker().check_output(wanted, printed, FLAGS)


def run_doctest(source, names, path, line):
    example = doctest.DocTestParser().get_doctest(source, names, path.name, str(path), line)
    failures = io.StringIO()
    runner = doctest.DocTestRunner(optionflags=FLAGS, verbose=False)
    runner.run(example, out=failures.write, clear_globs=False)
    assert not runner.failures, failures.getvalue()
    names.update(example.globs)


def run_commands(source, files=()):
    for program, arguments in re.findall(r"^\$ (fastrnn|python) (.*)", source, re.MULTILINE):
        words = shlex.split(arguments, comments=True)
        if program == "fastrnn":
            assert cli.main(words) == 0, arguments
        elif words[0] in files:
            done = subprocess.run([sys.executable, *words], capture_output=True, text=True)
            assert done.returncode == 0, f"{arguments}\n{done.stdout}{done.stderr}"
