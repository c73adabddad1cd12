"""The tables in docs/howto: what they say is what the marks of tests say."""

import pytest
import tables


@pytest.mark.parametrize("page", tables.PAGES)
def test_the_tables_are_what_the_tests_say(page, request):
    items = request.config.stash[tables.COLLECTED]
    if missing := tables.missing(page, items):
        pytest.skip(f"of the marks, those of {', '.join(missing)} are not in this run")
    written = (tables.FOLDER / f"{page}.md").read_text()
    assert written == tables.table(page, items), "write it again: pytest --tables -m case"


def test_every_table_is_on_a_page():
    text = "".join(path.read_text() for path in tables.FOLDER.parent.glob("*.md"))
    assert {path.stem for path in tables.FOLDER.iterdir()} == set(tables.PAGES)
    assert all(f"```{{include}} _tables/{page}.md\n```" in text for page in tables.PAGES)


class Item:
    """A test, of which the marks count."""

    def __init__(self, *marks):
        self.marks = marks

    def iter_markers(self, name):
        return (each.mark for each in self.marks if each.name == name)


def test_a_row_has_all_its_remarks_once():
    items = [
        Item(tables.refused("from_onnx", "GRU", "Softsign | Tanh")),
        Item(
            tables.works("from_onnx", "LSTM"),
            tables.works("from_keras", "LSTM", "elsewhere"),
            pytest.mark.skip,
        ),
        Item(tables.works("from_onnx", "GRU", "layout=1")),
        Item(tables.works("from_onnx", "GRU", "clip")),
        Item(tables.works("from_onnx", "GRU", "layout=1")),
    ]
    assert tables.table("from_onnx", items).splitlines()[2:] == [
        "| GRU | read | layout=1; clip |",
        r"| GRU | **refused** | Softsign \| Tanh |",
        "| LSTM | read |  |",
    ]
