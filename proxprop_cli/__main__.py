"""Entry point: runs a command and turns errors into one line and an exit code."""

from __future__ import annotations

import io
import os
import re
import sys
from typing import Any

import typer

from engine.errors import ProxPropError
from engine.parallel.launch import launched
from proxprop_cli.exit_codes import Exit, exit_code
from proxprop_cli.output import Output

# Typer shows this class to the world only as the parent of another
_UsageError: Any = typer.BadParameter.__base__

_OF_PARSER = re.compile(r"Input should be a valid (\w+), unable to parse string as an? \w+")
"""How Typer has it."""
_LONGEST = 1000
"""Of an error: what was given may be in it, and a person is to read it."""


def main() -> None:
    """Run the command line."""
    # Arrays of a layer's size are made anew in every step; with huge pages the kernel has 500
    # times fewer of them to hand out. Read by torch when it is imported, on Linux only.
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # a terminal that has no letter for a part of a name still shows the rest
            stream.reconfigure(errors="backslashreplace")
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command; gives the exit code."""
    from proxprop_cli.app import app

    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    try:
        result = app(arguments, prog_name="proxprop", standalone_mode=False)
    except _UsageError as error:
        if error.ctx and type(error).__name__ == "NoArgsIsHelpError":
            # of a group; what it says is the help, in as many lines as that has
            for line in error.ctx.get_help().splitlines():
                Output().line(line)
            return Exit.USAGE
        text = _OF_PARSER.sub(r"expected a valid \1", error.format_message())
        where = error.ctx.command_path if error.ctx else "proxprop"
        return _fail(f"{text} (see '{where} --help')", Exit.USAGE)
    except (typer.Abort, KeyboardInterrupt):
        return _fail("interrupted", Exit.INTERRUPTED)
    except ProxPropError as error:
        if debug:
            raise
        return _fail(str(error), exit_code(error))
    except BrokenPipeError:
        # whoever read us has gone; keep the interpreter from complaining at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.ERROR
    except Exception as error:
        if debug:
            raise
        text = f"internal error: {type(error).__name__}: {error} (run with --debug to see where)"
        return _fail(text, Exit.ERROR)
    return result if isinstance(result, int) else Exit.OK


def _fail(message: str, code: Exit) -> int:
    if code == Exit.USAGE and _follows():
        return code  # rank 0 has the same options, and says the same
    line = " ".join(message.splitlines())
    if len(line) > _LONGEST:
        line = f"{line[: _LONGEST // 2]} … {line[-_LONGEST // 2 :]}"
    Output().note(f"proxprop: {line}")
    return code


def _follows() -> bool:
    try:
        return launched().rank > 0
    except ProxPropError:
        return False


if __name__ == "__main__":
    main()
