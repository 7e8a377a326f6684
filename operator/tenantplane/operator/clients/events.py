"""Writes Kubernetes events that `kubectl describe` finds.

kopf's own events name the namespace `default` in the reference to a cluster-scoped object, which
then matches nothing that describe asks for; they also carry no component of ours.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from kubernetes.aio import client

# Where events about cluster-scoped objects live.
_NAMESPACE = "default"
_COMPONENT = "tenantplane-operator"
# The API server's bound on `message`.
_LONGEST_MESSAGE = 1024


@dataclass(frozen=True, slots=True)
class Event:
    type: Literal["Normal", "Warning"]
    reason: str
    message: str


class EventWriter:
    def __init__(self, api: client.ApiClient) -> None:
        self._core = client.CoreV1Api(api)
        self._instance = socket.gethostname()  # in a pod, its name

    async def write(self, about: Mapping[str, Any], event: Event, now: datetime) -> None:
        """`about` is the object's body: its apiVersion, kind and metadata."""
        metadata = about["metadata"]
        await self._core.create_namespaced_event(
            _NAMESPACE,
            client.CoreV1Event(
                metadata=client.V1ObjectMeta(generate_name=f"{metadata['name']}."),
                involved_object=client.V1ObjectReference(
                    api_version=str(about["apiVersion"]),
                    kind=str(about["kind"]),
                    name=str(metadata["name"]),
                    uid=str(metadata["uid"]),
                ),
                type=event.type,
                reason=event.reason,
                message=event.message[:_LONGEST_MESSAGE],
                first_timestamp=now,
                last_timestamp=now,
                count=1,
                source=client.V1EventSource(component=_COMPONENT),
                reporting_component=_COMPONENT,
                reporting_instance=self._instance,
            ),
        )
