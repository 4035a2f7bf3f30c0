"""What all commands have that Typer's own have not."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand


class Command(TyperCommand):
    """A command whose numbers are spelled as in a preset.

    Python also takes ``1_000``, and digits of other scripts.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the options.

        :raises typer.BadParameter: a number is spelled otherwise.
        """
        texts, _, _ = self.make_parser(ctx).parse_args(args=list(args))
        rest = super().parse_args(ctx, args)
        parameter: Any
        for parameter in self.params:
            value, text = ctx.params.get(parameter.name), texts.get(parameter.name)
            if not isinstance(value, int | float) or not isinstance(text, str):
                continue
            if "_" in text or not text.isascii():
                raise typer.BadParameter(
                    f"expected a number such as 1000 or 1e3, found {text!r}", ctx, parameter
                )
        return rest


def help_of(function: Callable[..., Any]) -> str:
    """The docstring of a command, from its source where Python was told to leave them out."""
    if function.__doc__ is not None:
        return inspect.cleandoc(function.__doc__)
    return _docstrings(function.__code__.co_filename).get(function.__name__, "")


def add_help(app: typer.Typer) -> None:
    """Give every command its help where Python (``-OO``) has left the docstrings out."""
    for command in app.registered_commands:
        if command.callback is not None:
            command.help = help_of(command.callback)
    for group in app.registered_groups:
        if group.typer_instance is not None:
            add_help(group.typer_instance)


@cache
def _docstrings(file: str) -> dict[str, str]:
    tree = ast.parse(Path(file).read_text(encoding="utf-8"))
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    return {node.name: ast.get_docstring(node) or "" for node in functions}
