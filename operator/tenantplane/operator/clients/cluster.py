"""Finds the cluster as kubectl would: the service account in a pod, else KUBECONFIG."""

from __future__ import annotations

from kubernetes.aio import client, config


async def connect() -> client.ApiClient:
    """To be closed by the caller."""
    await config.load_config()  # type: ignore[no-untyped-call]  # the package types its client alone
    return client.ApiClient()


async def disconnect(api: client.ApiClient) -> None:
    await api.close()  # type: ignore[no-untyped-call]
