"""The directive `commands`: what each command of a parser is for, its examples and options, as help says."""

import argparse
import re
from collections.abc import Iterator
from importlib import import_module

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective


def listed(parser: argparse.ArgumentParser) -> nodes.option_list:
    """Arguments and options with their help."""
    formatter = parser._get_formatter()
    items = nodes.option_list()
    for action in parser._actions[1:]:  # but --help
        names = formatter._format_action_invocation(action)
        group = nodes.option_group("", nodes.option("", nodes.option_string(names, names)))
        words = nodes.paragraph("", "", *marked(formatter._expand_help(action)))
        items += nodes.option_list_item("", group, nodes.description("", words))
    return items


def marked(text: str) -> Iterator[nodes.Node]:
    """What stands in backticks is literal."""
    for k, part in enumerate(re.split("`(.+?)`", text)):
        yield nodes.literal(part, part) if k % 2 else nodes.Text(part)


class Commands(SphinxDirective):
    """`.. commands:: module.function` of a function that returns a parser with subparsers."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        module, _, function = self.arguments[0].rpartition(".")
        parser = getattr(import_module(module), function)()
        (commands,) = parser._subparsers._group_actions
        return list(self.sections(commands.choices))

    def sections(self, parsers: dict[str, argparse.ArgumentParser]) -> Iterator[nodes.Node]:
        for parser in parsers.values():
            section = nodes.section(ids=[nodes.make_id(parser.prog)], names=[parser.prog])
            section += nodes.title("", parser.prog)
            section += nodes.paragraph("", parser.description)
            examples = "\n".join(f"$ {line.strip()}" for line in (parser.epilog or "").splitlines()[1:])
            section += nodes.literal_block(examples, examples, language="console")
            section += listed(parser)
            yield section


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("commands", Commands)
    return {"parallel_read_safe": True}
