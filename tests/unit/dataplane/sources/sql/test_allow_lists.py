"""Name by name: what a query of a model may not be made of (F14). The parser alone is asked; what
the server refuses besides is tried on the server."""

from __future__ import annotations

import pytest

from tenantplane.core.errors import Unprocessable
from tenantplane.dataplane.sources.sql.parser import check_query
from tests.fixtures.hostile_sql import FUNCTIONS, TYPES

pytestmark = pytest.mark.fault("F14")

VALUES = (
    "CURRENT_CATALOG",
    "CURRENT_ROLE",
    "CURRENT_SCHEMA",
    "CURRENT_USER",
    "SESSION_USER",
    "USER",
)
SYSTEM_COLUMNS = ("cmax", "cmin", "ctid", "oid", "tableoid", "xmax", "xmin")
STATEMENTS = {
    "delete": "WITH x AS (DELETE FROM orders) SELECT 1",
    "insert": "WITH x AS (INSERT INTO orders VALUES (1)) SELECT 1",
    "update": "WITH x AS (UPDATE orders SET a = 1) SELECT 1",
    "merge": "WITH x AS (MERGE INTO orders o USING orders p ON true WHEN MATCHED THEN DELETE"
    " RETURNING 1) SELECT 1",
    "into": "SELECT 1 INTO x",
    "locking": "SELECT * FROM orders FOR SHARE",
    "sample": "SELECT * FROM orders TABLESAMPLE system (1)",
    "parameter": "SELECT $1",
    "collation": 'SELECT a COLLATE pg_catalog."C" FROM orders',
    "xml": "SELECT xmlconcat(a, b) FROM orders",
    "recursion": "WITH RECURSIVE r AS (SELECT 1) SELECT * FROM r",
    "catalogue by WITH": "WITH pg_class AS (SELECT 1) SELECT 1",
    "row function": "SELECT o.pg_sleep FROM orders o",
    "field": "SELECT (o).a FROM orders o",
    "operator of ANY": "SELECT 1 @@ ANY (SELECT 1)",
    "operator": "SELECT a @@ b FROM orders",
    "operator of a schema": "SELECT 1 OPERATOR(public.+) 1",
    "order": "SELECT a FROM orders ORDER BY a USING ~<~",
    "function of a schema": "SELECT public.count(1)",
    "type of a schema": "SELECT 1::public.int4",
    "table of a schema": "SELECT * FROM tp.orders",
    "table of a database": "SELECT * FROM other.tp.orders",
    "table of the catalogue": "SELECT * FROM pg_authid",
    "table of another source": "SELECT * FROM theirs",
}


def refused(text: str) -> bool:
    try:
        check_query(text, "crm", ("orders",))
    except Unprocessable as no:
        return no.error_code == "sql_refused"
    return False


def test_what_stands_around_them_is_possible() -> None:
    for text in (
        "SELECT count(1)",
        "SELECT 1::int4",
        "SELECT CURRENT_DATE",
        "SELECT a FROM orders",
    ):
        assert not refused(text)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_that_is_not_on_the_list(name: str) -> None:
    for text in (f"SELECT {name}(a) FROM orders", f"SELECT * FROM {name}('x') AS t"):
        assert refused(text)
    assert refused(f"SELECT pg_catalog.{name}(a) FROM orders")


@pytest.mark.parametrize("name", TYPES)
def test_a_type_that_is_not_on_the_list(name: str) -> None:
    for text in (f"SELECT 'x'::{name}", f"SELECT CAST(a AS pg_catalog.{name}[]) FROM orders"):
        assert refused(text)


@pytest.mark.parametrize("name", VALUES)
def test_a_value_that_tells_of_the_server(name: str) -> None:
    assert refused(f"SELECT {name}")


@pytest.mark.parametrize("name", SYSTEM_COLUMNS)
def test_a_system_column(name: str) -> None:
    for text in (f"SELECT {name} FROM orders", f"SELECT 1 FROM orders o WHERE o.{name} = '1'"):
        assert refused(text)


@pytest.mark.parametrize("what", STATEMENTS)
def test_a_form_that_is_not_on_the_list(what: str) -> None:
    assert refused(STATEMENTS[what])
