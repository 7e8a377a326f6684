"""What one schedule does: which kills, at which gap of a call, and how long each lasts. Pure.

A seed says all of it. Twenty seeds in a row hold each kind of kill at each gap exactly once.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Final

# The gaps of DESIGN §5: between which two steps of a call something dies.
GAPS: Final = (
    "before_hold",
    "hold_to_intent",
    "intent_to_call",
    "call_to_outcome",
    "outcome_to_settle",
    "after_settle",
)
KINDS: Final = (
    "plane",  # SIGKILL of the replica that stands in the gap
    "valkey",  # SIGKILL, restarted with its data
    "valkey_emptied",  # SIGKILL, restarted without
    "postgres",  # SIGKILL of the postmaster, restarted
    "valkey_cut",  # connections are reset, new ones too
    "postgres_cut",
    "valkey_stalled",  # nothing passes for a time, and all of it later
    "postgres_stalled",
    "valkey_unheard",  # requests arrive, answers never
    "postgres_unheard",
)
KILLS_A_SCHEDULE: Final = 3
SEEDS_A_ROUND: Final = len(GAPS) * len(KINDS) // KILLS_A_SCHEDULE


@dataclass(frozen=True, slots=True)
class Kill:
    """One kill. `passes`: at the so-manieth call that comes to the gap at this replica.

    `waits`: the call that stands in the gap goes on when all is repaired, else at once.
    `overlaps`: the next kill does not wait until this one is repaired.
    """

    kind: str
    gap: str
    replica: int
    passes: int
    lasts_seconds: float
    waits: bool
    overlaps: bool

    def __str__(self) -> str:
        manner = "waits" if self.waits else "goes on"
        return f"{self.kind} at {self.gap} of replica {self.replica} ({manner})"


@dataclass(frozen=True, slots=True)
class Schedule:
    seed: int
    kills: tuple[Kill, ...]


def schedule(seed: int) -> Schedule:
    """The schedule of a seed, from 1."""
    turn, place = divmod(seed - 1, SEEDS_A_ROUND)
    pairs = [(kind, gap) for kind in KINDS for gap in GAPS]
    random.Random(turn).shuffle(pairs)
    first = place * KILLS_A_SCHEDULE
    dice = random.Random(f"kills {seed}")
    return Schedule(
        seed, tuple(_kill(pair, dice) for pair in pairs[first : first + KILLS_A_SCHEDULE])
    )


def _kill(pair: tuple[str, str], dice: random.Random) -> Kill:
    return Kill(
        *pair,
        replica=dice.randrange(2),
        passes=dice.randint(1, 6),
        lasts_seconds=round(dice.uniform(0.02, 0.5), 3),
        waits=dice.random() < 0.5,
        overlaps=dice.random() < 0.3,
    )
