"""Entry point: runs a command and turns errors into one line and an exit code."""

from __future__ import annotations

import re
import sys
from typing import Any

import typer

from engine.errors import ProxPropError
from engine.memory_errors import out_of_memory
from engine.parallel.launch import launched
from proxprop_cli import startup, streams
from proxprop_cli.descriptors import raise_limit
from proxprop_cli.exit_codes import Exit, exit_code
from proxprop_cli.output import Output

# Typer shows this class to the world only as the parent of another
_UsageError: Any = typer.BadParameter.__base__

_OF_PARSER = re.compile(r"Input should be a valid (\w+), unable to parse string as an? \w+")
"""How Typer has it."""
_LONGEST = 1000
"""Of an error: what was given may be in it, and a person is to read it."""
_TRAINS = ("train", "sweep-tau", "compare", "reproduce", "resume")
"""Commands that are not there for what they print."""


def main() -> None:
    """Run the command line."""
    raise_limit()
    startup.prepare_process()
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command; gives the exit code."""
    code = _run(arguments)
    sys.stdout.flush()
    lost = streams.output_failure()
    trains = next((one for one in arguments if not one.startswith("-")), "") in _TRAINS
    if lost is None:
        return code
    if isinstance(lost, BrokenPipeError):
        return code if trains else code or Exit.ERROR  # whoever read us has had enough
    failed = _fail(
        f"standard output: {lost.strerror}; what was to be printed is missing", Exit.STORAGE
    )
    return code if trains else failed


def _run(arguments: list[str]) -> int:
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    try:
        startup.require_working_folder()
        from proxprop_cli.app import app

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
        return Exit.ERROR
    except Exception as error:
        if debug:
            raise
        text = out_of_memory(error) or (
            f"internal error: {type(error).__name__}: {error} (run with --debug to see where)"
        )
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
