"""Tenants and plans as a Kubernetes user meets them, on the real API server with real pods."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from tenantplane.core.apis.registry import ApiKeyRequest
from tools.cluster.errors import ClusterError
from tools.release import NAMESPACE, RELEASE, Release

API = "tenantplane.io/v1alpha1"


def _tenant(name: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": API,
        "kind": "Tenant",
        "metadata": {"name": name},
        "spec": {"plan": "starter", **spec},
    }


def _apply(release: Release, *documents: dict[str, Any]) -> str:
    return release.kubectl("apply", "-f", "-", stdin="\n---\n".join(map(json.dumps, documents)))


def _object(release: Release, kind: str, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(release.kubectl("get", kind, name, "-o", "json"))
    return found


def _condition(release: Release, kind: str, name: str, wanted: str = "Ready") -> dict[str, Any]:
    conditions = _object(release, kind, name).get("status", {}).get("conditions", [])
    return next((c for c in conditions if c["type"] == wanted), {"status": None, "reason": None})


def _until(seen: Callable[[], bool], what: str, seconds: float = 30) -> float:
    """Polls the real state; returns the seconds that it took."""
    started = time.monotonic()
    while not seen():
        assert time.monotonic() - started < seconds, f"not within {seconds} s: {what}"
        time.sleep(0.2)
    return time.monotonic() - started


@pytest.mark.req("R80", "R84")
def test_an_applied_tenant_becomes_ready_and_says_so(release: Release) -> None:
    _apply(release, _tenant("quick"))
    release.kubectl("wait", "tenant/quick", "--for=condition=Ready", "--timeout=30s")
    columns = release.kubectl("get", "tenants", "quick").splitlines()
    assert columns[0].split() == ["NAME", "PLAN", "ISOLATION", "PLANE", "READY", "REASON", "AGE"]
    assert columns[1].split()[1:6] == ["starter", "shared", "shared-1", "True", "Serving"]
    described = release.kubectl("describe", "tenant", "quick")
    assert "Ready=True: served at" in described.partition("Events:")[2]
    release.kubectl("delete", "tenant", "quick", "--timeout=60s")


def test_the_live_database_is_verified_and_kubectl_says_so(release: Release) -> None:
    path = '{.status.conditions[?(@.type=="IsolationVerified")].status}'

    def said() -> str:
        return release.kubectl("get", "tenant", "acme", "-o", f"jsonpath={path}").strip()

    # The operator looks again each 20 s; the plane's first report may come after its first look.
    _until(lambda: said() == "True", "IsolationVerified", 90)
    condition = _condition(release, "tenant", "acme", "IsolationVerified")
    assert condition["reason"] == "Verified"
    assert "nothing is refused" in condition["message"]


@pytest.mark.req("R84")
@pytest.mark.parametrize(
    ("offer", "message"),
    [
        ({}, "outputUSDPerMillionTokens is required for kind: chat"),
        ({"kind": "embedding"}, "dimensions is required for kind: embedding"),
        ({"kind": "embedding", "dimensions": 2001}, "less than or equal to 2000"),
        (
            {"kind": "embedding", "dimensions": 2, "outputUSDPerMillionTokens": "1"},
            "an embedding model has no output",
        ),
    ],
    ids=["no-output-price", "no-dimensions", "too-long", "output-price"],
)
def test_an_offer_that_means_nothing_is_refused_with_what_to_do(
    release: Release, offer: dict[str, Any], message: str
) -> None:
    model = {"name": "a", "inputUSDPerMillionTokens": "1", **offer}
    plan = {"apiVersion": API, "kind": "Plan", "metadata": {"name": "bad"}}
    with pytest.raises(ClusterError, match=message):
        _apply(release, plan | {"spec": {"prices": {"models": [model]}}})


@pytest.mark.req("R84")
def test_every_field_is_explained(release: Release) -> None:
    said = release.kubectl("explain", "tenant.spec.limits")
    assert "hardCapUSD" in said
    assert "never passes" in said


@pytest.mark.req("R84")
@pytest.mark.fault("F55")
@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"hardcap": "1"}, "unknown field"),
        ({"limits": {"hardCapUSD": "-1"}}, "should match"),
        ({"limits": {"softCapUSD": "2", "hardCapUSD": "1"}}, "softCapUSD is above hardCapUSD"),
        ({"dedicated": {"placement": "namespace"}}, "dedicated is for isolation: dedicated"),
        ({"isolation": "somewhere"}, "Unsupported value"),
    ],
)
def test_a_bad_manifest_is_refused_with_what_to_do(
    release: Release, spec: dict[str, Any], message: str
) -> None:
    with pytest.raises(ClusterError, match=message):
        _apply(release, _tenant("bad", **spec))


@pytest.mark.req("R84")
@pytest.mark.fault("F55")
def test_an_immutable_field_stays(release: Release) -> None:
    with pytest.raises(ClusterError, match="region is immutable"):
        release.kubectl(
            "patch", "tenant", "acme", "--type", "merge", "-p", '{"spec": {"region": "mars"}}'
        )
    assert _condition(release, "tenant", "acme")["status"] == "True"


def test_an_unknown_plan_is_a_condition_and_the_last_good_state_stays(release: Release) -> None:
    release.kubectl("patch", "tenant", "globex", "--type", "merge", "-p", '{"spec": {"plan": "x"}}')
    try:
        _until(
            lambda: _condition(release, "tenant", "globex")["reason"] == "UnknownPlan",
            "reason UnknownPlan",
        )
        assert "starter" in _condition(release, "tenant", "globex")["message"]
    finally:
        release.kubectl("apply", "-f", "examples/first/")
    release.kubectl("wait", "tenant/globex", "--for=condition=Ready", "--timeout=60s")


def test_a_plan_in_use_is_kept_and_says_by_whom(release: Release) -> None:
    plan = _object(release, "plan", "starter")
    spare = {
        "apiVersion": API,
        "kind": "Plan",
        "metadata": {"name": "spare"},
        "spec": plan["spec"],
    }
    _apply(release, spare, _tenant("user-of-spare", plan="spare"))
    release.kubectl("wait", "tenant/user-of-spare", "--for=condition=Ready", "--timeout=60s")
    release.kubectl("delete", "plan", "spare", "--wait=false")
    _until(lambda: _condition(release, "plan", "spare")["reason"] == "PlanInUse", "PlanInUse")
    assert "user-of-spare" in _condition(release, "plan", "spare")["message"]
    release.kubectl("delete", "tenant", "user-of-spare", "--timeout=60s")
    release.kubectl("wait", "plan/spare", "--for=delete", "--timeout=90s")


def test_dedicated_isolation_says_that_it_is_not_there_yet(release: Release) -> None:
    _apply(release, _tenant("alone", isolation="dedicated"))
    _until(
        lambda: _condition(release, "tenant", "alone")["reason"] == "NotYetSupported",
        "reason NotYetSupported",
    )
    assert _condition(release, "tenant", "alone")["status"] == "False"
    release.kubectl("delete", "tenant", "alone", "--timeout=60s")


@pytest.mark.req("R16", "R22", "R83")
async def test_a_plan_patched_changes_tools_and_suspension_stops_requests(release: Release) -> None:
    restarts = _restarts(release)
    _apply(release, _tenant("living"))
    release.kubectl("wait", "tenant/living", "--for=condition=Ready", "--timeout=30s")
    async with release.registry() as registry:
        key = await registry.create_key("living", ApiKeyRequest(name="e2e", user_id="ada"))
    headers = {"authorization": f"Bearer {key.secret}"}
    with (
        release.port_forward("dataplane") as url,
        httpx2.Client(base_url=url, headers=headers) as http,
    ):

        def note() -> httpx2.Response:
            return http.post(
                "/v1/chat/completions",
                json={
                    "model": "agent/assistant-1",
                    "max_tokens": 200,
                    "messages": [{"role": "user", "content": "Remember: tea at five."}],
                },
                timeout=30,
            )

        def records(response: httpx2.Response) -> int:
            listed = response.headers.get("x-tenantplane-audit-records", "")
            return len([r for r in listed.split(",") if r.strip()])

        _until(lambda: note().status_code == 200, "the key is known to the plane")
        assert records(note()) == 1  # the model alone: notes is not on the list
        tools = '{"spec": {"entitlements": {"tools": ["clock", "notes"]}}}'
        release.kubectl("patch", "plan", "starter", "--type", "merge", "-p", tools)
        try:
            _until(lambda: records(note()) == 3, "model, tool, model", 10)
        finally:
            release.kubectl("apply", "-f", "examples/first/")
        _until(lambda: records(note()) == 1, "the tool is gone again", 10)

        suspend = '{"spec": {"suspended": true}}'
        release.kubectl("patch", "tenant", "living", "--type", "merge", "-p", suspend)
        _until(lambda: note().status_code == 403, "suspended", 10)
        _until(
            lambda: _condition(release, "tenant", "living")["reason"] == "Suspended", "condition"
        )
        resume = '{"spec": {"suspended": false}}'
        release.kubectl("patch", "tenant", "living", "--type", "merge", "-p", resume)
        _until(lambda: note().status_code == 200, "resumed", 10)
        release.kubectl("delete", "tenant", "living", "--timeout=60s")
        _until(lambda: note().status_code in (401, 403, 404), "deleted", 10)
    assert _restarts(release) == restarts


def _restarts(release: Release) -> dict[str, int]:
    pods = json.loads(release.kubectl("-n", NAMESPACE, "get", "pods", "-o", "json"))["items"]
    return {
        pod["metadata"]["name"]: sum(c["restartCount"] for c in pod["status"]["containerStatuses"])
        for pod in pods
        if pod["status"].get("containerStatuses") and pod["status"]["phase"] == "Running"
    }


@pytest.mark.req("R80")
def test_a_hundred_tenants_applied_at_once_all_become_ready(release: Release) -> None:
    names = [f"hundred-{n:03}" for n in range(100)]  # how fast: bench/smoke.py
    _apply(release, *(_tenant(name) for name in names))
    targets = [f"tenant/{name}" for name in names]
    release.kubectl("wait", *targets, "--for=condition=Ready", "--timeout=120s")
    release.kubectl("delete", "tenant", *names, "--timeout=180s")


def test_the_charts_own_test_passes(release: Release) -> None:
    said = release.helm("test", RELEASE, "--timeout", "120s")
    assert "Succeeded" in said


def test_pods_run_restricted(release: Release) -> None:
    """The namespace enforces it; this shows that the label is there and pods came up under it."""
    namespace = _object(release, "namespace", NAMESPACE)
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    pods = json.loads(release.kubectl("-n", NAMESPACE, "get", "pods", "-o", "json"))["items"]
    for pod in pods:
        for container in pod["spec"]["containers"]:
            assert container["securityContext"]["readOnlyRootFilesystem"] is True
