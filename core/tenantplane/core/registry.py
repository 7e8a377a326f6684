"""Client of the registry API, for the operator and the CLI alike."""

from __future__ import annotations

import ssl
from types import TracebackType
from typing import Any, Self

import httpx2
from pydantic import SecretStr

from tenantplane.core import errors
from tenantplane.core.apis.access import EntitlementsView, ExplanationView
from tenantplane.core.apis.catalogue import CatalogueRequest, CatalogueView, Kind
from tenantplane.core.apis.raises import ExcessAcknowledged, RaiseRequest, RaiseView
from tenantplane.core.apis.registry import (
    GENERATION_HEADER,
    TAKE_OVER_HEADER,
    WRITER_HEADER,
    ApiKeyCreated,
    ApiKeyRequest,
    ApiKeyView,
    PlaneCreated,
    PlaneRequest,
    PlaneView,
    PlanView,
    TenantView,
)
from tenantplane.core.errors import DependencyUnavailable, FieldError, TenantplaneError

_BY_STATUS: dict[int, type[TenantplaneError]] = {
    400: errors.InvalidInput,
    401: errors.Unauthenticated,
    403: errors.Forbidden,
    404: errors.NotFound,
    409: errors.Conflict,
    422: errors.Unprocessable,
    429: errors.RateLimited,
}


class RegistryClient:
    """`writer` says who writes (see core/apis/registry.py). Safe for concurrent use.

    Raises the leaf of core/errors.py that the answer names, and DependencyUnavailable where the
    control plane cannot be reached or fails.
    """

    def __init__(
        self,
        base_url: str,
        platform_key: SecretStr,
        *,
        timeout_seconds: float = 10.0,
        verify: ssl.SSLContext | bool = True,
    ) -> None:
        self._base_url = base_url
        self._http = httpx2.AsyncClient(
            base_url=base_url,
            headers={"authorization": f"Bearer {platform_key.get_secret_value()}"},
            timeout=timeout_seconds,
            verify=verify,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        await self._http.aclose()

    async def put_tenant(
        self,
        org_id: str,
        spec: dict[str, Any],
        *,
        writer: str,
        generation: int | None = None,
        take_over: bool = False,
    ) -> TenantView:
        """The manifest's spec as it is; the registry validates it."""
        headers = _writer(writer, generation, take_over)
        return TenantView.model_validate(
            await self._call("PUT", f"/v1/tenants/{org_id}", json=spec, headers=headers)
        )

    async def put_plan(
        self,
        name: str,
        spec: dict[str, Any],
        *,
        writer: str,
        generation: int | None = None,
        take_over: bool = False,
    ) -> PlanView:
        headers = _writer(writer, generation, take_over)
        return PlanView.model_validate(
            await self._call("PUT", f"/v1/plans/{name}", json=spec, headers=headers)
        )

    async def tenant(self, org_id: str) -> TenantView:
        return TenantView.model_validate(await self._call("GET", f"/v1/tenants/{org_id}"))

    async def tenants(self) -> list[TenantView]:
        answer = await self._call("GET", "/v1/tenants")
        return [TenantView.model_validate(item) for item in answer["items"]]

    async def plan(self, name: str) -> PlanView:
        return PlanView.model_validate(await self._call("GET", f"/v1/plans/{name}"))

    async def plans(self) -> list[PlanView]:
        answer = await self._call("GET", "/v1/plans")
        return [PlanView.model_validate(item) for item in answer["items"]]

    async def delete_tenant(
        self, org_id: str, *, policy: str, writer: str, generation: int | None = None
    ) -> None:
        await self._call(
            "DELETE",
            f"/v1/tenants/{org_id}",
            params={"policy": policy},
            headers=_writer(writer, generation, False),
        )

    async def delete_plan(self, name: str, *, writer: str, generation: int | None = None) -> None:
        await self._call("DELETE", f"/v1/plans/{name}", headers=_writer(writer, generation, False))

    async def create_key(self, org_id: str, request: ApiKeyRequest) -> ApiKeyCreated:
        body = request.model_dump(mode="json", by_alias=True)
        return ApiKeyCreated.model_validate(
            await self._call("POST", f"/v1/tenants/{org_id}/keys", json=body)
        )

    async def keys(self, org_id: str) -> list[ApiKeyView]:
        answer = await self._call("GET", f"/v1/tenants/{org_id}/keys")
        return [ApiKeyView.model_validate(item) for item in answer["items"]]

    async def revoke_key(self, org_id: str, key_id: str) -> None:
        await self._call("DELETE", f"/v1/tenants/{org_id}/keys/{key_id}")

    async def entitlements(self, org_id: str) -> EntitlementsView:
        return EntitlementsView.model_validate(
            await self._call("GET", f"/v1/tenants/{org_id}/entitlements")
        )

    async def explain(
        self,
        org_id: str,
        kind: Kind,
        name: str,
        *,
        roles: tuple[str, ...] | None = None,
        key_id: str | None = None,
        user_id: str | None = None,
    ) -> ExplanationView:
        """`roles` None: those of the key or of the user's keys, and else not known."""
        asked = {"kind": kind, "name": name, "key_id": key_id, "user_id": user_id}
        asked["no_roles"] = "true" if roles == () else None
        params: dict[str, Any] = {field: value for field, value in asked.items() if value}
        path = f"/v1/tenants/{org_id}/entitlements/explain"
        return ExplanationView.model_validate(
            await self._call("GET", path, params=params | {"roles": list(roles or ())})
        )

    async def raise_caps(self, org_id: str, request: RaiseRequest) -> RaiseView:
        body = request.model_dump(mode="json", by_alias=True, exclude_none=True)
        return RaiseView.model_validate(
            await self._call("POST", f"/v1/tenants/{org_id}/raises", json=body)
        )

    async def raises(self, org_id: str) -> list[RaiseView]:
        answer = await self._call("GET", f"/v1/tenants/{org_id}/raises")
        return [RaiseView.model_validate(item) for item in answer["items"]]

    async def end_raise(self, org_id: str, raise_id: str) -> RaiseView:
        return RaiseView.model_validate(
            await self._call("DELETE", f"/v1/tenants/{org_id}/raises/{raise_id}")
        )

    async def acknowledge_excess(self, org_id: str) -> ExcessAcknowledged:
        return ExcessAcknowledged.model_validate(
            await self._call("POST", f"/v1/tenants/{org_id}/excess/acknowledge")
        )

    async def put_entry(self, kind: Kind, name: str, request: CatalogueRequest) -> CatalogueView:
        body = request.model_dump(mode="json", by_alias=True, exclude_none=True)
        return CatalogueView.model_validate(
            await self._call("PUT", f"/v1/catalogue/{kind}/{name}", json=body)
        )

    async def entry(self, kind: Kind, name: str) -> CatalogueView:
        return CatalogueView.model_validate(await self._call("GET", f"/v1/catalogue/{kind}/{name}"))

    async def entries(self, kind: Kind) -> list[CatalogueView]:
        answer = await self._call("GET", "/v1/catalogue", params={"kind": kind})
        return [CatalogueView.model_validate(item) for item in answer["items"]]

    async def withdraw_entry(self, kind: Kind, name: str, version: int | None) -> CatalogueView:
        params = {} if version is None else {"version": version}
        return CatalogueView.model_validate(
            await self._call("DELETE", f"/v1/catalogue/{kind}/{name}", params=params)
        )

    async def planes(self) -> list[PlaneView]:
        answer = await self._call("GET", "/v1/planes")
        return [PlaneView.model_validate(item) for item in answer["items"]]

    async def put_plane(self, name: str, request: PlaneRequest) -> PlaneCreated:
        body = request.model_dump(mode="json", by_alias=True)
        return PlaneCreated.model_validate(await self._call("PUT", f"/v1/planes/{name}", json=body))

    async def _call(self, method: str, path: str, **request: Any) -> Any:
        try:
            response = await self._http.request(method, path, **request)
        except httpx2.HTTPError as error:
            raise DependencyUnavailable(
                f"The control plane at {self._base_url} does not answer ({type(error).__name__}).",
                hint="Check that it runs and that the address is right.",
                code="control_plane_unavailable",
                retry_after_seconds=2,
            ) from None
        if response.is_success:
            return response.json() if response.content else {}
        raise _error_of(response)


def _writer(writer: str, generation: int | None, take_over: bool) -> dict[str, str]:
    headers = {WRITER_HEADER: writer}
    if generation is not None:
        headers[GENERATION_HEADER] = str(generation)
    if take_over:
        headers[TAKE_OVER_HEADER] = "true"
    return headers


def _error_of(response: httpx2.Response) -> TenantplaneError:
    kind = _BY_STATUS.get(response.status_code, DependencyUnavailable)
    try:
        problem = response.json()
        detail, code = str(problem["detail"]), str(problem["code"])
    except (ValueError, KeyError, TypeError):
        return kind(
            f"The control plane answered {response.status_code} without a problem document."
        )
    return kind(
        detail,
        code=code,
        hint=problem.get("hint"),
        errors=tuple(FieldError(e["path"], e["message"]) for e in problem.get("errors", ())),
    )
