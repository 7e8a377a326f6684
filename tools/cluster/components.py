"""The command line and configuration of each component of the node. Pure.

All addresses are inside the node's network namespace: loopback there is neither
the host's nor any pod's.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from tools.cluster.certificates import Certificates
from tools.cluster.settings import Settings

ETCD = "https://127.0.0.1:2379"
ETCD_PEER = "https://127.0.0.1:2380"


def etcd(settings: Settings, certs: Certificates) -> list[str]:
    return [
        "etcd",
        "--name=node",
        f"--data-dir={settings.state}/etcd",
        f"--listen-client-urls={ETCD}",
        f"--advertise-client-urls={ETCD}",
        f"--listen-peer-urls={ETCD_PEER}",
        f"--initial-advertise-peer-urls={ETCD_PEER}",
        f"--initial-cluster=node={ETCD_PEER}",
        *_etcd_tls(certs, ""),
        *_etcd_tls(certs, "peer-"),
        "--log-level=warn",
    ]


def apiserver(settings: Settings, certs: Certificates) -> list[str]:
    return [
        "kube-apiserver",
        f"--advertise-address={settings.node_ip}",
        "--secure-port=6443",
        f"--tls-cert-file={certs.cert('apiserver')}",
        f"--tls-private-key-file={certs.key('apiserver')}",
        f"--client-ca-file={certs.cert('ca')}",
        f"--etcd-servers={ETCD}",
        f"--etcd-cafile={certs.cert('etcd-ca')}",
        f"--etcd-certfile={certs.cert('apiserver-etcd')}",
        f"--etcd-keyfile={certs.key('apiserver-etcd')}",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--allow-privileged=true",
        "--kubelet-preferred-address-types=InternalIP",
        f"--kubelet-certificate-authority={certs.cert('ca')}",
        f"--kubelet-client-certificate={certs.cert('apiserver-kubelet')}",
        f"--kubelet-client-key={certs.key('apiserver-kubelet')}",
        f"--service-cluster-ip-range={settings.service_cidr}",
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        f"--service-account-key-file={certs.key('service-account')}",
        f"--service-account-signing-key-file={certs.key('service-account')}",
        "--profiling=false",
    ]


def controller_manager(settings: Settings, certs: Certificates) -> list[str]:
    kubeconfig = certs.kubeconfig("controller-manager")
    return [
        "kube-controller-manager",
        f"--kubeconfig={kubeconfig}",
        f"--authentication-kubeconfig={kubeconfig}",
        f"--authorization-kubeconfig={kubeconfig}",
        "--bind-address=127.0.0.1",
        "--leader-elect=false",
        "--use-service-account-credentials=true",
        f"--root-ca-file={certs.cert('ca')}",
        f"--cluster-signing-cert-file={certs.cert('ca')}",
        f"--cluster-signing-key-file={certs.key('ca')}",
        f"--service-account-private-key-file={certs.key('service-account')}",
        f"--cluster-name={settings.name}",
        "--profiling=false",
    ]


def scheduler(certs: Certificates) -> list[str]:
    kubeconfig = certs.kubeconfig("scheduler")
    return [
        "kube-scheduler",
        f"--kubeconfig={kubeconfig}",
        f"--authentication-kubeconfig={kubeconfig}",
        f"--authorization-kubeconfig={kubeconfig}",
        "--bind-address=127.0.0.1",
        "--leader-elect=false",
        "--profiling=false",
    ]


def kubelet(settings: Settings, certs: Certificates) -> list[str]:
    return [
        "kubelet",
        f"--config={settings.configs}/kubelet.json",
        f"--kubeconfig={certs.kubeconfig('kubelet')}",
        f"--root-dir={settings.kubelet_root}",
        f"--hostname-override={settings.node_name}",
        f"--node-ip={settings.node_ip}",
    ]


def kubelet_config(settings: Settings, certs: Certificates) -> str:
    endpoint = f"unix://{settings.containerd_socket}"
    fields: dict[str, object] = {
        "address": settings.node_ip,
        "healthzBindAddress": "127.0.0.1",
        "containerRuntimeEndpoint": endpoint,
        "imageServiceEndpoint": endpoint,
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(certs.cert("ca"))},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(certs.cert("kubelet-server")),
        "tlsPrivateKeyFile": str(certs.key("kubelet-server")),
        "clusterDomain": "cluster.local",
        "clusterDNS": [settings.dns_ip],
        "resolvConf": str(settings.configs / "resolv.conf"),
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{settings.cgroup}",
        "failSwapOn": False,
        # cgroup v1 is in maintenance mode, and still what some machines have.
        "failCgroupV1": False,
        # Our logs and volumes are the machine's: a full disk must not evict the demo early.
        "evictionHard": {
            "memory.available": "100Mi",
            "nodefs.available": "1%",
            "nodefs.inodesFree": "1%",
            "imagefs.available": "1%",
            "imagefs.inodesFree": "1%",
        },
        # Never collect images: there is no registry to pull them from again.
        "imageGCHighThresholdPercent": 100,
        "maxPods": 200,
        # Static pods are not used; volume plugins not either.
        "volumePluginDir": str(settings.kubelet_root / "volume-plugins"),
        "podLogsDir": str(settings.state / "pod-logs"),
        "nodeStatusUpdateFrequency": "10s",
        "serializeImagePulls": False,
        "registerNode": True,
        "shutdownGracePeriod": "0s",
    }
    return _config("kubelet.config.k8s.io/v1beta1", "KubeletConfiguration", fields)


def proxy(settings: Settings) -> list[str]:
    return ["kube-proxy", f"--config={settings.configs}/proxy.json"]


def proxy_config(settings: Settings, certs: Certificates) -> str:
    fields: dict[str, object] = {
        "clientConnection": {"kubeconfig": str(certs.kubeconfig("proxy"))},
        "mode": "nftables",
        "clusterCIDR": settings.pod_cidr,
        "hostnameOverride": settings.node_name,
        "healthzBindAddress": "127.0.0.1:10256",
        "metricsBindAddress": "127.0.0.1:10249",
        # Zero leaves the kernel's own values: a network namespace may not set them.
        "conntrack": {
            "maxPerCore": 0,
            "min": 0,
            "tcpEstablishedTimeout": "0s",
            "tcpCloseWaitTimeout": "0s",
        },
    }
    return _config("kubeproxy.config.k8s.io/v1alpha1", "KubeProxyConfiguration", fields)


def write_plan(
    settings: Settings, certs: Certificates, containerd: str, cni: str, resolv_conf: str
) -> Mapping[Path, str]:
    """Every configuration file of the node."""
    return {
        settings.configs / "containerd.toml": containerd,
        settings.configs / "cni" / "10-tenantplane.conflist": cni,
        settings.configs / "kubelet.json": kubelet_config(settings, certs),
        settings.configs / "proxy.json": proxy_config(settings, certs),
        settings.configs / "resolv.conf": resolv_conf,
    }


def _etcd_tls(certs: Certificates, prefix: str) -> list[str]:
    return [
        f"--{prefix}cert-file={certs.cert('etcd')}",
        f"--{prefix}key-file={certs.key('etcd')}",
        f"--{prefix}trusted-ca-file={certs.cert('etcd-ca')}",
        f"--{prefix}client-cert-auth",
    ]


def _config(api_version: str, kind: str, fields: dict[str, object]) -> str:
    return json.dumps({"apiVersion": api_version, "kind": kind, **fields}, indent=2) + "\n"
