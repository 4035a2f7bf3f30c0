"""``proxprop presets list`` and ``show``."""

from __future__ import annotations

from typing import Annotated

import typer

from proxprop_cli.commands import options as opt
from proxprop_cli.output import Output

app = typer.Typer(help="Experiments to start from.", no_args_is_help=True, rich_markup_mode=None)


@app.command("list")
def list_presets(as_json: opt.JsonOption = False) -> None:
    """List the experiments that come with the program."""
    from proxprop_cli.presets import describe, names

    described = {name: describe(name) for name in names()}
    output = Output(as_json=as_json)
    output.document(
        {"presets": [{"name": name, "description": text} for name, text in described.items()]}
    )
    output.table(["name", "description"], [[name, text] for name, text in described.items()])


@app.command("show")
def show_preset(
    preset: Annotated[str, typer.Argument(metavar="NAME|FILE.yaml")],
    method: opt.MethodOption = None,
    set_: opt.SetOption = None,
    as_json: opt.JsonOption = False,
) -> None:
    """Show the whole configuration that a preset gives, defaults included, as YAML."""
    from engine.config import dump
    from proxprop_cli.advice import Given, advise

    config = opt.build_config(preset, set_, method, {})
    output = Output(as_json=as_json)
    keys = opt.keys_of(set_, {})
    # a preset's own method has its step size from it: no need to read that once more
    other = method is not None or "method.name" in keys
    advise([Given(preset, config, keys)], output, step_sizes=other)
    output.document(config.model_dump(mode="json"))
    if not as_json:
        for line in dump(config).splitlines():
            output.line(line)
