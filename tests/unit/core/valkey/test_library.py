"""The joined library holds every file of lua/, in a fixed order."""

from tenantplane.core.resources import folder
from tenantplane.core.valkey import library


def test_every_lua_file_is_in_the_library_once() -> None:
    present = sorted(str(path.relative_to(folder("lua"))) for path in folder("lua").rglob("*.lua"))
    assert sorted(library.FILES) == present


def test_the_library_begins_with_its_name_and_knows_its_version() -> None:
    built = library.load()
    assert built.source.startswith("#!lua name=tenantplane\n")
    assert f"local VERSION = '{built.version}'" in built.source


def test_building_twice_gives_the_same_text() -> None:
    first = library.load()
    library.load.cache_clear()
    assert library.load() == first
