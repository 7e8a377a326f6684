"""Certificates and kubeconfigs: made once per cluster, kept while they fit.

Two authorities: ``ca`` for Kubernetes, ``etcd-ca`` for etcd alone, so that no
certificate of the cluster opens the database behind it.
"""

from __future__ import annotations

import datetime
import ipaddress
import json
from base64 import b64encode
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tools.cluster.commands import write
from tools.cluster.settings import Settings

VALID_DAYS = 3650
"""A development cluster is thrown away long before; it must not expire over a weekend."""


@dataclass(frozen=True)
class Subject:
    """Who a certificate is for. An organization is a group to Kubernetes."""

    common_name: str
    organization: str = ""
    names: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    authority: str = "ca"


@dataclass
class Certificates:
    """The files of one cluster's certificates."""

    settings: Settings
    _authorities: dict[str, tuple[x509.Certificate, ec.EllipticCurvePrivateKey]] = field(
        default_factory=dict
    )

    def cert(self, name: str) -> Path:
        return self.settings.certificates / f"{name}.crt"

    def key(self, name: str) -> Path:
        return self.settings.certificates / f"{name}.key"

    def kubeconfig(self, name: str) -> Path:
        return self.settings.configs / f"{name}.kubeconfig"

    def ensure(self) -> None:
        """Make what is missing; a changed address makes a certificate anew."""
        self.settings.certificates.mkdir(parents=True, exist_ok=True, mode=0o700)
        for name, subject in subjects(self.settings).items():
            self._ensure_leaf(name, subject)
        self._ensure_service_account_key()
        for name in ("controller-manager", "scheduler", "proxy", "kubelet", "agent"):
            write(self.kubeconfig(name), self._kubeconfig_text(name), 0o600)
        write(self.settings.kubeconfig, self._kubeconfig_text("admin"), 0o600)

    def _ensure_leaf(self, name: str, subject: Subject) -> None:
        authority = self._authority(subject.authority)
        stamp = self.settings.certificates / f"{name}.subject"
        wanted = f"{subject} {authority[0].serial_number}"
        complete = self.cert(name).exists() and self.key(name).exists()
        if complete and stamp.exists() and stamp.read_text() == wanted:
            return
        key = ec.generate_private_key(ec.SECP256R1())
        cert = _leaf(subject, key, *authority)
        write(self.key(name), _pem_key(key), 0o600)
        write(self.cert(name), cert.public_bytes(serialization.Encoding.PEM))
        write(stamp, wanted)

    def _authority(self, name: str) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
        if name not in self._authorities:
            if not (self.cert(name).exists() and self.key(name).exists()):
                new_key = ec.generate_private_key(ec.SECP256R1())
                write(self.key(name), _pem_key(new_key), 0o600)
                own = _authority(f"tenantplane {self.settings.name} {name}", new_key)
                write(self.cert(name), own.public_bytes(serialization.Encoding.PEM))
            key = serialization.load_pem_private_key(self.key(name).read_bytes(), None)
            assert isinstance(key, ec.EllipticCurvePrivateKey)
            cert = x509.load_pem_x509_certificate(self.cert(name).read_bytes())
            self._authorities[name] = (cert, key)
        return self._authorities[name]

    def _ensure_service_account_key(self) -> None:
        path = self.key("service-account")
        if not path.exists():
            # RSA: the API server signs service account tokens with RS256 by default.
            write(path, _pem_key(rsa.generate_private_key(65537, 2048)), 0o600)

    def _kubeconfig_text(self, user: str) -> str:
        def inline(path: Path) -> str:
            return b64encode(path.read_bytes()).decode()

        name = f"tenantplane-{self.settings.name}"
        cluster = {
            "server": self.settings.api_server,
            "certificate-authority-data": inline(self.cert("ca")),
        }
        credentials = {
            "client-certificate-data": inline(self.cert(user)),
            "client-key-data": inline(self.key(user)),
        }
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": name,
            "clusters": [{"name": name, "cluster": cluster}],
            "users": [{"name": name, "user": credentials}],
            "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        }
        return json.dumps(document, indent=2) + "\n"  # JSON is YAML


def subjects(settings: Settings) -> dict[str, Subject]:
    """Every certificate of the cluster, by file name."""
    node = settings.node_name
    api_names = (
        "localhost",
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
        node,
    )
    api_addresses = (
        "127.0.0.1",
        settings.api_service_ip,
        settings.node_ip,
        settings.uplink_ip,
    )
    loopback = {"names": ("localhost",), "addresses": ("127.0.0.1",), "authority": "etcd-ca"}
    return {
        "apiserver": Subject("kube-apiserver", names=api_names, addresses=api_addresses),
        "apiserver-kubelet": Subject("kube-apiserver-kubelet-client", "system:masters"),
        "apiserver-etcd": Subject("kube-apiserver-etcd-client", authority="etcd-ca"),
        "admin": Subject("kubernetes-admin", "system:masters"),
        "agent": Subject("tenantplane-cluster-agent", "system:masters"),
        "controller-manager": Subject("system:kube-controller-manager"),
        "scheduler": Subject("system:kube-scheduler"),
        "proxy": Subject("system:kube-proxy"),
        "kubelet": Subject(f"system:node:{node}", "system:nodes"),
        "kubelet-server": Subject(node, names=(node,), addresses=(settings.node_ip,)),
        "etcd": Subject("etcd", **loopback),  # type: ignore[arg-type]
    }


def _authority(common_name: str, key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    usage = x509.KeyUsage(True, False, False, False, False, True, True, False, False)
    return (
        _dated(x509.CertificateBuilder())
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )


def _leaf(
    subject: Subject,
    key: ec.EllipticCurvePrivateKey,
    authority: x509.Certificate,
    authority_key: ec.EllipticCurvePrivateKey,
) -> x509.Certificate:
    parts = [x509.NameAttribute(NameOID.COMMON_NAME, subject.common_name)]
    if subject.organization:
        parts.append(x509.NameAttribute(NameOID.ORGANIZATION_NAME, subject.organization))
    purposes = [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
    issuer_key = authority_key.public_key()
    builder = (
        _dated(x509.CertificateBuilder())
        .subject_name(x509.Name(parts))
        .issuer_name(authority.subject)
        .public_key(key.public_key())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        # RFC 5280 §4.2.1.1; Python 3.13 and later refuse a chain without it.
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key), False)
    )
    alternatives: list[x509.GeneralName] = [x509.DNSName(name) for name in subject.names]
    alternatives += [x509.IPAddress(ipaddress.ip_address(one)) for one in subject.addresses]
    if alternatives:
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    return builder.sign(authority_key, hashes.SHA256())


def _dated(builder: x509.CertificateBuilder) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        builder.serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=VALID_DAYS))
    )


def _pem_key(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )
