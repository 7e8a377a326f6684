"""`tenantplane-operator`: reconciles Tenant and Plan with the registry."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
from typing import Any

import kopf

from tenantplane.core.errors import TenantplaneError
from tenantplane.core.registry import RegistryClient
from tenantplane.operator.clients import cluster
from tenantplane.operator.clients.events import EventWriter
from tenantplane.operator.clients.status import StatusWriter
from tenantplane.operator.handlers import plans, tenants
from tenantplane.operator.handlers.reconciler import Reconciler
from tenantplane.operator.settings import OperatorSettings

__all__ = ["main", "plans", "tenants"]  # importing the handlers registers them with kopf

FINALIZER = "tenantplane.io/registry"
# A line per call, per timer and per probe says nothing that the events do not.
_CHATTY = ("httpx2", "kopf.objects", "kopf.activities", "aiohttp.access")


@kopf.on.startup()
async def start(settings: kopf.OperatorSettings, memo: Any, **_: Any) -> None:
    ours = OperatorSettings.from_environment()
    settings.persistence.finalizer = FINALIZER
    settings.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix="tenantplane.io")
    settings.persistence.diffbase_storage = kopf.AnnotationsDiffBaseStorage(prefix="tenantplane.io")
    # Events are ours to write (clients/events.py); kopf's log lines as events would double them.
    settings.posting.enabled = False
    # kopf's own limit counts workers that only wait for more events: it would let objects through
    # sixteen in five seconds. What is bounded is the work: Reconciler.turns.
    settings.batching.worker_limit = None
    # A watch that the API server silently dropped is opened anew (F53).
    settings.watching.server_timeout = 300
    settings.watching.client_timeout = 330
    settings.watching.connect_timeout = 10
    registry = RegistryClient(ours.control_plane_url, ours.platform_key)
    turns = asyncio.Semaphore(ours.reconciles_at_once)
    memo.cluster = await cluster.connect()
    memo.reconciler = Reconciler(
        ours, registry, StatusWriter(memo.cluster), EventWriter(memo.cluster), turns
    )


@kopf.on.cleanup()
async def stop(memo: Any, **_: Any) -> None:
    await memo.reconciler.registry.close()
    await cluster.disconnect(memo.cluster)


@kopf.on.probe(id="registry")
async def registry_probe(memo: Any, **_: Any) -> str:
    """What liveness shows; the registry being away is no reason to restart the operator."""
    try:
        await memo.reconciler.registry.plans()
    except TenantplaneError as error:
        return f"unreachable: {error.error_code}"
    return "reachable"


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="tenantplane-operator",
        description="Turns Tenant and Plan objects into rows of the registry.",
        epilog="example: KUBECONFIG=… TENANTPLANE_CONTROL_PLANE_URL=… "
        "TENANTPLANE_PLATFORM_KEY=… tenantplane-operator",
    )
    parser.add_argument(
        "--liveness", default=None, help="address, e.g. http://0.0.0.0:8080/healthz"
    )
    arguments = parser.parse_args()
    try:
        OperatorSettings.from_environment()
    except TenantplaneError as error:
        sys.exit(str(error))
    kopf.configure(log_format=kopf.LogFormat.JSON)
    for chatty in _CHATTY:
        logging.getLogger(chatty).setLevel(logging.WARNING)
    # One replica, fenced by the registry's uid and generation; peering would need its own CRD.
    kopf.run(clusterwide=True, standalone=True, liveness_endpoint=arguments.liveness)


if __name__ == "__main__":
    main()
