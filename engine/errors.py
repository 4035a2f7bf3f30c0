"""The errors a user can cause or meet; each carries one line that says what to do."""

_SHOWN = 60


class ProxPropError(Exception):
    """Base of all errors that are reported in one line instead of a traceback."""


class ConfigError(ProxPropError):
    """A configuration, an option or an argument is wrong."""


class DataError(ProxPropError):
    """A data set is missing, damaged or not what was expected."""


class CheckpointError(ProxPropError):
    """No usable checkpoint, or one that does not fit the run."""


class BusyError(ProxPropError):
    """Another process has the run."""


class TeamError(ProxPropError):
    """Another process of a job has gone."""


class StorageError(ProxPropError):
    """The run's folder or database can not be read or written."""


class StorageFullError(StorageError):
    """There is no room; it may work later."""


def shortened(text: str) -> str:
    """What was given, as an error shows it: its beginning, where it is long."""
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."
