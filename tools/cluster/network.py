"""The node's own network namespace, its bridge, and the wire to the host.

Why a namespace: kube-proxy's nftables mode writes a table that is always called
``kube-proxy``, and the components listen on fixed ports. In a namespace of its own
each cluster has all of that to itself; two run side by side, no rule of ours touches
the host's firewall, and removing the namespace removes every rule at once.

::

    host ── tp-host-… 10.N.255.1 ═══ 10.N.255.2 tp-node-… ┐
                                                            │ namespace tp-NAME
    pods ── veth ── bridge tp-br-… 10.N.0.1 (the node) ─────┘

The host has one route, ``10.N.0.0/16`` through the wire: its processes reach pods,
Services, NodePorts and the API server at their own addresses, and pods reach the
host's servers at ``10.N.255.1`` (seen with the pod's own address). The namespace has
no default route and a fence (an nft table) that drops whatever a pod sends past the
bridge and the host's end of the wire, so no packet leaves the machine.
``EGRESS=1`` opens both.
"""

from __future__ import annotations

import ipaddress
import json
from pathlib import Path

from tools.cluster.commands import run, succeeds
from tools.cluster.errors import ClusterError
from tools.cluster.settings import Settings, candidates

IPV6_OFF = "net.ipv6.conf.{}.disable_ipv6=1"

NODE_SYSCTLS = (
    "net.ipv4.ip_forward=1",
    # Bridged traffic between two pods passes the forward hook too: policies need it.
    "net.bridge.bridge-nf-call-iptables=1",
    IPV6_OFF.format("all"),
    IPV6_OFF.format("default"),
)


def choose_settings(name: str, taken: set[int]) -> Settings:
    """The name's first address range that neither a cluster nor a route here uses."""
    routes = _host_networks()
    for settings in candidates(name):
        own = ipaddress.ip_network(settings.cluster_cidr)
        if settings.octet not in taken and not any(own.overlaps(route) for route in routes):
            return settings
    raise ClusterError(
        "no free range in 10.64.0.0/10: take a cluster down (`status` lists them) or drop a route"
    )


def ensure(settings: Settings) -> bool:
    """Make the network unless it stands whole; whether it was made (all pods lost theirs)."""
    if _stands(settings):
        return False
    remove(settings)
    _make(settings)
    return True


def fence(settings: Settings, egress: bool) -> None:
    """Keep pods' packets on this machine, or open the way out and the host's NAT for it."""
    _in_namespace(settings, ["nft", "-f", "-"], fence_rules(settings, egress))
    route = ["ip", "-n", settings.netns, "route"]
    if not egress:
        if run([*route, "show", "default"]).strip():
            run([*route, "del", "default"])
        _remove_host_table(settings)
        return
    run([*route, "replace", "default", "via", settings.host_ip])
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1\n")
    run(["nft", "-f", "-"], stdin=nat_rules(settings))


def fence_rules(settings: Settings, egress: bool) -> str:
    """The namespace's own table: the fence, and no IPv6 between pods.

    IPv6 is off in this cluster, but pods have link-local addresses, and over those
    a policy written for IPv4 addresses could be walked around.
    """
    pods_outward = f'iifname "{settings.bridge}" oifname != "{settings.bridge}"'
    drop = f"{pods_outward} ip daddr != {settings.host_ip} counter drop" if not egress else ""
    return f"""
table ip tenantplane_fence
delete table ip tenantplane_fence
table ip tenantplane_fence {{
  chain forward {{
    type filter hook forward priority -20; policy accept;
    {drop}
  }}
}}
table bridge tenantplane_fence
delete table bridge tenantplane_fence
table bridge tenantplane_fence {{
  chain forward {{
    type filter hook forward priority 0; policy accept;
    ether type ip6 drop
  }}
  chain input {{
    type filter hook input priority 0; policy accept;
    ether type ip6 drop
  }}
}}
"""


def nat_rules(settings: Settings) -> str:
    """The host's table with ``EGRESS=1``: the cluster leaves under the host's address."""
    table = settings.egress_table
    source = f"ip saddr {settings.cluster_cidr}"
    return f"""
table ip {table}
delete table ip {table}
table ip {table} {{
  chain postrouting {{
    type nat hook postrouting priority srcnat; policy accept;
    {source} oifname != "{settings.host_wire}" masquerade
  }}
}}
"""


def cni_config(settings: Settings) -> str:
    """The CNI network list (https://www.cni.dev/docs/spec/) of this cluster."""
    bridge = {
        "type": "bridge",
        "bridge": settings.bridge,
        "isGateway": True,
        # The host routes to pods, so nothing needs to hide behind the node's address.
        "ipMasq": False,
        "hairpinMode": True,
        "ipam": {
            "type": "host-local",
            "ranges": [[{"subnet": settings.pod_cidr, "rangeStart": settings.first_pod_ip}]],
            "routes": [{"dst": "0.0.0.0/0"}],
            "dataDir": str(settings.run / "cni"),
        },
    }
    portmap = {"type": "portmap", "capabilities": {"portMappings": True}}
    network = {"cniVersion": "0.4.0", "name": settings.cni_network, "plugins": [bridge, portmap]}
    return json.dumps(network, indent=2) + "\n"


def remove(settings: Settings) -> None:
    """Take wire, route, bridge and namespace away; fine when they are gone already."""
    if _link_exists(settings.host_wire):  # its peer and the host's route go with it
        run(["ip", "link", "del", settings.host_wire])
    if settings.netns_path.exists():
        run(["ip", "netns", "del", settings.netns])
    _remove_host_table(settings)


def _make(settings: Settings) -> None:
    ns = ["ip", "-n", settings.netns]
    run(["ip", "netns", "add", settings.netns])
    # First of all, so that no interface of the namespace ever gets a link-local address.
    for sysctl in NODE_SYSCTLS:
        _in_namespace(settings, ["sysctl", "-qw", sysctl])
    run([*ns, "link", "set", "lo", "up"])
    run([*ns, "link", "add", settings.bridge, "type", "bridge"])
    run([*ns, "addr", "add", f"{settings.node_ip}/20", "dev", settings.bridge])
    run([*ns, "link", "set", settings.bridge, "up"])
    run(
        ["ip", "link", "add", settings.host_wire, "type", "veth",
         "peer", "name", settings.node_wire, "netns", settings.netns]
    )  # fmt: skip
    run([*ns, "addr", "add", f"{settings.uplink_ip}/30", "dev", settings.node_wire])
    run([*ns, "link", "set", settings.node_wire, "up"])
    succeeds(["sysctl", "-qw", IPV6_OFF.format(settings.host_wire)])
    run(["ip", "addr", "add", f"{settings.host_ip}/30", "dev", settings.host_wire])
    run(["ip", "link", "set", settings.host_wire, "up"])
    run(["ip", "route", "add", settings.cluster_cidr, "via", settings.uplink_ip])


def _stands(settings: Settings) -> bool:
    ns = ["ip", "-n", settings.netns]
    parts = [
        (["ip"], settings.host_wire, settings.host_ip),
        (ns, settings.node_wire, settings.uplink_ip),
        (ns, settings.bridge, settings.node_ip),
    ]
    if not settings.netns_path.exists() or not all(_has_address(*part) for part in parts):
        return False
    return bool(run(["ip", "route", "show", settings.cluster_cidr]).strip())


def _has_address(ip: list[str], interface: str, address: str) -> bool:
    listing = [*ip, "-4", "-o", "addr", "show", "dev", interface, "up"]
    return succeeds(listing) and f" {address}/" in run(listing)


def _link_exists(name: str) -> bool:
    return Path("/sys/class/net", name).exists()


def _in_namespace(settings: Settings, argv: list[str], stdin: str | None = None) -> str:
    return run(["nsenter", f"--net={settings.netns_path}", *argv], stdin=stdin)


def _remove_host_table(settings: Settings) -> None:
    if succeeds(["nft", "list", "table", "ip", settings.egress_table]):
        run(["nft", "delete", "table", "ip", settings.egress_table])


def _host_networks() -> list[ipaddress.IPv4Network]:
    routes = json.loads(run(["ip", "-4", "-json", "route", "show", "table", "all"]) or "[]")
    destinations = {route.get("dst", "default") for route in routes} - {"default"}
    return [ipaddress.IPv4Network(destination, strict=False) for destination in destinations]
