from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantplane.core.errors import Unprocessable
from tenantplane.dataplane.sources.sql import allowed
from tenantplane.dataplane.sources.sql.parser import MAX_CHARS, check_query

TABLES = ("customers", "orders")


def check(text: str) -> frozenset[str]:
    return check_query(text, "crm", TABLES).tables


@pytest.mark.parametrize(
    ("text", "tables"),
    [
        ("SELECT * FROM customers", {"customers"}),
        ("select * from Customers;", {"customers"}),
        ("TABLE orders", {"orders"}),
        ("VALUES (1), (2)", set()),
        ("SELECT c.*, o.total FROM customers c JOIN orders o USING (id)", set(TABLES)),
        ("WITH x AS (SELECT * FROM orders) SELECT * FROM x", {"orders"}),
        ("SELECT 1 UNION SELECT id FROM orders INTERSECT SELECT 2", {"orders"}),
        ("SELECT (SELECT max(id) FROM orders), ARRAY(SELECT id FROM customers)", set(TABLES)),
        ("SELECT * FROM customers, LATERAL (SELECT * FROM orders LIMIT 1) o", set(TABLES)),
        ("SELECT sum(a) OVER w FROM orders WINDOW w AS (PARTITION BY b)", {"orders"}),
        ("SELECT a FROM orders GROUP BY ROLLUP (a, b) HAVING grouping(b) = 0", {"orders"}),
        ("SELECT a AT TIME ZONE 'UTC', trim(b), extract(day FROM a) FROM orders", {"orders"}),
        ("SELECT a ->> 'x', b::numeric(10, 2), c::text[] FROM orders", {"orders"}),
        ("SELECT a BETWEEN 1 AND 2, b IS DISTINCT FROM c, d = ANY (e) FROM orders", {"orders"}),
        ("SELECT CURRENT_DATE, now(), interval '1 day', date '2024-01-01'", set()),
        ("SELECT ';' -- a remark; with it", set()),
    ],
)
def test_a_select_over_the_source_passes(text: str, tables: set[str]) -> None:
    assert check(text) == tables


@pytest.mark.fault("F14")
@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("SELECT 1; SELECT 2", "exactly one SELECT"),
        ("", "exactly one SELECT"),
        ("RESET ROLE", "read-only"),
        ("SELECT 1 INTO x", "SELECT INTO"),
        ("SELECT * FROM orders FOR UPDATE", "FOR UPDATE"),
        ("WITH d AS (DELETE FROM orders RETURNING *) SELECT * FROM d", "only SELECT"),
        ("WITH RECURSIVE r AS (SELECT 1) SELECT * FROM r", "WITH RECURSIVE"),
        ("SELECT * FROM pg_class", "no table pg_class"),
        ("SELECT * FROM pg_catalog.orders", "without a schema"),
        ("SELECT * FROM tp.context_key", "without a schema"),
        ("SELECT * FROM other.public.orders", "without a schema"),
        ("WITH pg_stats AS (SELECT 1) SELECT * FROM pg_stats", "cannot be named pg_stats"),
        (
            "WITH a AS (WITH pg_class AS (SELECT 1) SELECT 1) SELECT * FROM pg_class",
            "pg_class",
        ),
        ("SELECT pg_sleep(1)", "function pg_sleep"),
        ("SELECT public.count(1)", "function count"),
        ("SELECT * FROM pg_ls_dir('.')", "function pg_ls_dir"),
        ("SELECT o.pg_sleep FROM orders o", "no column pg_sleep"),
        ("SELECT (o).pg_sleep FROM orders o", ".name is not possible"),
        ("SELECT a.b.c FROM orders", "write b.c"),
        ("SELECT xmin, ctid FROM orders", "no column"),
        ("SELECT tableoid FROM orders", "no column tableoid"),
        ("SELECT 'x'::regclass", "type regclass"),
        ("SELECT CAST('x' AS pg_catalog.regrole)", "type regrole"),
        ("SELECT 1::public.int4", "type int4"),
        ("SELECT 1 OPERATOR(pg_catalog.+) 1", "operator +"),
        ("SELECT 1 @@ 2", "operator @@"),
        ("SELECT a FROM orders ORDER BY a USING ~<~", "operator ~<~"),
        ("SELECT CURRENT_USER", "CURRENT_USER"),
        ("SELECT SESSION_USER", "SESSION_USER"),
        ("SELECT current_schema", "CURRENT_SCHEMA"),
        ("SELECT * FROM orders TABLESAMPLE system (1)", "TABLESAMPLE"),
        ("SELECT $1", "no parameters"),
        ("SELECT xmlelement(name a)", "XmlExpr"),
        ("SELECT * FROM json_to_recordset('[]') AS x(a int)", "ColumnDef"),
        ("SELECT 'a\0b'", "not text"),
        ("SELECT '\ud800'", "not text"),
        ("SELECT '" + "x" * MAX_CHARS + "'", "longer than"),
        ("SELECT " + "NOT " * 2000 + "true", "deeply nested"),
        ("SELECT " + "-".join(["1"] * 1000), "deeply nested"),
        ("SELECT " + ",".join(["1"] * 3000), "too large"),
        ("SELECT 1 FROM " + ",".join(f"orders o{i}" for i in range(13)), "more than 12 tables"),
        ("SELEC", "yntax error"),
    ],
)
def test_the_rest_is_refused_in_words_that_help(text: str, told: str) -> None:
    with pytest.raises(Unprocessable) as refused:
        check(text)
    assert told.lower() in str(refused.value).lower()
    assert refused.value.error_code == "sql_refused"


@pytest.mark.fault("F14")
def test_no_function_of_the_server_is_on_the_list() -> None:
    for name in allowed.FUNCTIONS:
        assert not name.startswith(("pg_", "lo_", "has_", "txid_", "inet_", "query_", "dblink"))
    assert not allowed.FUNCTIONS & {"set_config", "current_setting", "repeat", "lpad", "nextval"}
    assert not [name for name in allowed.TYPES if name.startswith("reg")]


@given(st.text(max_size=200))
def test_any_text_passes_or_is_refused(text: str) -> None:
    with suppress(Unprocessable):
        assert check(text) <= set(TABLES)
