"""What a stranger may make the control plane keep in memory before a credential is asked for."""

from __future__ import annotations

from urllib.parse import urlsplit

from tests.fixtures.controlplane import ControlPlaneProcess
from tests.integration.dataplane.gate.test_headers import answer_to


async def test_a_header_without_an_end_is_refused(control_plane: ControlPlaneProcess) -> None:
    port = urlsplit(control_plane.url).port
    assert port is not None
    answer, sent = await answer_to(
        port, b"GET /v1/plans HTTP/1.1\r\nx-long: ", b"x" * 1024 * 1024, 50
    )
    assert answer.startswith(b"HTTP/1.1 400 ") or sent < 50
    assert sent < 50
