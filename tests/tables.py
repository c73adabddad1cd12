"""Marks for tests of what can be read and written, from which the tables in docs/howto come.

``pytest.param(..., marks=works("from_keras", "GRU", "reset_after=False"))``: the table of that page gets a
row, or one more remark in the row of that name.
"""

import pytest


def works(page, what, remark=""):
    """A test that shows that something is represented."""
    return pytest.mark.case(page=page, what=what, remark=remark, works=True)


def refused(page, what, remark=""):
    """A test that shows that something is refused by its name."""
    return pytest.mark.case(page=page, what=what, remark=remark, works=False)
