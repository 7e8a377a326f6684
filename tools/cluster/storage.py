"""Volumes for PersistentVolumeClaims: a folder of the machine for each.

The PersistentVolume controller names us in an annotation of each claim of our
StorageClass; we make the folder and a hostPath volume bound to that claim, and
remove both once the claim is gone (reclaimPolicy Delete). Sizes are not enforced.
A folder is open to every user of its pod (0777), as with kind's provisioner, since
the kubelet does not change the owner of hostPath volumes.
"""

from __future__ import annotations

import shutil
import sys
import threading
from pathlib import Path

from tools.cluster.api import Api, Manifest, Mirror
from tools.cluster.errors import ApiError

PROVISIONER = "tenantplane.io/local-folder"
STORAGE_CLASS = "standard"
"""kind's default class has this name too, so charts may say it or leave it out."""

_ASKED = "volume.kubernetes.io/storage-provisioner"
_NODE = "volume.kubernetes.io/selected-node"
_MADE_BY = "pv.kubernetes.io/provisioned-by"

RETRY_SECONDS = 5.0
"""Look again after this long even when nothing changed: a failed call is tried again."""


class Provisioner:
    """Makes and removes volumes until it is ended."""

    def __init__(self, api: Api, folder: Path, node: str) -> None:
        self._api = api
        self._folder = folder
        self._node = node
        self._dirty = threading.Event()
        self._claims = self._mirror("/api/v1/persistentvolumeclaims")
        self._volumes = self._mirror("/api/v1/persistentvolumes")
        self._classes = self._mirror("/apis/storage.k8s.io/v1/storageclasses")

    def run(self) -> None:
        """Follow changes for ever."""
        mirrors = (self._claims, self._volumes, self._classes)
        for mirror in mirrors:
            mirror.start()
        for mirror in mirrors:
            mirror.synced.wait()
        while True:
            self._dirty.wait(RETRY_SECONDS)
            self._dirty.clear()
            for work, items in ((self._provide, self._claims), (self._reclaim, self._volumes)):
                for item in items.objects():
                    try:
                        work(item)
                    except (ApiError, OSError) as failed:
                        print(f"{item['metadata']['name']}: {failed}; again soon", flush=True)

    def _provide(self, claim: Manifest) -> None:
        """Give a claim that waits for us its folder and volume."""
        classes = {one["metadata"]["name"]: one for one in self._classes.objects()}
        storage_class = classes.get(claim["spec"].get("storageClassName") or "")
        if storage_class is None or not _waits(claim, storage_class):
            return
        volume = volume_for(claim, storage_class, self._folder, self._node)
        path = Path(volume["spec"]["hostPath"]["path"])
        path.mkdir(parents=True, exist_ok=True)
        path.chmod(0o777)
        try:
            self._api.post("/api/v1/persistentvolumes", volume)
        except ApiError as refused:
            if refused.status != 409:  # made before, and its watch event is on the way
                raise
        else:
            print(f"made {path}", flush=True)

    def _reclaim(self, volume: Manifest) -> None:
        """Remove a released volume of ours, folder first: a crash between leaves the object."""
        spec, metadata = volume["spec"], volume["metadata"]
        ours = (metadata.get("annotations") or {}).get(_MADE_BY) == PROVISIONER
        released = (volume.get("status") or {}).get("phase") == "Released"
        deletes = spec.get("persistentVolumeReclaimPolicy") == "Delete"
        if not (ours and released and deletes) or metadata.get("deletionTimestamp"):
            return
        path = Path(spec["hostPath"]["path"])
        if path.parent != self._folder:
            print(f"{metadata['name']}: {path} is outside {self._folder}; left alone", flush=True)
            return
        shutil.rmtree(path, ignore_errors=True)
        if path.exists():
            raise OSError(f"{path} could not be removed")
        self._api.delete(f"/api/v1/persistentvolumes/{metadata['name']}")
        print(f"removed {path}", flush=True)

    def _mirror(self, path: str) -> Mirror:
        return Mirror(self._api, path, self._dirty.set)


def volume_for(claim: Manifest, storage_class: Manifest, folder: Path, node: str) -> Manifest:
    """The PersistentVolume of a claim; its name comes from the claim's uid, so it is one."""
    metadata = claim["metadata"]
    name = f"pvc-{metadata['uid']}"
    on_this_node = {
        "matchExpressions": [
            {"key": "kubernetes.io/hostname", "operator": "In", "values": [node]},
        ]
    }
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name, "annotations": {_MADE_BY: PROVISIONER}},
        "spec": {
            "storageClassName": storage_class["metadata"]["name"],
            "persistentVolumeReclaimPolicy": storage_class.get("reclaimPolicy", "Delete"),
            "accessModes": claim["spec"]["accessModes"],
            "capacity": {"storage": claim["spec"]["resources"]["requests"]["storage"]},
            "hostPath": {"path": str(folder / name), "type": "Directory"},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [on_this_node]}},
            "claimRef": {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "namespace": metadata["namespace"],
                "name": metadata["name"],
                "uid": metadata["uid"],
            },
        },
    }


def _waits(claim: Manifest, storage_class: Manifest) -> bool:
    """Whether the controller asked us for this claim's volume, and it has none yet."""
    annotations = claim["metadata"].get("annotations") or {}
    first_consumer = storage_class.get("volumeBindingMode") == "WaitForFirstConsumer"
    return (
        annotations.get(_ASKED) == PROVISIONER
        and not claim["spec"].get("volumeName")
        and not claim["metadata"].get("deletionTimestamp")
        and (not first_consumer or _NODE in annotations)
    )


if __name__ == "__main__":
    Provisioner(Api(Path(sys.argv[1])), Path(sys.argv[2]), sys.argv[3]).run()
