"""NetworkPolicies to nftables: meaning by a small model of the table, then the text."""

from __future__ import annotations

import ipaddress
import shutil
import subprocess
from typing import Any

import pytest

from tools.cluster.policy_rules import TABLE, live_pods, matches, ruleset

API, OUTSIDE = "10.70.0.1", "198.51.100.9"


def pod(namespace: str, name: str, address: str, **labels: str) -> dict[str, Any]:
    ports = [{"name": "http", "containerPort": 8000 + int(address.rsplit(".", 1)[1])}]
    return {
        "metadata": {"namespace": namespace, "name": name, "labels": labels},
        "spec": {"containers": [{"ports": ports}]},
        "status": {"phase": "Running", "podIP": address},
    }


def namespace(name: str, **labels: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "labels": {"kubernetes.io/metadata.name": name, **labels}}}


def policy(namespace: str, name: str = "p", **spec: Any) -> dict[str, Any]:
    spec = {"podSelector": {}, **spec}
    return {"metadata": {"namespace": namespace, "name": name}, "spec": spec}


WEB, DB, OTHER, DNS = "10.70.0.2", "10.70.0.3", "10.70.0.4", "10.70.0.5"
PODS = [
    pod("a", "web", WEB, app="web"),
    pod("a", "db", DB, app="db"),
    pod("b", "other", OTHER, app="web"),
    pod("kube-system", "dns", DNS, **{"k8s-app": "kube-dns"}),
]
NAMESPACES = [namespace("a"), namespace("b", tier="front"), namespace("kube-system")]


class Table:
    """Reads the text that ``ruleset`` writes, and judges new connections as nft would."""

    def __init__(self, *policies: dict[str, Any], pods: list[dict[str, Any]] = PODS) -> None:
        self.text = ruleset(policies, pods, NAMESPACES)
        self.parts: dict[str, list[str]] = {}
        for line in self.text.splitlines()[3:-1]:
            if line.endswith("{"):
                current = self.parts.setdefault(line.split()[1], [])
            elif line.strip() != "}":
                current.append(line.strip())

    def allows(self, source: str, target: str, port: int = 80, protocol: str = "tcp") -> bool:
        if f"{source} . {target}" in self._elements("itself"):
            return True
        ways = [("egress", source)] + ([("ingress", target)] if target != API else [])
        return all(
            self._passes(verdict.split()[-1], source, target, port, protocol)
            for direction, address in ways
            for verdict in self._elements(direction)
            if verdict.startswith(f"{address} : ")
        )

    def _passes(self, chain: str, source: str, target: str, port: int, protocol: str) -> bool:
        for rule in self.parts[chain]:
            if rule.startswith("#"):
                continue
            if rule == "counter drop":
                return False
            if self._meets(rule.split(), source, target, port, protocol):
                return True
        raise AssertionError("a chain must end with drop")

    def _meets(self, words: list[str], source: str, target: str, port: int, protocol: str) -> bool:
        met, at = True, 0
        while words[at] != "return":
            if words[at] == "ip":
                address = source if words[at + 1] == "saddr" else target
                negated = words[at + 2] == "!="
                at += 3 if negated else 2
                if words[at] == "{":
                    end = words.index("}", at)
                    wanted = [word.strip(",") for word in words[at + 1 : end]]
                    at = end
                else:
                    wanted = [words[at]]
                met &= negated != any(self._in(address, one) for one in wanted)
                at += 1
            elif words[at] == "meta":
                met &= words[at + 2] == protocol
                at += 3
            else:
                first, _, last = words[at + 2].partition("-")
                met &= words[at] == protocol and int(first) <= port <= int(last or first)
                at += 3
        return met

    def _in(self, address: str, wanted: str) -> bool:
        if wanted.startswith("@"):
            return address in self._elements(wanted[1:])
        return ipaddress.ip_address(address) in ipaddress.ip_network(wanted)

    def _elements(self, name: str) -> list[str]:
        for line in self.parts[name]:
            if line.startswith("elements = {"):
                return line.removeprefix("elements = {").removesuffix("}").strip().split(", ")
        return []


def test_without_policies_all_is_open() -> None:
    table = Table()
    assert table.allows(OTHER, DB)
    assert table.allows(WEB, API, 6443)
    assert table.allows(OUTSIDE, WEB)


def test_default_deny_of_ingress_isolates_the_namespace_alone() -> None:
    table = Table(policy("a"))
    assert not table.allows(OTHER, WEB)
    assert not table.allows(WEB, DB)
    assert not table.allows(OUTSIDE, WEB)
    assert table.allows(WEB, OTHER)
    assert table.allows(WEB, WEB)


def test_policy_types_default_to_ingress_and_to_egress_where_rules_speak_of_it() -> None:
    assert Table(policy("a")).allows(WEB, OTHER)
    assert not Table(policy("a", egress=[{"ports": [{"port": 1}]}])).allows(WEB, OTHER)
    assert Table(policy("a", policyTypes=["Egress"])).allows(OTHER, WEB)


def test_egress_deny_holds_for_the_api_server_and_the_outside() -> None:
    table = Table(policy("a", policyTypes=["Egress"]))
    assert not table.allows(WEB, API, 6443)
    assert not table.allows(WEB, OUTSIDE)
    assert table.allows(OTHER, API, 6443)


def test_both_ends_must_consent() -> None:
    peer = [{"podSelector": {"matchLabels": {"app": "db"}}}]
    out = policy("a", "out", policyTypes=["Egress"], egress=[{"to": peer}])
    assert Table(out).allows(WEB, DB)
    assert not Table(out, policy("a", "in", policyTypes=["Ingress"])).allows(WEB, DB)


def test_policies_add_up() -> None:
    one = policy("a", "one", ingress=[{"ports": [{"port": 80}]}])
    two = policy("a", "two", ingress=[{"ports": [{"port": 81}]}])
    table = Table(one, two)
    assert table.allows(OTHER, WEB, 80)
    assert table.allows(OTHER, WEB, 81)
    assert not table.allows(OTHER, WEB, 82)


def test_pod_selector_alone_means_the_policys_own_namespace() -> None:
    peers = [{"podSelector": {"matchLabels": {"app": "web"}}}]
    table = Table(policy("a", ingress=[{"from": peers}]))
    assert table.allows(WEB, DB)
    assert not table.allows(OTHER, DB)


def test_namespace_selector_alone_and_with_pods() -> None:
    front = {"matchLabels": {"tier": "front"}}
    assert Table(policy("a", ingress=[{"from": [{"namespaceSelector": front}]}])).allows(OTHER, DB)
    both = [{"namespaceSelector": front, "podSelector": {"matchLabels": {"app": "db"}}}]
    assert not Table(policy("a", ingress=[{"from": both}])).allows(OTHER, DB)
    every: list[dict[str, Any]] = [{"namespaceSelector": {}}]
    table = Table(policy("a", ingress=[{"from": every}]))
    assert table.allows(OTHER, DB)
    assert not table.allows(OUTSIDE, DB)


def test_an_empty_rule_allows_everything_and_no_rule_nothing() -> None:
    assert Table(policy("a", ingress=[{}])).allows(OUTSIDE, WEB)
    assert not Table(policy("a", ingress=[])).allows(OUTSIDE, WEB)


def test_a_peer_that_matches_no_pod_allows_nobody() -> None:
    peers = [{"podSelector": {"matchLabels": {"app": "ghost"}}}]
    assert not Table(policy("a", ingress=[{"from": peers}])).allows(WEB, DB)


def test_ip_block_with_exceptions() -> None:
    block = {"cidr": "0.0.0.0/0", "except": ["10.0.0.0/8", "198.51.100.0/28"]}
    table = Table(policy("a", policyTypes=["Egress"], egress=[{"to": [{"ipBlock": block}]}]))
    assert not table.allows(WEB, OUTSIDE)
    assert table.allows(WEB, "198.51.100.99")
    assert not table.allows(WEB, OTHER)
    assert not table.allows(WEB, API, 6443)


def test_ip_block_can_open_the_api_server() -> None:
    block = {"cidr": f"{API}/32"}
    rule = {"to": [{"ipBlock": block}], "ports": [{"port": 6443}]}
    table = Table(policy("a", policyTypes=["Egress"], egress=[rule]))
    assert table.allows(WEB, API, 6443)
    assert not table.allows(WEB, API, 10250)


def test_ipv6_blocks_never_match() -> None:
    rule = {"to": [{"ipBlock": {"cidr": "::/0"}}]}
    assert not Table(policy("a", policyTypes=["Egress"], egress=[rule])).allows(WEB, OUTSIDE)


def test_dns_as_a_policy_allows_it() -> None:
    dns = {"namespaceSelector": {}, "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}}}
    rule = {"to": [dns], "ports": [{"port": 53, "protocol": "UDP"}]}
    table = Table(policy("a", policyTypes=["Egress"], egress=[rule]))
    assert table.allows(WEB, DNS, 53, "udp")
    assert not table.allows(WEB, DNS, 53, "tcp")
    assert not table.allows(WEB, DNS, 54, "udp")


def test_port_ranges_and_whole_protocols() -> None:
    ranged = Table(policy("a", ingress=[{"ports": [{"port": 100, "endPort": 110}]}]))
    assert ranged.allows(OTHER, WEB, 110)
    assert not ranged.allows(OTHER, WEB, 111)
    whole = Table(policy("a", ingress=[{"ports": [{"protocol": "UDP"}]}]))
    assert whole.allows(OTHER, WEB, 9, "udp")
    assert not whole.allows(OTHER, WEB, 9, "tcp")


def test_a_named_port_is_each_receivers_own() -> None:
    table = Table(policy("a", ingress=[{"ports": [{"port": "http"}]}]))
    assert table.allows(OTHER, WEB, 8002)
    assert table.allows(OTHER, DB, 8003)
    assert not table.allows(OTHER, WEB, 8003)
    assert not Table(policy("a", ingress=[{"ports": [{"port": "nope"}]}])).allows(OTHER, WEB, 8002)


def test_a_named_port_of_egress_is_the_peers() -> None:
    rule = {"to": [{"namespaceSelector": {}}], "ports": [{"port": "http"}]}
    table = Table(policy("a", policyTypes=["Egress"], egress=[rule]))
    assert table.allows(WEB, OTHER, 8004)
    assert not table.allows(WEB, OTHER, 8003)
    assert not table.allows(WEB, OUTSIDE, 8004)


def test_only_pods_with_an_address_of_their_own_count() -> None:
    ended = pod("a", "ended", "10.70.0.8")
    ended["status"]["phase"] = "Succeeded"
    waiting = pod("a", "waiting", "10.70.0.9")
    del waiting["status"]["podIP"]
    on_host = pod("a", "on-host", API)
    on_host["spec"]["hostNetwork"] = True
    found = live_pods([*PODS, ended, waiting, on_host])
    assert [one.address for one in found] == [WEB, DB, OTHER, DNS]


@pytest.mark.parametrize(
    ("selector", "found"),
    [
        ({}, True),
        (None, True),
        ({"matchLabels": {"app": "web"}}, True),
        ({"matchLabels": {"app": "web", "x": "y"}}, False),
        ({"matchExpressions": [{"key": "app", "operator": "In", "values": ["web"]}]}, True),
        ({"matchExpressions": [{"key": "x", "operator": "In", "values": ["web"]}]}, False),
        ({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["web"]}]}, False),
        ({"matchExpressions": [{"key": "x", "operator": "NotIn", "values": ["web"]}]}, True),
        ({"matchExpressions": [{"key": "app", "operator": "Exists"}]}, True),
        ({"matchExpressions": [{"key": "app", "operator": "DoesNotExist"}]}, False),
    ],
)
def test_selectors(selector: dict[str, Any] | None, found: bool) -> None:
    assert matches(selector, {"app": "web"}) is found


def test_the_order_of_what_the_api_server_lists_does_not_matter() -> None:
    policies = [policy("a", "one", ingress=[{}]), policy("a", "two"), policy("b", "three")]
    forwards = ruleset(policies, PODS, NAMESPACES)
    assert ruleset(policies[::-1], PODS[::-1], NAMESPACES[::-1]) == forwards


def test_the_whole_table_is_replaced_in_one_transaction() -> None:
    lines = ruleset([], PODS, NAMESPACES).splitlines()
    assert lines[:3] == [f"table ip {TABLE}", f"delete table ip {TABLE}", f"table ip {TABLE} {{"]


@pytest.mark.skipif(shutil.which("nft") is None, reason="no nft here")
def test_nft_itself_takes_the_text() -> None:
    block = {"ipBlock": {"cidr": "0.0.0.0/0", "except": ["10.0.0.0/8", "10.1.0.0/16"]}}
    ports = [{"port": 1, "endPort": 9}, {"protocol": "SCTP"}, {"port": "http"}]
    rich = policy(
        "a",
        policyTypes=["Ingress", "Egress"],
        ingress=[{"from": [{"podSelector": {}}, block], "ports": ports}],
        egress=[{"to": [{"namespaceSelector": {}}], "ports": ports}, {"to": [block]}],
    )
    for text in (ruleset([rich], PODS, NAMESPACES), ruleset([], [], [])):
        checked = subprocess.run(
            ["nft", "--check", "-f", "-"], input=text, capture_output=True, text=True, check=False
        )
        if "Operation not permitted" in checked.stderr:
            pytest.skip("nft --check needs root")
        assert checked.returncode == 0, checked.stderr
