from __future__ import annotations

import pickle
from uuid import UUID

import pytest

from tenantplane.core import ids
from tenantplane.core.tenancy import bare, namespaced


def test_an_id_of_another_org_is_no_id_of_this_one() -> None:
    stored = namespaced("acme", "t1")
    assert bare("acme", stored) == "t1"
    with pytest.raises(ValueError, match="another org"):
        bare("globex", stored)


@pytest.mark.parametrize("org_id", ["", "a::b"])
def test_an_org_id_cannot_blur_the_border(org_id: str) -> None:
    with pytest.raises(ValueError, match="DNS label"):
        namespaced(org_id, "t1")


def test_without_an_org_nothing_is_ones_own() -> None:
    with pytest.raises(ValueError, match="another org"):
        bare("", "::t1")


@pytest.mark.parametrize("name", ["Acme", "1acme", "acme-", "a" * 41, "a.b", "", "acme\n"])
def test_what_is_no_dns_label_is_no_org_id(name: str) -> None:
    assert not ids.is_org_id(name)


def test_ids_sort_by_time() -> None:
    made = [ids.new_id() for _ in range(100)]
    assert [ids.time_of(i) for i in made] == sorted(ids.time_of(i) for i in made)


def test_an_id_is_as_any_other_uuid() -> None:
    made = ids.new_id()
    same = UUID(str(made))
    assert (made, hash(made), made.is_safe) == (same, hash(same), same.is_safe)
    assert pickle.loads(pickle.dumps(made)) == made
    assert UUID(ids.new_id_text()).version == 7
