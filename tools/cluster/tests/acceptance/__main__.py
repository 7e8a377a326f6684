"""The local cluster's acceptance, on a real node: root, Linux, some minutes.

    python -m tools.cluster.tests.acceptance [--name acceptance]

Not collected by pytest: it starts and kills whole clusters. It ends with every
cluster of its own down, and says what it measured.
"""

from __future__ import annotations

import argparse
import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tools.cluster import cgroups, mounts, node
from tools.cluster.processes import find
from tools.cluster.settings import Settings

HERE = Path(__file__).parent
IMAGE = "localhost/tenantplane-acceptance:1"

FETCH = """
import socket, sys, urllib.request
socket.setdefaulttimeout(1.5)
try:
    print(urllib.request.urlopen(sys.argv[1]).read().decode())
except Exception as failed:
    print("BLOCKED", failed)
"""

CONNECT = """
import socket, sys
try:
    socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=1.5).close()
    print("OPEN")
except OSError as failed:
    print("BLOCKED", failed)
"""


class Cluster:
    """The command line under test, for one cluster name."""

    def __init__(self, name: str) -> None:
        self.name = name

    def call(
        self,
        command: str,
        *arguments: str,
        stdin: str | None = None,
        environment: dict[str, str] | None = None,
    ) -> str:
        argv = [sys.executable, "-m", "tools.cluster", command]
        argv += [] if command == "build-image" else ["--name", self.name]
        done = subprocess.run(
            [*argv, *arguments],
            input=stdin,
            env={**os.environ, **(environment or {})},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise SystemExit(f"{command} {arguments}: {done.stdout}{done.stderr}")
        return done.stdout

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        return self.call("kubectl", "--", *arguments, stdin=stdin)

    def execute(self, namespace: str, code: str, *arguments: str) -> str:
        command = ["exec", "-n", namespace, "client", "--", "python3", "-c", code]
        return self.kubectl(*command, *arguments).strip()

    def fetch(self, namespace: str, url: str = "http://server.here.svc.cluster.local/") -> str:
        return self.execute(namespace, FETCH, url)

    @property
    def settings(self) -> Settings:
        return node.settings_of(self.name)

    def apply(self, text: str) -> None:
        self.kubectl("apply", "-f", "-", stdin=text)


@contextmanager
def timed(what: str) -> Iterator[None]:
    started = time.monotonic()
    yield
    print(f"ok {what}: {time.monotonic() - started:.1f} s", flush=True)


def eventually(what: str, check: Callable[[], bool], seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while not check():
        if time.monotonic() > deadline:
            raise SystemExit(f"never: {what}")
        time.sleep(0.1)
    print(f"ok {what}", flush=True)


def policy(name: str, namespace: str, spec: str) -> str:
    return (
        f"{{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, "
        f"metadata: {{name: {name}, namespace: {namespace}}}, spec: {spec}}}"
    )


def workloads(cluster: Cluster) -> None:
    printed = cluster.call(
        "build-image", "--tag", IMAGE, "--file", str(HERE / "Dockerfile"), "--context", str(HERE)
    )
    cluster.call("load", printed.split()[-1])
    cluster.apply((HERE / "workload.yaml").read_text())
    cluster.kubectl("rollout", "status", "-n", "here", "deployment/server", "--timeout=60s")
    for namespace in ("here", "there"):
        cluster.kubectl("wait", "-n", namespace, "--for=condition=Ready", "pod/client")
    assert cluster.fetch("there").startswith("hello server-")
    assert "serving" in cluster.kubectl("logs", "-n", "here", "deployment/server")
    bound = cluster.kubectl("get", "pvc", "-n", "here", "data", "-o", "jsonpath={.status.phase}")
    assert bound == "Bound", bound


def from_the_host(cluster: Cluster) -> None:
    """Pods, Services and NodePorts at their own addresses, with no tunnel."""
    get = ["get", "-n", "here", "service", "server", "-o"]
    service = cluster.kubectl(*get, "jsonpath={.spec.clusterIP}")
    port = cluster.kubectl(*get, "jsonpath={.spec.ports[0].nodePort}")
    pod = cluster.kubectl(
        "get", "pods", "-n", "here", "-l", "app=server", "-o", "jsonpath={.items[0].status.podIP}"
    )
    for address, number in ((service, 80), (cluster.settings.node_ip, int(port)), (pod, 8080)):
        connection = http.client.HTTPConnection(address, number, timeout=3)
        connection.request("GET", "/")
        answer = connection.getresponse().read().decode()
        print(f"ok the host reaches {address}:{number}: {answer.strip()}")


def policies(cluster: Cluster) -> None:
    def open_from(namespace: str) -> bool:
        return cluster.fetch(namespace).startswith("hello")

    def reaches_api() -> bool:
        return cluster.execute("there", CONNECT, cluster.settings.api_service_ip, "443") == "OPEN"

    cluster.apply(policy("deny", "here", "{podSelector: {}, policyTypes: [Ingress]}"))
    eventually("default deny blocks both", lambda: not (open_from("here") or open_from("there")))
    ready = "jsonpath={.status.readyReplicas}"
    time.sleep(3)  # three probes
    assert cluster.kubectl("get", "-n", "here", "deployment", "server", "-o", ready) == "1"
    peers = "[{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: there}}}]"
    rule = f"[{{from: {peers}, ports: [{{port: http}}]}}]"
    cluster.apply(policy("allow", "here", f"{{podSelector: {{}}, ingress: {rule}}}"))
    eventually("an allow rule opens one", lambda: open_from("there") and not open_from("here"))
    assert reaches_api()
    cluster.apply(policy("none", "there", "{podSelector: {}, policyTypes: [Egress]}"))
    eventually("egress deny blocks API server", lambda: not reaches_api())
    assert "name resolution" in cluster.fetch("there")
    dns = "{namespaceSelector: {}, podSelector: {matchLabels: {k8s-app: kube-dns}}}"
    rules = f"[{{to: [{dns}], ports: [{{port: 53, protocol: UDP}}]}}]"
    cluster.apply(policy("dns", "there", f"{{podSelector: {{}}, egress: {rules}}}"))
    eventually("DNS alone is open", lambda: "timed out" in cluster.fetch("there"))
    server = "{namespaceSelector: {}, podSelector: {matchLabels: {app: server}}}"
    cluster.apply(policy("out", "there", f"{{podSelector: {{}}, egress: [{{to: [{server}]}}]}}"))
    eventually("and the server", lambda: open_from("there") and not reaches_api())
    for namespace in ("here", "there"):
        cluster.kubectl("delete", "networkpolicy", "--all", "-n", namespace)
    eventually("all is open again", lambda: open_from("here") and open_from("there"))


def fence(cluster: Cluster) -> None:
    """No packet of a pod leaves the machine: a stand-in beyond the host's wire sees none."""
    beyond = "198.51.100.1"  # TEST-NET-2 (RFC 5737), on the host's loopback
    subprocess.run(["ip", "addr", "add", f"{beyond}/32", "dev", "lo"], check=True)
    ns = ["ip", "-n", cluster.settings.netns, "route"]
    try:
        for route in ([], [*ns, "add", f"{beyond}/32", "via", cluster.settings.host_ip]):
            if route:  # even with a route there
                subprocess.run(route, check=True)
            answer = cluster.execute("there", CONNECT, beyond, str(_listening_port(beyond)))
            assert answer.startswith("BLOCKED"), answer
            print(f"ok beyond the machine, {'a' if route else 'no'} route: {answer}")
        answer = cluster.execute("there", CONNECT, cluster.settings.host_ip, str(_listening_port()))
        assert answer == "OPEN", answer
        subprocess.run([*ns, "del", f"{beyond}/32"], check=True)
        cluster.call("up", environment={"EGRESS": "1"})
        answer = cluster.execute("there", CONNECT, beyond, str(_listening_port(beyond)))
        assert answer == "OPEN", answer
        cluster.call("up")
        answer = cluster.execute("there", CONNECT, beyond, str(_listening_port(beyond)))
        assert answer.startswith("BLOCKED"), answer
        print("ok EGRESS=1 opens the fence, up without it closes it")
    finally:
        subprocess.run(["ip", "addr", "del", f"{beyond}/32", "dev", "lo"], check=True)
        subprocess.run([*ns, "del", f"{beyond}/32"], check=False, stderr=subprocess.DEVNULL)


_LISTENERS: list[socket.socket] = []


def _listening_port(address: str = "") -> int:
    server = socket.create_server((address, 0))
    _LISTENERS.append(server)
    return int(server.getsockname()[1])


def charts(cluster: Cluster) -> None:
    with tempfile.TemporaryDirectory() as folder:
        chart = Path(folder)
        (chart / "templates").mkdir()
        (chart / "Chart.yaml").write_text("{apiVersion: v2, name: trivial, version: 0.1.0}")
        (chart / "templates" / "map.yaml").write_text(
            "{apiVersion: v1, kind: ConfigMap, metadata: {name: trivial}, data: {a: b}}"
        )
        cluster.call("helm", "--", "upgrade", "--install", "trivial", folder, "--wait")
    assert cluster.kubectl("get", "configmap", "trivial", "-o", "jsonpath={.data.a}") == "b"


def kill_everything(cluster: Cluster) -> None:
    """Every process of the cluster by its pid, then its network."""
    settings = cluster.settings
    pids = [pid for pid in node.Node(settings).processes().values() if pid]
    shims = find(["-address", str(settings.containerd_socket)])
    pids += [record.pid for record in [*shims, *cgroups.members(settings.cgroup)]]
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue  # went with its parent
    subprocess.run(["ip", "-n", settings.netns, "link", "del", settings.bridge], check=True)
    subprocess.run(["ip", "netns", "del", settings.netns], check=True)
    print(f"killed {len(pids)} processes, removed the bridge and its namespace")


def visits(cluster: Cluster) -> int:
    found = re.search(r"visit (\d+)", cluster.fetch("here"))
    return int(found.group(1)) if found else 0


def heals(cluster: Cluster) -> None:
    before = visits(cluster)
    kill_everything(cluster)
    with timed("up after all was killed"):
        cluster.call("up")
    eventually("pods run again, their data kept", lambda: visits(cluster) > before > 0, 60)


def volume_removed(cluster: Cluster) -> None:
    folders = list(cluster.settings.volumes.iterdir())
    assert len(folders) == 1, folders
    cluster.kubectl("delete", "namespace", "here", "there", "--wait=true")
    eventually("the volume went with its claim", lambda: not folders[0].exists())


def nothing_left(settings: Settings, before: dict[str, str]) -> None:
    after = machine()
    for part, text in before.items():
        assert after[part] == text, f"{part} differs:\n{text}\n---\n{after[part]}"
    assert not settings.state.exists()
    assert not settings.run.exists()
    assert not mounts.mounts_below(settings.state, settings.run)


def machine() -> dict[str, str]:
    """What a cluster could leave behind on the machine."""

    def said(*argv: str) -> str:
        return subprocess.run(argv, capture_output=True, text=True, check=True).stdout

    folders = (
        "/run/netns",
        "/var/lib/cni/results",
        "/run/containerd/s",
        "/run/tenantplane",
        "/var/lib/tenantplane",
        "/var/log/containers",
        str(Path.home() / ".kube"),
        "/etc/cni/net.d",
    )
    listed = {
        folder: sorted(str(entry) for entry in Path(folder).iterdir())
        for folder in folders
        if Path(folder).exists()
    }
    return {
        "links": said("ip", "-br", "link"),
        "routes": said("ip", "route", "show", "table", "all"),
        "nft": said("nft", "list", "tables"),
        "mounts": said("findmnt", "-rno", "TARGET"),
        "folders": str({folder: names for folder, names in listed.items() if names}),
        "cgroups": str(sorted(str(path) for path in cgroups.ROOT.glob("*/tp-*"))),
        "processes": str(len(find(["containerd-shim-runc-v2"]))),
        "sysctl": Path("/proc/sys/vm/overcommit_memory").read_text(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--name", default="acceptance")
    name = parser.parse_args().name
    first, second = Cluster(name), Cluster(f"{name}-2")
    before = machine()
    with timed("up, binaries in the cache"):
        first.call("up")
    with timed("up again"):
        first.call("up")
    with timed("image, workload, DNS, exec, logs, claim"):
        workloads(first)
    from_the_host(first)
    with timed("policies"):
        policies(first)
    with timed("fence"):
        fence(first)
    with timed("helm"):
        charts(first)
    heals(first)
    with timed("policies after healing"):
        policies(first)
    with timed("a second cluster beside it"):
        second.call("up")
        workloads(second)
        policies(second)
    assert visits(first) > 0
    volume_removed(first)
    first_settings, second_settings = first.settings, second.settings
    with timed("down, the first"):
        first.call("down")
    assert visits(second) > 0
    with timed("down, the second"):
        second.call("down")
    nothing_left(first_settings, before)
    nothing_left(second_settings, before)
    print("all accepted")


if __name__ == "__main__":
    main()
