"""What SQL of a model may be made of. Whatever is not named here is refused.

Node names are those of Postgres' parse tree (src/include/nodes/parsenodes.h), as pglast has them.
"""

from __future__ import annotations

from typing import Final


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


NODES: Final = _words(
    """
    RawStmt SelectStmt WithClause CommonTableExpr ResTarget
    RangeVar RangeSubselect RangeFunction JoinExpr Alias
    ColumnRef A_Star A_Const Integer Float String Boolean BitString
    A_Expr BoolExpr NullTest BooleanTest CaseExpr CaseWhen CoalesceExpr MinMaxExpr
    FuncCall TypeCast TypeName SubLink RowExpr A_ArrayExpr A_Indirection A_Indices
    SortBy WindowDef GroupingFunc GroupingSet SQLValueFunction
    """
)

# No amplifiers (repeat, lpad, format), nothing that runs a text as SQL, waits, or looks at the
# server. generate_series is bounded by the planner's estimate.
FUNCTIONS: Final = _words(
    """
    count sum avg min max bool_and bool_or every string_agg array_agg json_agg jsonb_agg
    json_object_agg jsonb_object_agg stddev stddev_pop stddev_samp variance var_pop var_samp
    corr covar_pop covar_samp regr_slope regr_intercept regr_r2 regr_count
    percentile_cont percentile_disc mode any_value
    row_number rank dense_rank percent_rank cume_dist ntile lag lead first_value last_value
    nth_value
    abs ceil ceiling floor round trunc sign sqrt cbrt exp ln log log10 power pow mod div gcd lcm
    degrees radians pi sin cos tan asin acos atan atan2 random width_bucket scale trim_scale
    lower upper initcap length char_length character_length octet_length left right substring
    substr position strpos btrim ltrim rtrim replace translate reverse concat concat_ws split_part
    starts_with overlay ascii chr md5 to_hex normalize regexp_replace regexp_match
    regexp_matches regexp_count regexp_substr regexp_instr regexp_like regexp_split_to_array
    regexp_split_to_table string_to_array string_to_table array_to_string like_escape
    similar_to_escape to_char to_number to_date to_timestamp
    now statement_timestamp transaction_timestamp clock_timestamp age date_part date_trunc
    date_bin extract timezone make_date make_time make_timestamp make_timestamptz make_interval
    justify_days justify_hours justify_interval isfinite overlaps
    array_length array_position array_positions array_append array_prepend array_cat array_remove
    array_upper array_lower cardinality unnest generate_series
    json_array_length jsonb_array_length json_array_elements jsonb_array_elements
    json_array_elements_text jsonb_array_elements_text json_each jsonb_each json_each_text
    jsonb_each_text json_object_keys jsonb_object_keys json_extract_path jsonb_extract_path
    json_extract_path_text jsonb_extract_path_text json_typeof jsonb_typeof to_json to_jsonb
    json_build_object jsonb_build_object json_build_array jsonb_build_array row_to_json
    num_nulls num_nonnulls
    """
)

# Also reg* types read the catalogue: none of them is here.
TYPES: Final = _words(
    """
    bool boolean int2 int4 int8 smallint int integer bigint numeric decimal float4 float8 real
    text varchar bpchar char date time timetz timestamp timestamptz interval uuid json jsonb bit
    varbit
    """
)

OPERATORS: Final = _words(
    """
    + - * / % ^ = <> != < > <= >= || ~ ~* !~ !~* ~~ ~~* !~~ !~~* ^@ & | # << >>
    -> ->> #> #>> @> <@ ? ?| ?& && BETWEEN
    """
) | {"NOT BETWEEN", "BETWEEN SYMMETRIC", "NOT BETWEEN SYMMETRIC"}

# CURRENT_USER and its like tell of the server.
TIME_VALUES: Final = frozenset(
    f"SVFOP_{name}{suffix}"
    for name in ("CURRENT_DATE", "CURRENT_TIME", "CURRENT_TIMESTAMP", "LOCALTIME", "LOCALTIMESTAMP")
    for suffix in ("", "_N")
)

SYSTEM_COLUMNS: Final = _words("ctid xmin xmax cmin cmax tableoid oid")

# What a model tries most, in words that help it go on.
ADVICE: Final = {
    "LockingClause": "FOR UPDATE and FOR SHARE are not possible; only read",
    "IntoClause": "SELECT INTO is not possible; only read",
    "RangeTableSample": "TABLESAMPLE is not possible; use LIMIT",
    "ParamRef": "there are no parameters; write the values into the query",
    "CollateClause": "COLLATE is not possible; leave it out",
    "InsertStmt": "only SELECT is possible, also within WITH",
    "UpdateStmt": "only SELECT is possible, also within WITH",
    "DeleteStmt": "only SELECT is possible, also within WITH",
    "MergeStmt": "only SELECT is possible, also within WITH",
}
