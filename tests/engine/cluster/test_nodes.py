"""Nodes of a cluster: how many runs find room on them, and those that cannot train."""

from __future__ import annotations

import pytest

from engine.cluster.places import why
from engine.cluster.shares import Share
from engine.cluster.unfit import FALSE_STARTS_ALLOWED, Unfit
from engine.errors import ConfigError

A = {"NodeID": "aa", "NodeManagerAddress": "10.0.0.1"}
B = {"NodeID": "bb", "NodeManagerAddress": "10.0.0.2"}
MENDED = {"NodeID": "cc", "NodeManagerAddress": "10.0.0.2"}


class RaisedError(Exception):
    """As Ray has it where a process could not be made."""

    actor_init_failed = True


RAISED = RaisedError(
    "The actor died because of an error raised in its creation task, "
    "\x1b[36mray::Seat.__init__()\x1b[39m (pid=71, ip=10.0.0.2, actor_id=55, repr=<Seat>)\n"
    '  File "seat.py", line 5, in __init__\n'
    "RuntimeError: expected torch 2.13.0 as on the machine that asks, found 2.11.0"
)
DIED = Exception(
    "The actor died unexpectedly before finishing this task.\n\tclass_name: Seat\n\tactor_id: 55\n"
    "\tip: 10.0.0.2\nThe actor is dead because its worker process has died. Worker exit type: X"
)
NODE_DIED = Exception(
    "The actor died unexpectedly before finishing this task.\n\tip: 10.0.0.2\n"
    "The actor died because its node has died. Node Id: bb"
)
NOWHERE = Exception("The actor died unexpectedly before finishing this task.")


def test_a_machine_on_which_no_process_can_be_made_is_left_out():
    unfit = Unfit()
    assert unfit.selector([A, B]) is None
    told = unfit.note(RAISED, [A, B])
    assert told == (
        "machine 10.0.0.2 is not used any more: no process could begin there: RuntimeError: "
        "expected torch 2.13.0 as on the machine that asks, found 2.11.0"
    )
    assert (unfit.has(A), unfit.has(B)) == (False, True)
    assert unfit.selector([A, B]) == {"ray.io/node-id": "!in(bb)"}
    unfit.refuse_if_all([A, B])
    unfit.refuse_if_all([])  # none is there now, but one may come
    with pytest.raises(ConfigError, match=r"no machine of the cluster can train: 10\.0\.0\.2: no"):
        unfit.refuse_if_all([B])
    # once it was started anew it is another
    assert not unfit.has(MENDED)
    unfit.refuse_if_all([MENDED])


def test_a_process_may_die_before_it_trains_but_not_always():
    unfit = Unfit()
    machines = [A, B]
    deaths = lambda: [unfit.note(DIED, machines) for _ in range(FALSE_STARTS_ALLOWED)]  # noqa: E731
    assert set(deaths()) == {""}
    unfit.note_start("bb", machines)  # another one trains there
    assert set(deaths()) == {""}
    unfit.note_start("aa", machines)  # which says nothing of the other machine
    assert not unfit.has(B)
    told = unfit.note(DIED, machines)
    assert told is not None
    assert "its process is gone: The actor is dead because its worker process has died." in told
    assert unfit.has(B)


def test_a_machine_that_goes_says_nothing_of_when_it_is_back():
    unfit = Unfit()
    assert {unfit.note(NODE_DIED, [A, B]) for _ in range(50)} == {""}
    assert not unfit.has(B)


@pytest.mark.parametrize(
    "error", [NOWHERE, Exception("\tip: 10.0.0.9\n"), Exception("(pid=1, ip=gpu-3, actor_id=5)")]
)
def test_a_death_on_no_known_machine_is_for_the_run_to_answer(error):
    unfit = Unfit()
    assert unfit.note(error, [A, B]) is None
    assert unfit.selector([A, B]) is None


def test_a_machine_may_have_a_name():
    named = {"NodeID": "dd", "NodeManagerAddress": "gpu-3"}
    error = RaisedError("(pid=1, ip=gpu-3, actor_id=5)\nModuleNotFoundError: No module named 'x'")
    told = Unfit().note(error, [A, named])
    assert told is not None
    assert told.startswith("machine gpu-3 is not used any more: no process could begin there: Mod")


def test_what_ray_tells_in_many_lines_is_told_in_one():
    assert why(NOWHERE) == f"its process is gone: {NOWHERE}"
    assert "\n" not in why(RAISED) + why(DIED) + why(NODE_DIED)


@pytest.mark.parametrize(
    ("share", "machine", "count"),
    [
        (Share(1), {"CPU": 8.0}, 8),
        (Share(3), {"CPU": 8.0}, 2),
        (Share(1), {}, 0),
        (Share(1, 1), {"CPU": 8.0}, 0),
        (Share(1, 0.25), {"CPU": 64.0, "GPU": 2.0}, 8),
        (Share(1, 0.1), {"CPU": 64.0, "GPU": 1.0}, 10),
        (Share(1, 0.6), {"CPU": 64.0, "GPU": 2.0}, 2),
        (Share(1, 2), {"CPU": 64.0, "GPU": 5.0}, 2),
        (Share(16, 0.5), {"CPU": 32.0, "GPU": 8.0}, 2),
    ],
)
def test_how_many_find_room(share, machine, count):
    assert share.fits(machine) == count
