"""AdmissionStore: one typed method per function of the Lua library (lua/)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, cast

from redis.asyncio import BlockingConnectionPool, ConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)

from tenantplane.core.errors import (
    ConfigurationRefused,
    DependencyUnavailable,
    InvalidInput,
    TenantplaneError,
)
from tenantplane.core.valkey import encoding, keys, library
from tenantplane.core.valkey.answers import (
    AdmitAnswer,
    BeginAnswer,
    ExpiredAnswer,
    InstallAnswer,
    SettleAnswer,
    SpendAnswer,
    Stale,
)
from tenantplane.core.valkey.pipeline import Pipelines
from tenantplane.core.valkey.requests import (
    WINDOW_MS,
    AdmitRequest,
    Installation,
    Level,
    Stage,
)
from tenantplane.core.valkey.settings import ValkeySettings

_log = logging.getLogger(__name__)

_BAD_ARGUMENT = "BADARG "
# How the library names the arguments of `admit` that follow from what a caller asks for. All others
# are this plane's work: its snapshot, its clock, its code.
_AMOUNTS_OF_A_REQUEST = ("hold amount ", "least amount ", "tokens ")
_FUNCTION_MISSING = "Function not found"
# Policies under which Valkey refuses writes when its memory is full, rather than forget money.
_KEEPS_EVERYTHING = "noeviction"
# Answers of a server that is there but must not be written to: a replica, or one that is full.
_REFUSED_FOR_NOW = (ReadOnlyError, OutOfMemoryError)
_EPOCH_LOST: encoding.Reply = [b"EPOCH", b""]


class AdmissionStore:
    """The fenced cache of limits and spend; Postgres is the truth.

    Business refusals are answers. Errors raised by every method: InvalidInput (a bad request, all
    fields named), DependencyUnavailable (no answer in time: whether the call took effect is
    unknown; `admit` and `settle` may be repeated with the same hold id, `begin_epoch` never). With
    the code `admission_request_refused` nothing took effect: a clock is wrong, or this plane's
    code, and the log says which argument.

    Answers: `EpochLost` → raise the epoch in Postgres, begin, install. `NotInstalled` → install
    this root, then repeat (a `settle` that is dropped here is left to the sweeper). `Stale` also
    calls `on_stale`, so that the newer snapshot is fetched whoever asked.
    """

    def __init__(
        self, settings: ValkeySettings, *, on_stale: Callable[[], None] | None = None
    ) -> None:
        self._on_stale = on_stale
        self._timeout_seconds = settings.timeout_seconds
        url = settings.url.get_secret_value()
        # redis-py repeats commands by itself unless told not to. A repeated begin_epoch could
        # land on a server that has restarted in between, and open it over stale data.
        once = Retry(NoBackoff(), 0)
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=settings.max_connections,
            timeout=settings.timeout_seconds,
            socket_timeout=settings.timeout_seconds,
            socket_connect_timeout=settings.timeout_seconds,
            retry=once,
        )
        self._redis = Redis(connection_pool=pool)
        # What every request does, once before its call and once after it: these go together.
        self.pipelines = Pipelines(
            ConnectionPool.from_url(
                url, socket_connect_timeout=settings.timeout_seconds, retry=once
            ).make_connection,
            timeout_seconds=settings.timeout_seconds,
        )
        self._library = library.load()
        self._loading = asyncio.Lock()

    async def open(self) -> None:
        """Loads the library where it is absent or differs, and checks that nothing is evicted.

        Raises ConfigurationRefused (wrong password, evicting server), DependencyUnavailable.
        """
        try:
            await self._check_policy()
            await self._load_library()
        except BaseException:
            await self.close()  # a start-up that is refused leaves no connection behind
            raise

    async def close(self) -> None:
        """Closes all connections."""
        await self.pipelines.close()
        await self._redis.aclose()
        await self._redis.connection_pool.disconnect()

    async def begin_epoch(self, epoch: int) -> BeginAnswer:
        """Opens the epoch on this server.

        Only for the process that has just raised it in Postgres, once. On DependencyUnavailable
        raise it again and begin that one: a repeat could reach a server that has restarted since.
        """
        arguments = encoding.begin_arguments(epoch)
        reply = await self._call("tp_begin_epoch", [], arguments)
        return encoding.begin_answer(reply)

    async def install(self, installation: Installation) -> InstallAnswer:
        """Puts what Postgres knows of a root under the epoch; the first one counts."""
        arguments = encoding.install_arguments(installation)
        root, epoch = installation.root_org_id, installation.epoch
        holds = (keys.of_hold(root, hold.hold_id, epoch) for hold in installation.holds)
        declared = [*keys.of_root(root, epoch), *holds]
        reply = await self._call("tp_install", declared, arguments)
        return encoding.install_answer(reply)

    async def admit(self, request: AdmitRequest) -> AdmitAnswer:
        """Places or enlarges a hold under all levels, or says what refused it."""
        argument = encoding.admit_argument(request)
        root, epoch = request.root_org_id, request.epoch
        reply = await self._shared("tp_admit", root, epoch, request.hold_id, argument)
        answer = encoding.admit_answer(reply, request.levels)
        if isinstance(answer, Stale) and self._on_stale is not None:
            self._on_stale()
        return answer

    def settle(
        self,
        root_org_id: str,
        epoch: int,
        hold_id: str,
        stage: Stage,
        nanousd: int,
        tokens: int | None = None,
    ) -> Coroutine[Any, Any, SettleAnswer]:
        """Ends the hold, or corrects an earlier stage; `tokens` corrects the sliding windows.

        `nanousd` is the whole amount of the call, not a difference. After RELEASED or ESTIMATED a
        later stage adds what is new, for two days; repeats and earlier stages change nothing.
        """
        return self._settle(root_org_id, epoch, hold_id, stage, nanousd, tokens, False)

    def release(
        self, root_org_id: str, epoch: int, hold_id: str, *, expired_only: bool = False
    ) -> Coroutine[Any, Any, SettleAnswer]:
        """Ends the hold of a call that was never made.

        The sweeper passes `expired_only`: a hold whose deadline was moved since it was listed
        stays, and the answer is AlreadySettled with stage "held".
        """
        return self._settle(root_org_id, epoch, hold_id, Stage.RELEASED, 0, 0, expired_only)

    async def _settle(
        self,
        root_org_id: str,
        epoch: int,
        hold_id: str,
        stage: Stage,
        nanousd: int,
        tokens: int | None,
        expired_only: bool,
    ) -> SettleAnswer:
        argument = encoding.settle_argument(
            root_org_id, epoch, hold_id, stage, nanousd, tokens, expired_only
        )
        reply = await self._shared("tp_settle", root_org_id, epoch, hold_id, argument)
        return encoding.settle_answer(reply)

    async def expired(self, root_org_id: str, epoch: int, limit: int = 100) -> ExpiredAnswer:
        """Open holds past their deadline on the server's clock, the oldest first."""
        arguments = encoding.expired_arguments(root_org_id, epoch, limit)
        reply = await self._call(
            "tp_expired", keys.of_root(root_org_id, epoch), arguments, read_only=True
        )
        return encoding.expired_answer(reply)

    async def spend(
        self, root_org_id: str, epoch: int, levels: Sequence[Level], window_ms: int = WINDOW_MS
    ) -> SpendAnswer:
        """Settled and held of each level's current periods (an account never used reads 0), and
        the windows and open calls of those that limit them."""
        arguments = encoding.spend_arguments(root_org_id, epoch, levels, window_ms)
        reply = await self._call(
            "tp_spend", keys.of_root(root_org_id, epoch), arguments, read_only=True
        )
        return encoding.spend_answer(reply, levels)

    async def _check_policy(self) -> None:
        memory = await self._bounded(self._redis.info("memory"))
        policy = memory.get("maxmemory_policy", _KEEPS_EVERYTHING)
        if policy != _KEEPS_EVERYTHING:
            raise ConfigurationRefused(
                f"Valkey's maxmemory-policy is {policy!r}: it may forget money that was spent.",
                hint=f"Set maxmemory-policy to {_KEEPS_EVERYTHING}.",
            )

    async def _load_library(self) -> None:
        """Loading empties the library's memory, so a server that has this version keeps it."""
        async with self._loading:  # of all the calls that found it missing, one loads it
            await self._load_where_absent()

    async def _load_where_absent(self) -> None:
        try:
            loaded = await self._bounded(self._redis.fcall_ro("tp_version", 0))
        except ResponseError as error:
            if not str(error).startswith(_FUNCTION_MISSING):
                raise _unavailable(error) from error
            loaded = b""
        if loaded != self._library.version.encode():
            await self._bounded(self._redis.function_load(self._library.source, replace=True))

    async def _shared(
        self, function: str, root_org_id: str, epoch: int, hold_id: str, argument: str
    ) -> encoding.Reply:
        """Together with what else is asked of the root in this turn of the loop; may be repeated."""
        root = keys.of_root(root_org_id, epoch)
        hold = keys.of_hold(root_org_id, hold_id, epoch)
        asked = self.pipelines.share(function, root, hold, argument)
        try:
            reply: encoding.Reply = await asked
            return reply
        except Exception:  # noqa: BLE001  (asked for again, which raises it by its name)
            return await self._answered(function, _named(asked))

    async def _call(
        self,
        function: str,
        declared: Sequence[str],
        arguments: list[str],
        *,
        read_only: bool = False,
    ) -> encoding.Reply:
        call = self._redis.fcall_ro if read_only else self._redis.fcall
        command = call(function, len(declared), *declared, *arguments)
        return await self._answered(function, self._bounded(command))

    async def _answered(self, function: str, command: Awaitable[Any]) -> encoding.Reply:
        try:
            reply = await command
        except ConfigurationRefused as refused:
            # The password was changed while we serve: callers are told to wait, operators why.
            _log.error("Valkey refuses this plane: %s", refused)
            raise _unavailable(refused) from refused
        except ResponseError as error:
            message = str(error)
            if message.startswith(_FUNCTION_MISSING):
                # FUNCTION FLUSH, or an empty server: whatever epoch it had is gone with it.
                await self._load_library()
                return _EPOCH_LOST
            if message.startswith(_BAD_ARGUMENT):
                raise _bad_argument(function, message.removeprefix(_BAD_ARGUMENT)) from None
            raise _unavailable(error) from error
        return cast(encoding.Reply, reply)

    async def _bounded(self, command: Awaitable[Any]) -> Any:
        """One bound over waiting for a connection, connecting, sending and reading."""

        async def bounded() -> Any:
            async with asyncio.timeout(self._timeout_seconds):
                return await command

        return await _named(bounded())


async def _named(command: Awaitable[Any]) -> Any:
    """The command's reply, or its error as one of ours: ConfigurationRefused where the password is
    wrong, DependencyUnavailable. What the server answers otherwise stays a ResponseError."""
    try:
        return await command
    except AuthenticationError:
        raise ConfigurationRefused(
            "Valkey refuses the password in its URL.", hint="Correct the Valkey URL's password."
        ) from None
    except _REFUSED_FOR_NOW as error:
        raise _unavailable(error) from error
    except ResponseError:
        raise
    except (RedisError, OSError, TimeoutError) as error:
        raise _unavailable(error) from error


def _bad_argument(function: str, fault: str) -> TenantplaneError:
    """The caller's error where the amount is the caller's; else ours, which operators are told."""
    if function == "tp_admit" and fault.startswith(_AMOUNTS_OF_A_REQUEST):
        return InvalidInput(
            f"The admission library refuses the request: {fault}.",
            hint="Correct the field that is named.",
        )
    _log.error("the admission library refuses %s: %s", function, fault)
    return DependencyUnavailable(
        "The limits could not be checked: a clock is wrong, or this plane has a fault.",
        hint="Nothing was counted; try again. The plane's log says what is wrong.",
        code="admission_request_refused",
        retry_after_seconds=1,
    )


def _unavailable(error: BaseException) -> DependencyUnavailable:
    return DependencyUnavailable(
        f"Valkey did not answer ({type(error).__name__}).",
        hint="Nothing is admitted without it; try again.",
        retry_after_seconds=1,
    )
