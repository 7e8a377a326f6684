"""A cluster's name decides everything that could collide."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from itertools import pairwise

import pytest

from tools.cluster import network
from tools.cluster.settings import OCTETS, Settings, candidates, check_name, preferred

LONGEST = "a" * 24


def test_the_same_name_always_gets_the_same_settings() -> None:
    assert preferred("tenantplane") == preferred("tenantplane")


@pytest.mark.parametrize("name", ["a", "tenantplane", "ci-7", LONGEST])
def test_names_that_serve(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize("name", ["", "A", "7up", "-a", "a-", "a_b", "a" * 25, "../x", "a b", "ä"])
def test_names_that_are_refused_with_what_to_use(name: str) -> None:
    with pytest.raises(ValueError, match="use 1 to 24 of"):
        check_name(name)


@pytest.mark.parametrize("name", ["a", "tenantplane", LONGEST])
def test_kernel_limits_hold(name: str) -> None:
    settings = preferred(name)
    for interface in (settings.bridge, settings.host_wire, settings.node_wire):
        assert len(interface) <= 15
    # What containerd and the kubelet put below our folders, at its longest.
    for socket in (
        f"{settings.containerd_socket}.ttrpc",
        f"{settings.kubelet_root}/pod-resources/kubelet.sock",
        f"{settings.kubelet_root}/device-plugins/kubelet.sock",
    ):
        assert len(socket) < 108


def test_parts_of_a_range_lie_within_it_and_apart() -> None:
    settings = preferred("tenantplane")
    whole = ipaddress.IPv4Network(settings.cluster_cidr)
    pods = ipaddress.IPv4Network(settings.pod_cidr)
    services = ipaddress.IPv4Network(settings.service_cidr)
    wire = ipaddress.IPv4Network(f"{settings.host_ip}/30", strict=False)
    parts = sorted([pods, services, wire])
    assert all(part.subnet_of(whole) for part in parts)
    assert not any(one.overlaps(other) for one, other in pairwise(parts))
    assert ipaddress.IPv4Address(settings.node_ip) in pods
    assert ipaddress.IPv4Address(settings.dns_ip) in services
    assert ipaddress.IPv4Address(settings.uplink_ip) in wire


def test_two_names_share_nothing() -> None:
    def everything(settings: Settings) -> Iterator[str]:
        for name in dir(type(settings)):
            if isinstance(getattr(type(settings), name), property):
                yield str(getattr(settings, name))

    shared = set(everything(preferred("a"))) & set(everything(preferred("b")))
    assert shared == set()


def test_candidates_are_every_range_once_the_preferred_first() -> None:
    ranges = list(candidates("tenantplane"))
    assert ranges[0] == preferred("tenantplane")
    assert len({one.octet for one in ranges}) == len(ranges) == OCTETS
    assert all(64 <= one.octet <= 127 for one in ranges)


def test_a_taken_range_is_stepped_over(monkeypatch: pytest.MonkeyPatch) -> None:
    own = preferred("tenantplane")
    second, third = list(candidates("tenantplane"))[1:3]
    route = [ipaddress.IPv4Network(second.pod_cidr)]
    monkeypatch.setattr(network, "_host_networks", lambda: route)
    assert network.choose_settings("tenantplane", {own.octet}) == third


def test_the_fence_drops_only_what_leaves_the_bridge_for_elsewhere_than_the_host() -> None:
    settings = preferred("tenantplane")
    closed, opened = (network.fence_rules(settings, egress) for egress in (False, True))
    rule = (
        f'iifname "{settings.bridge}" oifname != "{settings.bridge}" '
        f"ip daddr != {settings.host_ip} counter drop"
    )
    assert rule in closed
    assert "counter drop" not in opened
    assert "ether type ip6 drop" in closed
    assert "ether type ip6 drop" in opened
