"""What a caller of the meter says and gets: one model or tool call, its usage, its receipt."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from pydantic import JsonValue

from tenantplane.core import money
from tenantplane.core.apis.events import CallKind
from tenantplane.core.money import NanoUSD

MAX_DEADLINE_SECONDS = 3600.0
MAX_TOKENS = 1_000_000_000


def _check_money(name: str, nanousd: NanoUSD) -> None:
    # bool is an int, and a float compares like one: neither is an amount.
    if type(nanousd) is not int or not 0 <= nanousd <= money.MAX_CAP:
        raise ValueError(f"{name} must be whole nano-dollars, 0 to {money.MAX_CAP}")


def _check_count(name: str, count: int) -> None:
    if type(count) is not int or not 0 <= count <= MAX_TOKENS:
        raise ValueError(f"{name} must be a whole number, 0 to {MAX_TOKENS}")


@dataclass(slots=True)  # frozen, its fields would take thrice the time; nobody changes it
class CallRequest:
    """One call that is about to be made. `call_no` rises within a run, from 0.

    `worst_case_nanousd` is the hold: no call may cost more (0 for a free tool). Where there is less
    room, the largest amount from `least_nanousd` on is held, and the call must keep within it
    (None: all or nothing). After `deadline_seconds` the call is over for sure: what is not settled by then is settled at its
    worst case. `count_request` is True for the first call of a user's request alone; later calls
    of its run are not counted in the request window, and a soft cap does not stop them.
    """

    kind: CallKind
    resource: str
    run_id: UUID
    call_no: int
    thread_id: str | None
    worst_case_nanousd: NanoUSD
    tokens_estimate: int
    deadline_seconds: float
    price_book_version: int
    audit_request: JsonValue
    count_request: bool = True
    idempotency_key: str | None = None
    least_nanousd: NanoUSD | None = None

    def __post_init__(self) -> None:
        _check_money("worst_case_nanousd", self.worst_case_nanousd)
        if self.least_nanousd is not None:
            _check_money("least_nanousd", self.least_nanousd)
            if self.least_nanousd > self.worst_case_nanousd:
                raise ValueError("least_nanousd must not be above worst_case_nanousd")
        _check_count("tokens_estimate", self.tokens_estimate)
        if not 0 < self.deadline_seconds <= MAX_DEADLINE_SECONDS:
            raise ValueError(f"deadline_seconds must be above 0, at most {MAX_DEADLINE_SECONDS}")
        if self.call_no < 0:
            raise ValueError("call_no counts from 0")


@dataclass(frozen=True, slots=True)
class Usage:
    """What a call used. `estimated` where the provider's word is missing: a later `actual`
    corrects it. Raises ValueError for an amount that no invoice could carry (F40)."""

    input_tokens: int
    output_tokens: int
    cost_nanousd: NanoUSD
    estimated: bool = False

    def __post_init__(self) -> None:
        _check_count("input_tokens", self.input_tokens)
        _check_count("output_tokens", self.output_tokens)
        _check_money("cost_nanousd", self.cost_nanousd)


NOTHING_USED = Usage(input_tokens=0, output_tokens=0, cost_nanousd=money.ZERO)


@dataclass(frozen=True, slots=True)
class Receipt:
    """Proof that the outcome is durable: the audit record and the usage event of the call."""

    record_id: UUID
    event_id: UUID
    cost_nanousd: NanoUSD


@dataclass(frozen=True, slots=True)
class LevelSpend:
    """Money of one level in its current period, in nano-dollars; a cap of None does not limit."""

    level_kind: str
    level_id: str
    period: str
    period_id: str
    settled_nanousd: int
    held_nanousd: int
    soft_cap_nanousd: int | None
    hard_cap_nanousd: int | None
