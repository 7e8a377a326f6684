"""From NetworkPolicies, Pods and Namespaces to an nftables table. Pure.

Semantics: Kubernetes' networking.k8s.io/v1 (concepts/services-networking/network-policies).
A pod that no policy selects for a direction is open in it; one that is selected gets
only what the union of its policies allows. A packet needs both ends' consent.

Where the rules sit. ``forward`` at priority -10 sees traffic between pods (bridged too,
by br_netfilter) and to and from the host, after Services were turned into pod
addresses. ``input`` sees pods' traffic to the node itself, the API server above all:
only ipBlocks can allow that. Traffic from the node itself (kubelet's probes, API
server's webhook calls) passes neither hook, so it is always allowed, as the standard
says of the node a pod runs on. Pods on the host's network are the node, not pods.

Every distinct set of policies is one chain per direction; a verdict map leads each
isolated pod's address to its chain. A chain ends with ``drop``; ``return`` leaves it
for the other end's chain, or for good.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

TABLE = "tenantplane_policy"

Object = Mapping[str, Any]

_PROTOCOLS = {"TCP": "tcp", "UDP": "udp", "SCTP": "sctp"}


@dataclass(frozen=True)
class Pod:
    """What rules need to know of a pod."""

    namespace: str
    address: str
    labels: Mapping[str, str]
    ports: Mapping[tuple[str, str], int]
    """(name, protocol) → number."""


@dataclass
class _Table:
    """The parts of the table as they come together."""

    sets: dict[str, list[str]] = field(default_factory=dict)
    chains: dict[str, list[str]] = field(default_factory=dict)
    maps: dict[str, dict[str, str]] = field(default_factory=lambda: {"egress": {}, "ingress": {}})

    def address_set(self, addresses: Iterable[str]) -> str:
        """A named set with these addresses; equal ones are shared."""
        members = sorted(set(addresses), key=ipaddress.ip_address)
        name = f"peers_{_digest(members)}"
        self.sets[name] = members
        return f"@{name}"


def ruleset(
    policies: Iterable[Object], pods: Iterable[Object], namespaces: Iterable[Object]
) -> str:
    """The text for one ``nft -f``, which replaces the whole table in one transaction."""
    table = _Table()
    known_pods = live_pods(pods)
    labels = {_name(one): one["metadata"].get("labels") or {} for one in namespaces}
    ordered = sorted(policies, key=lambda one: (_namespace(one), _name(one)))
    for pod in known_pods:
        for direction in ("egress", "ingress"):
            selecting = [one for one in ordered if _selects(one, pod, direction)]
            if selecting:
                chain = _chain(table, direction, selecting, known_pods, labels)
                table.maps[direction][pod.address] = f"jump {chain}"
    return _text(table)


def live_pods(pods: Iterable[Object]) -> list[Pod]:
    """Pods that have an address of their own now; an ended pod's address may be another's."""
    live = []
    for pod in pods:
        spec, status = pod["spec"], pod.get("status") or {}
        ended = status.get("phase") in ("Succeeded", "Failed")
        address = status.get("podIP")
        if not address or ended or spec.get("hostNetwork") or ":" in address:
            continue
        labels = pod["metadata"].get("labels") or {}
        live.append(Pod(_namespace(pod), address, labels, _named_ports(spec)))
    return sorted(live, key=lambda one: ipaddress.ip_address(one.address))


def matches(selector: Object | None, labels: Mapping[str, str]) -> bool:
    """A LabelSelector; the empty one matches everything."""
    selector = selector or {}
    wanted = (selector.get("matchLabels") or {}).items()
    if any(labels.get(key) != value for key, value in wanted):
        return False
    return all(_meets(term, labels) for term in selector.get("matchExpressions") or [])


def _meets(term: Object, labels: Mapping[str, str]) -> bool:
    key, values = term["key"], term.get("values") or []
    match term["operator"]:
        case "In":
            return key in labels and labels[key] in values
        case "NotIn":
            return key not in labels or labels[key] not in values
        case "Exists":
            return key in labels
        case "DoesNotExist":
            return key not in labels
    raise ValueError(f"label selector operator {term['operator']!r} is not known")


def _selects(policy: Object, pod: Pod, direction: str) -> bool:
    spec = policy["spec"]
    types = spec.get("policyTypes") or ["Ingress", *(["Egress"] if spec.get("egress") else [])]
    return (
        direction.capitalize() in types
        and _namespace(policy) == pod.namespace
        and matches(spec.get("podSelector"), pod.labels)
    )


def _chain(
    table: _Table,
    direction: str,
    policies: list[Object],
    pods: list[Pod],
    namespaces: Mapping[str, Mapping[str, str]],
) -> str:
    """The chain of a set of policies; made the first time it is needed."""
    names = [f"{_namespace(policy)}/{_name(policy)}" for policy in policies]
    chain = f"{direction}_{_digest(names)}"
    if chain not in table.chains:
        rules = [f"# {', '.join(names)}"]
        for policy in policies:
            selected = [one for one in pods if _selects(policy, one, direction)]
            for rule in policy["spec"].get(direction) or []:
                rules += _rule(table, direction, rule, policy, selected, pods, namespaces)
        table.chains[chain] = [*dict.fromkeys(rules), "counter drop"]
    return chain


def _rule(
    table: _Table,
    direction: str,
    rule: Object,
    policy: Object,
    selected: list[Pod],
    pods: list[Pod],
    namespaces: Mapping[str, Mapping[str, str]],
) -> list[str]:
    """One item of ``ingress`` or ``egress``: any of its peers on any of its ports."""
    side = "saddr" if direction == "ingress" else "daddr"
    peers = rule.get("from" if direction == "ingress" else "to") or []
    chosen = [
        pod
        for pod in pods
        if any(_peer_is(peer, pod, _namespace(policy), namespaces) for peer in peers)
    ]
    sources: list[tuple[str, list[Pod]]] = []
    """(match of the peer's address, pods it may be: only they can have a named port)"""
    if not peers:
        sources.append(("", pods))
    if chosen:
        sources.append((f"ip {side} {table.address_set(pod.address for pod in chosen)} ", chosen))
    sources += [(_block(side, peer["ipBlock"]), []) for peer in peers if "ipBlock" in peer]
    ports = rule.get("ports") or [None]
    rules = []
    for match, peer_pods in sources:
        receivers = selected if direction == "ingress" else peer_pods
        for port in ports:
            rules += [f"{match}{ending}return" for ending in _port(table, port, receivers)]
    return rules


def _peer_is(
    peer: Object, pod: Pod, own_namespace: str, namespaces: Mapping[str, Mapping[str, str]]
) -> bool:
    if "ipBlock" in peer:
        return False
    if peer.get("namespaceSelector") is None:
        if pod.namespace != own_namespace:
            return False
    elif not matches(peer["namespaceSelector"], namespaces.get(pod.namespace, {})):
        return False
    return matches(peer.get("podSelector"), pod.labels)


def _block(side: str, block: Object) -> str:
    network = ipaddress.ip_network(block["cidr"], strict=False)
    if network.version == 6:
        return f"ip {side} 0.0.0.0 "  # never: this cluster speaks IPv4
    match = f"ip {side} {network} " if network.prefixlen else ""
    excepted = [ipaddress.ip_network(one, strict=False) for one in block.get("except") or []]
    spared = ipaddress.collapse_addresses(
        one for one in excepted if isinstance(one, ipaddress.IPv4Network)
    )
    listed = ", ".join(str(one) for one in spared)
    return match + (f"ip {side} != {{ {listed} }} " if listed else "")


def _port(table: _Table, port: Object | None, receivers: list[Pod]) -> list[str]:
    """The matches for one port; ``receivers`` are the pods that listen, for named ports."""
    if port is None:
        return [""]
    protocol = port.get("protocol") or "TCP"
    word = _PROTOCOLS[protocol]
    number = port.get("port")
    if number is None:
        return [f"meta l4proto {word} "]
    if isinstance(number, int):
        last = port.get("endPort")
        return [f"{word} dport {number}-{last} " if last else f"{word} dport {number} "]
    by_number: dict[int, list[str]] = {}
    for pod in receivers:
        if (number, protocol) in pod.ports:
            by_number.setdefault(pod.ports[number, protocol], []).append(pod.address)
    return [
        f"ip daddr {table.address_set(addresses)} {word} dport {one} "
        for one, addresses in sorted(by_number.items())
    ]


def _text(table: _Table) -> str:
    lines = [f"table ip {TABLE}", f"delete table ip {TABLE}", f"table ip {TABLE} {{"]
    for name, members in sorted(table.sets.items()):
        lines += _block_of(f"set {name}", ["type ipv4_addr", _elements(members)])
    for name, rules in sorted(table.chains.items()):
        lines += _block_of(f"chain {name}", rules)
    for name, leads in table.maps.items():
        entries = [f"{address} : {verdict}" for address, verdict in leads.items()]
        lines += _block_of(f"map {name}", ["type ipv4_addr : verdict", _elements(entries)])
    isolated = sorted({*table.maps["egress"], *table.maps["ingress"]}, key=ipaddress.ip_address)
    own = _elements([f"{address} . {address}" for address in isolated])
    lines += _block_of("set itself", ["type ipv4_addr . ipv4_addr", own])
    established = "ct state established,related accept"
    lines += _block_of(
        "chain forward",
        [
            "type filter hook forward priority -10; policy accept;",
            established,
            "# a pod may always reach itself, through its Service too",
            "ip saddr . ip daddr @itself accept",
            "ip saddr vmap @egress",
            "ip daddr vmap @ingress",
        ],
    )
    lines += _block_of(
        "chain input",
        [
            "type filter hook input priority -10; policy accept;",
            established,
            "ip saddr vmap @egress",
        ],
    )
    return "\n".join([*lines, "}", ""])


def _block_of(head: str, lines: list[str]) -> list[str]:
    return [f"  {head} {{", *(f"    {line}" for line in lines if line), "  }"]


def _elements(members: list[str]) -> str:
    return f"elements = {{ {', '.join(members)} }}" if members else ""


def _named_ports(spec: Object) -> dict[tuple[str, str], int]:
    # Sidecars are init containers that keep running (restartPolicy Always).
    sidecars = [one for one in spec.get("initContainers") or [] if one.get("restartPolicy")]
    return {
        (port["name"], port.get("protocol") or "TCP"): port["containerPort"]
        for container in [*(spec.get("containers") or []), *sidecars]
        for port in container.get("ports") or []
        if "name" in port
    }


def _name(item: Object) -> str:
    return str(item["metadata"]["name"])


def _namespace(item: Object) -> str:
    return str(item["metadata"].get("namespace", ""))


def _digest(parts: list[str]) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]
