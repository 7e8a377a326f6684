"""Settings of the operator."""

from __future__ import annotations

from pydantic import SecretStr

from tenantplane.core.settings import ServiceSettings


class OperatorSettings(ServiceSettings):
    """TENANTPLANE_CONTROL_PLANE_URL and TENANTPLANE_PLATFORM_KEY are required."""

    # Base URL of the control plane's API.
    control_plane_url: str
    platform_key: SecretStr  # the control plane's TENANTPLANE_BOOTSTRAP_PLATFORM_KEY
    # A handler waits this long for the data plane to apply a change before it asks to be retried:
    # long enough for the usual case, so that one reconcile writes the status once.
    apply_wait_seconds: float = 3.0
    # Reconciles at once; a `kubectl apply` of a thousand tenants must not be a thousand requests.
    reconciles_at_once: int = 16
