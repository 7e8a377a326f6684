"""Keys: the root is the hash tag, and nothing can step out of its part."""

import re

import pytest

from tenantplane.core.valkey import keys


def test_every_key_builder_has_its_pattern() -> None:
    built = [*keys.of_root("acme", 3), keys.of_hold("acme", "0192-ab_c", 3)]
    matched = {
        name for name, pattern in keys.PATTERNS.items() for key in built if re.match(pattern, key)
    }
    assert matched == set(keys.PATTERNS)
    assert all(sum(bool(re.match(p, key)) for p in keys.PATTERNS.values()) == 1 for key in built)


def test_all_keys_of_a_call_share_the_hash_tag() -> None:
    built = [*keys.of_root("acme", 3), keys.of_hold("acme", "x", 3)]
    assert {key[key.index("{") : key.index("}") + 1] for key in built} == {"{acme}"}


@pytest.mark.parametrize("root", ["", "a}b", "A", "a:b", "a" * 41, "a\n", "{a}"])
def test_a_root_that_is_no_org_id_is_refused(root: str) -> None:
    with pytest.raises(ValueError, match="not an org id"):
        keys.of_root(root, 1)
    with pytest.raises(ValueError, match="not an org id"):
        keys.of_hold(root, "x", 1)


@pytest.mark.parametrize("hold_id", ["", "a:b", "a}", "a b", "x" * 81, "é"])
def test_a_hold_id_that_could_blur_the_key_is_refused(hold_id: str) -> None:
    with pytest.raises(ValueError, match="hold_id"):
        keys.of_hold("acme", hold_id, 1)
