"""Marks for tests of what can be read and written, from which the tables in docs/howto come.

``pytest.param(..., marks=works("from_keras", "GRU", "reset_after=False"))``: the table of that page gets a
row, or one more remark in the row of that name. ``pytest --tables -m case`` writes the tables from the tests
that pass: a page, if all test files that have marks of it are in the run.
"""

from collections import defaultdict
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent / "docs" / "howto" / "_tables"

#: What a page's table says of what works.
PAGES = {
    "from_torch": "read",
    "from_onnx": "read",
    "from_keras": "read",
    "to_torch": "written",
    "to_onnx": "written",
    "to_keras": "written",
}

COLLECTED = pytest.StashKey[list]()  # of the run: its tests
PASSED = pytest.StashKey[bool]()  # of a test


def works(page, what, remark=""):
    """A test that shows that something is represented."""
    return _case(page, what, remark, True)


def refused(page, what, remark=""):
    """A test that shows that something is refused by its name."""
    return _case(page, what, remark, False)


def _case(page, what, remark, works):
    assert page in PAGES, page
    return pytest.mark.case(page=page, what=what, remark=remark, works=works)


def table(page, items):
    """A page's table, of the marks of tests."""
    remarks = defaultdict(dict)  # a dict for each row: its keys, in order
    for item in items:
        for case in (mark.kwargs for mark in reversed(list(item.iter_markers("case")))):
            if case["page"] == page:
                remarks[case["what"]].setdefault(case["works"], {})[case["remark"]] = None
    lines = ["| What | | Remarks |", "|---|---|---|"]
    for what, rows in remarks.items():
        for works in sorted(rows, reverse=True):
            told = "; ".join(filter(None, rows[works]))
            lines.append(f"| {_cell(what)} | {PAGES[page] if works else '**refused**'} | {_cell(told)} |")
    return "\n".join(lines) + "\n"


def _cell(text):
    return text.replace("|", r"\|").replace("\n", " ")


def write(items):
    """Write the tables of some tests."""
    for page in PAGES:
        if not missing(page, items):
            (FOLDER / f"{page}.md").write_text(table(page, [item for item in items if PASSED in item.stash]))


def missing(page, items):
    """The test files with marks of a page that are not among those of some tests."""
    named = {path for path in Path(__file__).parent.glob("test_*.py") if _has_marks(path.read_text(), page)}
    return sorted(path.name for path in named - {item.path for item in items})


def _has_marks(source, page):
    return "from tables import" in source and f'"{page}"' in source
