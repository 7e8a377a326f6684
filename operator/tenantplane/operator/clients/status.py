"""Writes status by server-side apply: merge-patch would replace the list of conditions."""

from __future__ import annotations

from typing import Any, Self

from kubernetes.aio import client, config
from kubernetes.aio.client.exceptions import ApiException

from tenantplane.core.apis.common import API_VERSION, GROUP, VERSION

FIELD_MANAGER = "tenantplane-operator"


class StatusWriter:
    """One client for the operator's life; `connect` finds the cluster as kubectl would."""

    def __init__(self, api: client.ApiClient) -> None:
        self._api = api
        self._objects = client.CustomObjectsApi(api)

    @classmethod
    async def connect(cls) -> Self:
        """In the cluster by the service account, else by KUBECONFIG."""
        await config.load_config()  # type: ignore[no-untyped-call]  # the package types its client alone
        return cls(client.ApiClient())

    async def apply(
        self, kind: str, plural: str, name: str, uid: str, status: dict[str, Any]
    ) -> None:
        """The uid is a precondition: an object made anew under the name is not written to.

        An object that is gone is no error: there is nothing to say about it any more.
        """
        body = {
            "apiVersion": API_VERSION,
            "kind": kind,
            "metadata": {"name": name, "uid": uid},
            "status": status,
        }
        try:
            await self._objects.patch_cluster_custom_object_status(
                GROUP,
                VERSION,
                plural,
                name,
                body,
                field_manager=FIELD_MANAGER,
                force=True,
                _content_type="application/apply-patch+yaml",
            )
        except ApiException as error:
            if error.status not in (404, 409):
                raise

    async def close(self) -> None:
        await self._api.close()  # type: ignore[no-untyped-call]
