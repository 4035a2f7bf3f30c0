"""The race to a loss: who takes turns, who is out, and what is said of it."""

from __future__ import annotations

import itertools

import pytest

from engine.events import EpochDone, RunEnded
from engine.time_to_loss import FAMILIES, INPUTS, Entry, Family, _run, _standing, race
from tests.engine import small

STEEP = Family("steep", "backprop", {}, (1.0, 2.0))
FLAT = Family("flat", "exact", {}, (1.0, 2.0))


def silent(what, done, total):
    pass


def entry(family, tau, losses, seconds=1.0, ends="finished"):
    """A contender that takes ``seconds`` an epoch and has these losses, from epoch 0 on."""

    def events():
        for epoch, loss in enumerate(losses):
            metrics = {"epoch": epoch, "train_loss": loss, "time/train": epoch * seconds}
            yield EpochDone(epoch, epoch, metrics)
        yield RunEnded(len(losses), len(losses), ends, "")

    return Entry(family, "unit", tau, events())


def test_every_family_has_a_grid_of_the_same_size():
    assert len({len(family.taus) for family in FAMILIES}) == 1


def test_the_one_with_the_fewest_seconds_goes_next():
    order = []

    def epochs(name, seconds):
        for epoch in itertools.count(1):
            order.append(name)
            metrics = {"train_loss": 1.0 if epoch < 4 else 0.0, "time/train": epoch * seconds}
            yield EpochDone(epoch, epoch, metrics)

    slow = Entry(STEEP, "unit", 1.0, epochs("slow", 3.0))
    fast = Entry(FLAT, "unit", 1.0, epochs("fast", 1.0))
    _run([slow, fast], 0.5, 10.0, silent)
    assert order == ["slow", "fast", "fast", "fast", "slow", "fast", "slow", "slow"]
    assert (slow.outcome, slow.seconds, slow.epochs) == ("reached", 12.0, 4)
    assert (fast.outcome, fast.seconds) == ("reached", 4.0)


def test_out_of_the_race_by_patience_by_a_sibling_by_divergence_and_by_epochs():
    hopeless = entry(STEEP, 1.0, [2.0] * 100)
    broken = entry(STEEP, 2.0, [2.0, 2.0], ends="diverged")
    winner = entry(FLAT, 1.0, [2.0, 1.0, 0.4])
    sibling = entry(FLAT, 2.0, [2.0] * 100)
    _run([hopeless, broken, winner, sibling], 0.5, 3.0, silent)
    assert hopeless.outcome == "slower"
    assert hopeless.seconds == 6.0  # three times the winner's
    assert broken.outcome == "diverged"
    assert sibling.outcome == "slower"
    assert sibling.seconds == 2.0
    tired = entry(FLAT, 1.0, [2.0, 1.5, 1.0])
    _run([tired], 0.5, 3.0, silent)
    assert tired.outcome == "epochs"


def test_a_family_is_as_fast_as_its_fastest_and_else_a_lower_bound():
    reached = _standing(
        [
            Entry(FLAT, "unit", 1.0, iter(()), 9.0, 9, 0.4, "reached"),
            Entry(FLAT, "unit", 2.0, iter(()), 7.0, 7, 0.5, "reached"),
        ]
    )
    assert (reached.tau, reached.seconds, reached.reached) == (2.0, 7.0, True)
    bound = _standing(
        [
            Entry(FLAT, "unit", 1.0, iter(()), 1.0, 1, float("nan"), "diverged"),
            Entry(FLAT, "unit", 2.0, iter(()), 9.0, 9, 1.5, "slower"),
        ]
    )
    assert (bound.tau, bound.seconds, bound.reached) == (2.0, 9.0, False)
    assert bound.outcomes == ("diverged", "slower")


@pytest.mark.parametrize("kind", INPUTS)
def test_real_contenders_reach_what_they_say(kind):
    def build(method, overrides):
        dotted = {key.replace(".", "__"): value for key, value in overrides.items()}
        return small.config(method, **dotted)

    standings = race(
        build,
        target=1.0,
        inputs=[kind],
        families=[Family(f.name, f.method, f.settings, f.taus[-1:]) for f in FAMILIES],
        max_epochs=30,
        patience=1e9,
        data_dir=small.cache_dir(),
        device=small.CPU,
        progress=silent,
    )
    assert [standing.family for standing in standings] == [family.name for family in FAMILIES]
    for standing in standings:
        assert standing.inputs == kind
        assert standing.reached == (standing.loss <= 1.0)
        assert standing.seconds > 0
        assert 0 < standing.epochs <= 30
    by_name = {standing.family: standing for standing in standings}
    assert by_name["exact Nesterov"].reached


def test_a_loss_that_is_there_at_once_is_reached_at_once():
    there = entry(FLAT, 1.0, [0.4, 9.0])
    _run([there], 0.5, 3.0, silent)
    assert (there.outcome, there.seconds, there.epochs, there.loss) == ("reached", 0.0, 0, 0.4)


def test_what_diverged_bounds_nothing():
    bound = _standing(
        [
            Entry(FLAT, "unit", 1.0, iter(()), 1.0, 1, 0.9, "diverged"),
            Entry(FLAT, "unit", 2.0, iter(()), 9.0, 9, 1.5, "slower"),
        ]
    )
    assert bound.seconds == 9.0
