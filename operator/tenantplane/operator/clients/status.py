"""Writes status by server-side apply: merge-patch would replace the list of conditions."""

from __future__ import annotations

from typing import Any

from kubernetes.aio import client
from kubernetes.aio.client.exceptions import ApiException

from tenantplane.core.apis.common import API_VERSION, GROUP, VERSION

FIELD_MANAGER = "tenantplane-operator"


class StatusWriter:
    """Server-side apply of the status subresource, and of nothing else."""

    def __init__(self, api: client.ApiClient) -> None:
        self._objects = client.CustomObjectsApi(api)

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
