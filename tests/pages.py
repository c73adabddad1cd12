"""Runs the code on a Markdown page as its reader would: block after block, in one namespace.

A block of Python that is followed at once by a block of text has printed it; `...` stands for anything.
A block that starts with `>>>` is a doctest. In a block of console, commands of fastrnn are run.
"""

import contextlib
import doctest
import io
import re
import shlex

from fastrnn import cli

FENCE = re.compile(r"^```(python|text|console)\n(.*?)^```\n", re.MULTILINE | re.DOTALL)
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def blocks(path):
    """(language, line number, source, whether it follows the one before at once) for each block."""
    page, end = path.read_text(), 0
    for found in FENCE.finditer(page):
        language, source = found.groups()
        line = page.count("\n", 0, found.start(2)) + 1
        yield language, line, source, not page[end : found.start()].strip()
        end = found.end()


def run(path, names=None):
    """Run a page's blocks in `names`, which gets what they define; return what they print."""
    names = {} if names is None else names
    names["__name__"] = "__main__"
    everything, printed = [], ""
    for language, line, source, at_once in blocks(path):
        where = f"{path}, line {line}"
        if language == "text":
            assert not at_once or expected(source, printed), f"{where}: printed was\n{printed}"
            continue
        with contextlib.redirect_stdout(io.StringIO()) as output:
            if language == "console":
                run_commands(source)
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


def run_commands(source):
    for command in re.findall(r"^\$ fastrnn (.*)", source, re.MULTILINE):
        assert cli.main(shlex.split(command, comments=True)) == 0, command
