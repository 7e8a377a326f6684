"""What the cluster itself runs: its StorageClass and CoreDNS, and when they are ready."""

from __future__ import annotations

import calendar
import hashlib
import socket
import string
import struct
import time
from collections.abc import Callable
from pathlib import Path

from tools.cluster.api import Api, Manifest
from tools.cluster.errors import ApiError, NotReady
from tools.cluster.settings import Settings
from tools.cluster.storage import PROVISIONER, STORAGE_CLASS

COREDNS_IMAGE = "localhost/tenantplane-coredns"

MANIFESTS = Path(__file__).with_name("manifests") / "system.yaml"

ELSEWHERE_OFFLINE = "template ANY ANY . {\n            rcode NXDOMAIN\n        }"
"""Offline every outside name is refused at once: there is nobody to ask."""

ELSEWHERE_EGRESS = "forward . /etc/resolv.conf\n        cache 30"


Check = Callable[[], bool]


def manifests(settings: Settings, coredns_image: str, egress: bool) -> str:
    """The YAML of the system's objects for this cluster."""
    elsewhere = ELSEWHERE_EGRESS if egress else ELSEWHERE_OFFLINE
    return string.Template(MANIFESTS.read_text()).substitute(
        storage_class=STORAGE_CLASS,
        provisioner=PROVISIONER,
        coredns_image=coredns_image,
        dns_ip=settings.dns_ip,
        elsewhere=elsewhere,
        elsewhere_hash=hashlib.sha256(elsewhere.encode()).hexdigest()[:12],
    )


def wait_until(what: str, seconds: float, ready: Check) -> None:
    """Look again until it is so; ``NotReady`` names what never came."""
    deadline = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > deadline:
            raise NotReady(f"{what} not ready after {seconds:.0f} s")
        time.sleep(0.1)


def node_ready(api: Api, settings: Settings, since: float) -> bool:
    """Ready, and the kubelet said so after ``since`` (not the one before it)."""
    try:
        node = api.get(f"/api/v1/nodes/{settings.node_name}")
    except ApiError:
        return False
    conditions = {one["type"]: one for one in node["status"].get("conditions") or []}
    ready = conditions.get("Ready")
    return ready is not None and ready["status"] == "True" and _reported_after(ready, since)


def dns_answers(settings: Settings) -> bool:
    """Ask through the Service: route, kube-proxy, bridge, pod and API server all work then."""
    question = _query("kubernetes.default.svc.cluster.local")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(0.3)
        try:
            sock.sendto(question, (settings.dns_ip, 53))
            answer = sock.recv(512)
        except OSError:
            return False
    return answer[:2] == question[:2] and socket.inet_aton(settings.api_service_ip) in answer


def _reported_after(condition: Manifest, since: float) -> bool:
    reported = time.strptime(condition["lastHeartbeatTime"], "%Y-%m-%dT%H:%M:%SZ")
    return calendar.timegm(reported) >= int(since)


def _query(name: str) -> bytes:
    """A DNS question for an A record (RFC 1035 §4)."""
    header = struct.pack(">HHHHHH", 0x7470, 0x0100, 1, 0, 0, 0)
    labels = b"".join(bytes([len(part)]) + part.encode() for part in name.split("."))
    return header + labels + b"\0" + struct.pack(">HH", 1, 1)
