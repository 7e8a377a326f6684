"""Bodies as they leave: JSON whatever a model wrote."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tenantplane.dataplane.api.asgi import json_bytes

_leaves = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
)
_values = st.recursive(
    _leaves | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(_values)
def test_what_is_read_is_what_was_written(value: Any) -> None:
    written = json_bytes(value)
    assert json.loads(written) == json.loads(json.dumps(value))
    assert b"\n" not in written


def test_a_lone_surrogate_is_no_fault() -> None:
    assert json_bytes({"content": "a\ud800é"}) == '{"content":"a?é"}'.encode()
