"""The embedded server heals, keeps its password to itself, and refuses production."""

from __future__ import annotations

import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, ConnectionError
from redis.retry import Retry

from tenantplane.core.errors import ConfigurationRefused
from tenantplane.core.valkey.embedded import EmbeddedValkey

SERVE = (sys.executable, "-m", "tenantplane.core.valkey.embedded", "serve")
MakeValkey = Callable[[], EmbeddedValkey]


def test_starting_twice_uses_the_server_that_runs(make_valkey: MakeValkey) -> None:
    first = make_valkey()
    pid = (first.data_dir / "valkey.pid").read_text()
    second = EmbeddedValkey.start(first.data_dir)
    assert (first.data_dir / "valkey.pid").read_text() == pid
    second.stop()
    assert not first.answers()


def test_after_a_crash_it_starts_on_what_was_saved(make_valkey: MakeValkey) -> None:
    server = make_valkey()
    with Redis.from_url(server.url) as client:
        client.set("k", "v")
        client.save()
    server.kill()
    assert not server.answers()
    server.run()
    with Redis.from_url(server.url) as client:
        assert client.get("k") == b"v"


def test_the_password_is_asked_for_and_stands_in_no_command_line(make_valkey: MakeValkey) -> None:
    server = make_valkey()
    assert stat.S_IMODE((server.data_dir / "password").stat().st_mode) == 0o600
    pid = (server.data_dir / "valkey.pid").read_text().strip()
    assert server.password.encode() not in Path(f"/proc/{pid}/cmdline").read_bytes()
    with (
        Redis(unix_socket_path=str(server.socket), retry=Retry(NoBackoff(), 0)) as client,
        pytest.raises(AuthenticationError),
    ):
        client.ping()


def test_production_and_long_paths_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationRefused, match="demo, development and tests"):
        EmbeddedValkey.start(tmp_path, production=True)
    with pytest.raises(ConfigurationRefused, match="longer than 107 bytes"):
        EmbeddedValkey.start(tmp_path / ("x" * 100))


def test_serve_is_the_server_itself_and_ends_on_sigterm(
    tmp_path: Path, free_port: Callable[[], int]
) -> None:
    port = free_port()
    (tmp_path / "pw").write_text("serve-test\n")
    process = subprocess.Popen(
        [
            *SERVE,
            *("--data", tmp_path / "data"),
            *("--port", str(port), "--listen", "127.0.0.1"),
            *("--password-file", tmp_path / "pw"),
        ],
        stdout=subprocess.DEVNULL,
    )
    try:
        with Redis(port=port, password="serve-test") as client:
            end = time.monotonic() + 20
            while not _answers(client):
                assert time.monotonic() < end
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.wait()


def _answers(client: Redis) -> bool:
    try:
        return bool(client.ping())
    except ConnectionError:
        return False


def test_serve_says_what_is_missing(tmp_path: Path) -> None:
    done = subprocess.run(
        [*SERVE, "--data", tmp_path, "--password-file", tmp_path / "absent"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "absent: No such file" in done.stderr
