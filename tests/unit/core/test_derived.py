from __future__ import annotations

from tenantplane.core.derived import Derived


class Source:
    """Equal to every other: identity alone tells them apart."""

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = None  # type: ignore[assignment]


def test_each_object_has_what_was_made_of_it_alone() -> None:
    made: Derived[str] = Derived(most=10)
    one, other = Source(), Source()
    made.put(one, "key", "of one")
    assert (made.get(one, "key"), made.get(other, "key"), made.get(one, "k")) == (
        "of one",
        None,
        None,
    )


def test_it_is_forgotten_with_its_object() -> None:
    made: Derived[str] = Derived(most=10)
    one, other = Source(), Source()
    for source in (one, one, other):
        made.put(source, "key", "made")
    assert len(made) == 2
    del one, source
    assert len(made) == 1
    assert made.get(other, "key") == "made"


def test_past_its_bound_it_begins_anew() -> None:
    made: Derived[int] = Derived(most=3)
    sources = [Source() for _ in range(4)]
    for number, source in enumerate(sources):
        made.put(source, "key", number)
    assert [made.get(source, "key") for source in sources] == [None, None, None, 3]
    assert len(made) == 1
    del sources, source
    assert len(made) == 0
