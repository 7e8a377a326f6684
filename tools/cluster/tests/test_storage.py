"""Which claims get a volume, which volume they get, and which folders are removed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tools.cluster.storage import PROVISIONER, STORAGE_CLASS, Provisioner, volume_for

CLASS = {
    "metadata": {"name": STORAGE_CLASS},
    "volumeBindingMode": "WaitForFirstConsumer",
    "reclaimPolicy": "Delete",
}


class FakeApi:
    """Keeps the calls that change something."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        self.calls.append(("POST", body["metadata"]["name"]))
        return body

    def delete(self, path: str) -> None:
        self.calls.append(("DELETE", path.rsplit("/", 1)[-1]))


class Fixed:
    """Stands for a mirror."""

    def __init__(self, *items: dict[str, Any]) -> None:
        self._items = list(items)

    def objects(self) -> list[dict[str, Any]]:
        return self._items


def claim(**annotations: str) -> dict[str, Any]:
    asked = {"volume.kubernetes.io/storage-provisioner": PROVISIONER}
    return {
        "metadata": {
            "namespace": "a",
            "name": "data",
            "uid": "1",
            "annotations": {**asked, "volume.kubernetes.io/selected-node": "n", **annotations},
        },
        "spec": {
            "storageClassName": STORAGE_CLASS,
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Gi"}},
        },
    }


@pytest.fixture
def api() -> FakeApi:
    return FakeApi()


@pytest.fixture
def provisioner(api: FakeApi, tmp_path: Path) -> Provisioner:
    made = Provisioner(api, tmp_path, "n")  # type: ignore[arg-type]
    made._classes = Fixed(CLASS)  # type: ignore[assignment]
    return made


def test_a_claim_that_waits_gets_a_folder_open_to_its_pod(
    provisioner: Provisioner, api: FakeApi, tmp_path: Path
) -> None:
    provisioner._provide(claim())
    assert api.calls == [("POST", "pvc-1")]
    assert (tmp_path / "pvc-1").stat().st_mode & 0o777 == 0o777


@pytest.mark.parametrize("change", ["bound", "other class", "not asked", "no node", "going"])
def test_other_claims_get_none(provisioner: Provisioner, api: FakeApi, change: str) -> None:
    one = claim()
    annotations = one["metadata"]["annotations"]
    match change:
        case "bound":
            one["spec"]["volumeName"] = "pvc-1"
        case "other class":
            one["spec"]["storageClassName"] = "other"
        case "not asked":
            annotations["volume.kubernetes.io/storage-provisioner"] = "other"
        case "no node":
            del annotations["volume.kubernetes.io/selected-node"]
        case "going":
            one["metadata"]["deletionTimestamp"] = "now"
    provisioner._provide(one)
    assert api.calls == []


def released(folder: Path) -> dict[str, Any]:
    volume = volume_for(claim(), CLASS, folder, "n")
    return {**volume, "status": {"phase": "Released"}}


def test_a_released_volume_goes_with_its_folder(
    provisioner: Provisioner, api: FakeApi, tmp_path: Path
) -> None:
    (tmp_path / "pvc-1" / "deep").mkdir(parents=True)
    provisioner._reclaim(released(tmp_path))
    assert api.calls == [("DELETE", "pvc-1")]
    assert not (tmp_path / "pvc-1").exists()


@pytest.mark.parametrize("change", ["bound", "retained", "not ours", "elsewhere"])
def test_other_volumes_stay(
    provisioner: Provisioner, api: FakeApi, tmp_path: Path, change: str
) -> None:
    volume = released(tmp_path)
    path = tmp_path / "pvc-1"
    match change:
        case "bound":
            volume["status"]["phase"] = "Bound"
        case "retained":
            volume["spec"]["persistentVolumeReclaimPolicy"] = "Retain"
        case "not ours":
            volume["metadata"]["annotations"] = {}
        case "elsewhere":
            path = tmp_path / "elsewhere" / "pvc-1"
            volume["spec"]["hostPath"]["path"] = str(path)
    path.mkdir(parents=True)
    provisioner._reclaim(volume)
    assert api.calls == []
    assert path.exists()
