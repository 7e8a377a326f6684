"""What an operator writes to make a source, and what the register keeps: tables with typed columns.

description: Customers and their orders
tables:
  - name: customers
    description: one row for each customer
    columns:
      - {name: id, type: integer}
      - {name: city, type: text, description: where they are}
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, Self

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from tenantplane.core.errors import FieldError, InvalidInput
from tenantplane.dataplane.sources.sql.allowed import SYSTEM_COLUMNS

ColumnType = Literal["text", "integer", "number", "boolean", "date", "timestamp"]


def _not_of_the_catalogue(name: str) -> str:
    if name.startswith("pg_"):
        raise ValueError("names that begin with pg_ are Postgres' own")
    return name


SqlName = Annotated[
    str, Field(pattern=r"^[a-z][a-z0-9_]{0,62}$"), AfterValidator(_not_of_the_catalogue)
]
SourceName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,40}$")]
Description = Annotated[str, Field(max_length=500, pattern=r"^[^\x00]*$")]

# Names of sources that are not made by operators.
RESERVED: Final = frozenset({"usage", "documents"})


class Column(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    name: SqlName
    type: ColumnType
    description: Description = ""


class Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    name: SqlName
    description: Description = ""
    columns: Annotated[tuple[Column, ...], Field(min_length=1, max_length=100)]

    @model_validator(mode="after")
    def _columns_differ(self) -> Self:
        names = [column.name for column in self.columns]
        if len(set(names)) < len(names):
            raise ValueError(f"table {self.name} names a column twice")
        if taken := SYSTEM_COLUMNS & set(names):
            raise ValueError(f"columns of these names cannot be asked for: {sorted(taken)}")
        return self


class Definition(BaseModel):
    """A source: what it is about, and its tables."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    description: Description = ""
    tables: Annotated[tuple[Table, ...], Field(min_length=1, max_length=50)]

    @model_validator(mode="after")
    def _tables_differ(self) -> Self:
        names = [table.name for table in self.tables]
        if len(set(names)) < len(names):
            raise ValueError("a table is named twice")
        return self


def read_definition(text: str) -> Definition:
    """From YAML or JSON. Raises InvalidInput with every bad field."""
    try:
        given: Any = yaml.safe_load(text)
        return Definition.model_validate(given)
    except yaml.YAMLError as wrong:
        raise InvalidInput(f"The definition is not YAML: {wrong}.") from None
    except ValidationError as wrong:
        errors = tuple(
            FieldError(".".join(map(str, e["loc"])) or "definition", e["msg"])
            for e in wrong.errors(include_url=False, include_input=False)
        )
        raise InvalidInput(
            "The definition of the source is not valid: "
            + "; ".join(f"{e.path}: {e.message}" for e in errors),
            errors=errors,
        ) from None
