"""What a person should know of runs before all else, in one line: why one ended, and what next."""

from __future__ import annotations

from collections.abc import Sequence

from proxprop_cli.dashboard.views import RunView

_NO_ROOM = (
    "there is no room on the disk; training goes on by itself when there is",
    "no room on the disk; goes on by itself when there is",
    "no room on the disk",
)


def notice(views: Sequence[RunView]) -> tuple[str, ...]:
    """The same in less and less room; nothing where all is well.

    :param views: those that are shown.
    """
    if len(views) == 1:
        return _of(views[0])
    troubled = [view for view in views if view.problem]
    if not troubled:
        return ()
    more = f" (and {len(troubled) - 1} more)" if len(troubled) > 1 else ""
    return (f"{troubled[0].problem}{more}",)


def is_grave(views: Sequence[RunView]) -> bool:
    """Whether that is about something that went wrong."""
    return any(view.problem or view.status in ("diverged", "interrupted") for view in views)


def _of(view: RunView) -> tuple[str, ...]:
    if view.problem:
        return (view.problem,)
    if view.status == "diverged" and view.diverged is not None:
        step, cause = view.diverged
        return f"✖ diverged at step {step:,}: {cause}", f"✖ step {step:,}: {cause}"
    if view.short_of_room:
        return _NO_ROOM
    if view.has_trainer or view.status not in ("paused", "stopped", "failed", "interrupted"):
        return ()
    onward = f"'proxprop resume {view.id}' goes on"
    if view.status != "interrupted":
        return (onward,)
    if view.last_words and view.steps_per_epoch is None:
        told = f"did not start: {view.last_words}"
        return f"{told}; 'proxprop resume {view.id}' tries again", told
    return f"the trainer is gone; {onward}", onward
