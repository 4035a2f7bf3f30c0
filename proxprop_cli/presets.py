"""The bundled presets by name, and presets of the user's own by file."""

from __future__ import annotations

import difflib
from importlib.resources import files
from pathlib import Path
from typing import Any

from engine import strict_yaml
from engine.errors import ConfigError
from engine.filesystems import home_expanded


def names() -> tuple[str, ...]:
    """Names of the bundled presets, sorted."""
    return tuple(sorted(path.stem for path in _folder().glob("*.yaml")))


def describe(name: str) -> str:
    """The ``description`` line of a bundled preset; empty where it has none."""
    document, _ = load(name)
    return str(document.get("description", ""))


def load(name_or_path: str) -> tuple[dict[str, Any], str]:
    """A preset's document for :func:`engine.config.resolve`, and the source named in errors.

    :param name_or_path: name of a bundled preset, or a file: whatever ends in ``.yaml`` or
        ``.yml`` or has a folder in it.
    :raises ConfigError: no such preset or file, or not the YAML that is accepted.
    """
    if name_or_path.endswith((".yaml", ".yml")) or "/" in name_or_path:
        path = home_expanded(name_or_path)
        return strict_yaml.read(path), str(path)
    if name_or_path not in names():
        raise ConfigError(_unknown(name_or_path))
    return strict_yaml.read(_folder() / f"{name_or_path}.yaml"), name_or_path


def _unknown(name: str) -> str:
    near = difflib.get_close_matches(name, names(), n=1, cutoff=0.4)
    hint = f"; did you mean '{near[0]}'?" if near else ""
    if _is_file(name):
        hint = f"; for the file write './{name}'"
    return f"unknown preset {name!r}{hint} (presets: {', '.join(names())}, or a FILE.yaml)"


def _is_file(name: str) -> bool:
    try:
        return Path(name).is_file()
    except OSError:
        return False  # a name that is too long


def _folder() -> Path:
    """Beside this module in a wheel, at the root of the repository in a checkout."""
    packaged = Path(str(files("proxprop_cli"))) / "presets"
    return packaged if packaged.is_dir() else packaged.parents[1] / "presets"
