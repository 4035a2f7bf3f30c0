"""Machines of a cluster that can not train, by what Ray tells of them. No Ray is needed here."""

from __future__ import annotations

import pytest

from engine.cluster.fleet import Unfit
from engine.cluster.places import why
from engine.errors import ConfigError

A = {"NodeID": "aa", "NodeManagerAddress": "10.0.0.1"}
B = {"NodeID": "bb", "NodeManagerAddress": "10.0.0.2"}


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
NOWHERE = Exception("The actor died unexpectedly before finishing this task.")


def test_a_machine_on_which_no_process_can_be_made_is_left_out():
    unfit = Unfit()
    assert unfit.selector([A, B]) is None
    told = unfit.note(RAISED)
    assert told is not None
    assert told.startswith("machine 10.0.0.2 is not used any more: no process could begin there: ")
    assert told.endswith(
        "RuntimeError: expected torch 2.13.0 as on the machine that asks, found 2.11.0"
    )
    assert (unfit.has(A), unfit.has(B)) == (False, True)
    assert unfit.selector([A, B]) == {"ray.io/node-id": "!in(bb)"}
    unfit.refuse_if_all([A, B])
    unfit.refuse_if_all([])  # none is there now, but one may come
    with pytest.raises(
        ConfigError, match=r"no machine of the cluster can train: 10\.0\.0\.2: no pr"
    ):
        unfit.refuse_if_all([B])


def test_a_process_may_die_before_it_trains_but_not_always():
    unfit = Unfit()
    assert [unfit.note(DIED) for _ in range(4)] == [""] * 4
    unfit.clear()  # another one trains
    assert [unfit.note(DIED) for _ in range(4)] == [""] * 4
    assert not unfit.has(B)
    told = unfit.note(DIED)
    assert told is not None
    assert "its process is gone: The actor is dead because its worker process has died." in told
    assert unfit.has(B)


def test_a_death_that_was_nowhere_is_for_the_run_to_answer():
    unfit = Unfit()
    assert unfit.note(NOWHERE) is None
    assert not unfit
    assert (
        why(NOWHERE)
        == "its process is gone: The actor died unexpectedly before finishing this task."
    )
