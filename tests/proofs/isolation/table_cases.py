"""What each table of both databases is to a tenant: a new table has its case here, or CI fails."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from psycopg import sql

WHERE: Final = "tests/proofs/isolation/table_cases.py"


@dataclass(frozen=True, slots=True)
class TableCase:
    """A table with org_id. Rows of both tenants come from the product's own work; where tenants
    have none by that way, `made_here` has the owner insert them for orgs of this suite, with
    `made_of` as the JSON of their other columns; `{org}` in it is the org."""

    database: str
    table: str
    app_may: str  # as the migrations grant it: a wider grant is a change of this case
    made_here: bool = False
    made_of: str = "{}"
    partitioned: bool = False

    def __str__(self) -> str:
        return self.table

    @property
    def name(self) -> sql.Identifier:
        return sql.Identifier(*self.table.split("."))


READ_ONLY: Final = "SELECT"
ALL: Final = "SELECT, INSERT, UPDATE, DELETE"

TENANT_TABLES: Final = (
    TableCase("control", "controlplane.admin_event", ""),
    TableCase("control", "controlplane.api_key", READ_ONLY),
    TableCase("control", "controlplane.audit_commitment", READ_ONLY),
    TableCase("control", "controlplane.cap_raise", READ_ONLY),
    TableCase("control", "controlplane.issuer", READ_ONLY),
    TableCase("control", "controlplane.level_spend", READ_ONLY),
    TableCase("control", "controlplane.org", READ_ONLY),
    TableCase("control", "controlplane.org_entitlement", READ_ONLY),
    TableCase("control", "controlplane.org_role_bound", READ_ONLY),
    TableCase("control", "controlplane.plane_usage", ""),
    TableCase(
        "control",
        "controlplane.purged_org",
        "",
        made_here=True,
        made_of='{"purged_at": "2026-02-01T00:00:00Z"}',
    ),
    TableCase("control", "controlplane.snapshot", READ_ONLY),
    # Only a tenant that comes near a cap makes such rows.
    TableCase(
        "control",
        "controlplane.spend_alert",
        READ_ONLY,
        made_here=True,
        made_of='{"period": "month", "period_id": "2026-02", "threshold_percent": 50,'
        ' "cap_kind": "hard", "cap_nanousd": 10, "spent_nanousd": 5,'
        ' "raised_at": "2026-02-01T00:00:00Z"}',
    ),
    TableCase("control", "controlplane.usage_event", READ_ONLY),
    # Only a plane that was restored from a backup makes such rows.
    TableCase(
        "data",
        "dataplane.adjustment",
        "",
        made_here=True,
        made_of='{"event_id": "00000000-0000-7000-8000-000000000000", "root_org_id": "{org}",'
        ' "intent_id": "00000000-0000-7000-8000-000000000000", "slots": [], "delta_nanousd": 5,'
        ' "reason": "restored", "occurred_at": "2026-02-01T00:00:00Z",'
        ' "made_at": "2026-02-01T00:00:00Z", "xid": "1"}',
    ),
    TableCase("data", "dataplane.audit_record", READ_ONLY),
    TableCase("data", "dataplane.checkpoint", "SELECT, DELETE"),
    TableCase("data", "dataplane.checkpoint_blob", "SELECT, DELETE"),
    TableCase("data", "dataplane.checkpoint_write", "SELECT, DELETE"),
    TableCase(
        "data",
        "dataplane.chunk",
        ALL,
        made_here=True,
        partitioned=True,
        made_of='{"document_id": "00000000-0000-7000-8000-000000000000", "position": 0,'
        ' "shelf": 0, "embedding_model": "m", "dimensions": 1, "body": "the safe is open",'
        ' "words": "safe", "embedding": "[1]"}',
    ),
    # The shelf that tenants share; one of a tenant's own is in test_shelves.py.
    TableCase(
        "data",
        "dataplane.chunk_0",
        "",
        made_here=True,
        made_of='{"document_id": "00000000-0000-7000-8000-000000000000", "position": 0,'
        ' "shelf": 0, "embedding_model": "m", "dimensions": 1, "body": "the safe is open",'
        ' "words": "safe", "embedding": "[1]"}',
    ),
    TableCase(
        "data",
        "dataplane.document",
        ALL,
        made_here=True,
        made_of='{"document_id": "00000000-0000-7000-8000-000000000000", "name": "will.txt",'
        ' "media_type": "text/plain", "size_bytes": 1, "chunks": 1, "embedding_model": "m",'
        ' "dimensions": 1, "version": 1, "user_id": "u", "created_at": "2026-02-01T00:00:00Z",'
        ' "updated_at": "2026-02-01T00:00:00Z", "sha256":'
        ' "0000000000000000000000000000000000000000000000000000000000000000"}',
    ),
    TableCase("data", "dataplane.intent", READ_ONLY),
    TableCase(
        "data", "dataplane.library", ALL, made_here=True, made_of='{"documents": 1, "chunks": 1}'
    ),
    TableCase("data", "dataplane.note", "SELECT, INSERT"),
    TableCase("data", "dataplane.org_key", "SELECT, INSERT"),
    TableCase("data", "dataplane.outcome", READ_ONLY),
    # Only requests with an Idempotency-Key make such rows.
    TableCase(
        "data",
        "dataplane.request",
        READ_ONLY,
        made_here=True,
        made_of='{"principal": "key:k1", "route": "/v1/chat/completions", "idempotency_key": "1",'
        ' "fingerprint": "\\\\x0000000000000000000000000000000000000000000000000000000000000000",'
        ' "run_id": "00000000-0000-7000-8000-000000000000", "status": "done", "response": "-",'
        ' "lease_until": "2026-02-01T00:00:00Z", "created_at": "2026-02-01T00:00:00Z",'
        ' "expires_at": "2026-02-01T00:00:00Z"}',
    ),
    # Only a control plane that refuses what it took before makes such rows.
    TableCase(
        "data",
        "dataplane.shipping_refused",
        "",
        made_here=True,
        made_of='{"stream": "usage", "row_id": "00000000-0000-7000-8000-000000000000",'
        ' "reason": "event_changed", "refused_at": "2026-02-01T00:00:00Z"}',
    ),
    TableCase("data", "dataplane.shelf", READ_ONLY, made_here=True, made_of='{"shelf": 1048576}'),
    TableCase("data", "dataplane.snapshot", ""),
    # Operators make sources by a command: no tenant's work does.
    TableCase(
        "data",
        "dataplane.sql_source",
        READ_ONLY,
        made_here=True,
        made_of='{"name": "crm", "schema_name": "src_00000000000000000000000000000000",'
        ' "definition": {"tables": []}, "made_at": "2026-02-01T00:00:00Z"}',
    ),
    # Only graphs that keep items across threads make such rows.
    TableCase(
        "data",
        "dataplane.store_item",
        ALL,
        made_here=True,
        made_of='{"namespace": "{org}::safe", "key": "combination", "body": "-",'
        ' "created_at": "2026-02-01T00:00:00Z", "updated_at": "2026-02-01T00:00:00Z"}',
    ),
    TableCase("data", "dataplane.thread", ALL),
    # Rolled seconds after the calls of the suite's tenants, or not yet.
    TableCase(
        "data",
        "dataplane.spend_roll",
        "",
        made_here=True,
        made_of='{"root_org_id": "{org}", "kind": "org", "id": "{org}", "period": "month",'
        ' "period_id": "2026-02", "period_end_unix": 1772323200, "nanousd": 5}',
    ),
    TableCase(
        "data",
        "dataplane.usage_roll",
        "",
        made_here=True,
        made_of='{"root_org_id": "{org}", "events": 1, "nanousd": 5}',
    ),
)

# Tables without org_id, with the reason why they have none. Those that app may read hold nothing
# that names a tenant: the suite looks.
_TENANCY: Final = {
    "tp.context_key": "keys that sign tenant contexts: the owner's alone",
    "tp.migration": "which migrations were applied",
    "tp.migration_head": "which migration was the last",
    "tp.migration_lock": "has no columns; it is only locked",
    "tp.reviewed": "the list of reviewed tables and functions itself",
}
SHARED_TABLES: Final[dict[str, dict[str, str]]] = {
    "control": {
        **_TENANCY,
        "controlplane.catalogue": "what there is to sell belongs to the platform",
        "controlplane.catalogue_turn": "has nothing in it; it is only locked",
        "controlplane.client_assertion": "assertions that planes have used",
        "controlplane.enrolment_token": "planes belong to the platform",
        "controlplane.issuer_holder": "unique across orgs, so that inserts into tenant tables "
        "tell nothing; app cannot read it",
        "controlplane.plan": "plans belong to the platform",
        "controlplane.plan_entitlement": "plans belong to the platform",
        "controlplane.plan_role_bound": "plans belong to the platform",
        "controlplane.plane": "planes belong to the platform; a tenant is told where its own is",
        "controlplane.plane_isolation": "what planes found in their own databases",
        "controlplane.plane_replica": "replicas belong to planes",
        "controlplane.platform_key": "keys of the platform operator",
        "controlplane.signing_key": "the platform signs, and its private keys are wrapped",
    },
    "data": {
        **_TENANCY,
        "dataplane.ledger_epoch": "one epoch fences the one Valkey of the plane",
        "dataplane.plane_state": "identity of the plane itself",
        "dataplane.roll_cursor": "position of the roll, which sums up all orgs",
        "dataplane.ship_cursor": "position of the shipper, which reads all orgs",
    },
}
# What app may do in them.
OPEN_TO_APP: Final = {
    "controlplane.plane": READ_ONLY,
    "controlplane.plane_isolation": READ_ONLY,
    "controlplane.plane_replica": READ_ONLY,
}
