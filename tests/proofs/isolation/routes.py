"""The routes of both planes as they are dispatched, and what a caller is told by one of them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Final, cast

import httpx2
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts

from tenantplane.controlplane.app import create_app
from tenantplane.controlplane.services import Services
from tenantplane.dataplane.api.openai import OpenAIApi
from tenantplane.dataplane.api.openai import Route as OpenAIRoute
from tenantplane.dataplane.gate import asgi
from tests.fixtures.isolation import Tenant, TwoTenants

Route = tuple[str, str]  # method and path, parameters in braces

# Differ between any two answers, whatever was asked.
_OWN_TO_EACH_ANSWER: Final = (
    "date",
    "x-request-id",
    "x-tenantplane-run-id",
    "ratelimit",
    "x-ratelimit-remaining-requests",
    "x-ratelimit-remaining-tokens",
    "x-ratelimit-reset-requests",
    "x-ratelimit-reset-tokens",
)


def control_plane_routes() -> set[Route]:
    """Also those that are left out of the OpenAPI document."""
    # Only its limit of bodies is read before a request comes.
    services = SimpleNamespace(settings=SimpleNamespace(max_body_bytes=1))
    return set(_of_fastapi(create_app(cast("Services", services))))


def data_plane_routes(gate: asgi.Gate) -> set[Route]:
    """Raises TypeError where the gate has an application that cannot be enumerated here."""
    routes = {("GET", path) for path in asgi._OPEN}
    for prefix, application in gate._routes:
        if isinstance(application, OpenAIApi):
            found = {route.value for route in OpenAIRoute}
        elif isinstance(application, FastAPI):
            found = set(_of_fastapi(application))
        else:
            raise TypeError(
                f"Tell data_plane_routes in tests/proofs/isolation/routes.py how to enumerate the "
                f"routes of {type(application).__name__} behind {prefix!r}."
            )
        routes |= found
    return routes


def _of_fastapi(app: FastAPI) -> Iterator[Route]:
    for context in iter_route_contexts(app.routes):
        if context.path is None or not context.methods:
            raise TypeError(f"A route of {app.title} has no path or no methods: {context!r}.")
        for method in context.methods - {"HEAD"}:
            # As the OpenAPI document has it: without the converter that lets slashes through.
            yield method, context.path.replace(":path}", "}")


@dataclass(frozen=True, slots=True)
class Told:
    """An answer without what differs between any two: what a caller can learn from it."""

    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def body(self) -> Any:
        return json.loads(self.text)


def told(answer: httpx2.Response, named: Sequence[str] = ()) -> Told:
    """`named` are the ids that the caller sent: an answer may repeat them."""
    text = answer.text
    for run_id in filter(None, [answer.headers.get("x-tenantplane-run-id")]):
        text = text.replace(run_id, "<run>")
    for identifier in named:
        text = text.replace(identifier, "<named>")
    headers = {k: v for k, v in answer.headers.items() if k not in _OWN_TO_EACH_ANSWER}
    return Told(answer.status_code, headers, text)


@dataclass(frozen=True)
class Attack:
    """The intruder's means, and their aims: the victim, and a tenant that never was."""

    tenants: TwoTenants
    never: Tenant
    access_token: str  # of the intruder's user
    plane_token: str  # of a plane that serves neither
    control: httpx2.AsyncClient  # without a credential of their own
    data: httpx2.AsyncClient

    @property
    def victim(self) -> Tenant:
        return self.tenants.victim

    @property
    def aims(self) -> tuple[Tenant, Tenant]:
        return self.victim, self.never

    @property
    def intruder(self) -> Tenant:
        return self.tenants.intruder

    def credentials(self) -> dict[str, str]:
        """With which the intruder is served by the data plane."""
        return {"API key": self.intruder.api_key, "access token": self.access_token}

    async def ask_control(
        self, method: str, path: str, bearer: str | None, **request: Any
    ) -> httpx2.Response:
        return await _ask(self.control, method, path, bearer, request)

    async def ask_data(
        self, method: str, path: str, bearer: str | None, **request: Any
    ) -> httpx2.Response:
        return await _ask(self.data, method, path, bearer, request)

    def require_silence(self, answer: Told) -> None:
        """Nothing of the victim's stands in it."""
        said = answer.text + str(answer.headers)
        assert not [name for name in self.victim.names() if name in said]


async def _ask(
    http: httpx2.AsyncClient, method: str, path: str, bearer: str | None, request: dict[str, Any]
) -> httpx2.Response:
    headers = dict(request.pop("headers", {}))
    if bearer is not None:
        headers["authorization"] = f"Bearer {bearer}"
    return await http.request(method, path, headers=headers, **request)
