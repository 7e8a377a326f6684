"""As much of a Kubernetes client as the agents need, on the standard library.

The agents must come up on a machine where nothing but Python is installed, and
they need four verbs and a watch.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import ssl
import tempfile
import threading
import traceback
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tools.cluster.errors import ApiError

WATCH_SECONDS = 240
"""The server ends a watch after this long; the client's own timeout is a little more."""

Manifest = dict[str, Any]
"""An object as the API server gives it. Its shape is Kubernetes', not ours."""


class Api:
    """One API server, as the user of a kubeconfig that this package wrote."""

    def __init__(self, kubeconfig: Path) -> None:
        config = json.loads(kubeconfig.read_text())
        cluster = config["clusters"][0]["cluster"]
        user = config["users"][0]["user"]
        self._server: str = cluster["server"]
        authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
        context = ssl.create_default_context(cadata=authority)
        with tempfile.NamedTemporaryFile() as pair:  # ssl takes certificates as files alone
            pair.write(base64.b64decode(user["client-certificate-data"]))
            pair.write(base64.b64decode(user["client-key-data"]))
            pair.flush()
            context.load_cert_chain(pair.name)
        handler = urllib.request.HTTPSHandler(context=context)
        # No proxies: the API server is on this machine, whatever the environment says.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), handler)

    def get(self, path: str) -> Manifest:
        return self._call("GET", path)

    def post(self, path: str, body: Manifest) -> Manifest:
        return self._call("POST", path, body)

    def patch(self, path: str, body: Manifest) -> Manifest:
        return self._call("PATCH", path, body, "application/merge-patch+json")

    def delete(self, path: str) -> None:
        self._call("DELETE", path)

    def answers(self) -> bool:
        """Whether the API server says that it is ready."""
        try:
            with self._open("GET", "/readyz", None, "", 5) as answer:
                return bool(answer.status == 200)
        except (ApiError, OSError):
            return False

    def watch(self, path: str, version: str) -> Iterator[Manifest]:
        """Events after ``version`` until the server ends the watch."""
        query = f"{path}?watch=1&resourceVersion={version}&timeoutSeconds={WATCH_SECONDS}"
        with self._open("GET", query, None, "", WATCH_SECONDS + 30) as answer:
            for line in answer:
                yield json.loads(line)

    def _call(
        self, method: str, path: str, body: Manifest | None = None, kind: str = "application/json"
    ) -> Manifest:
        try:
            with self._open(method, path, body, kind, 30) as answer:
                parsed = json.loads(answer.read() or b"{}")
        except (OSError, http.client.HTTPException) as cut:
            raise ApiError(0, f"answer was cut off: {cut}") from cut
        assert isinstance(parsed, dict)
        return parsed

    def _open(self, method: str, path: str, body: Manifest | None, kind: str, seconds: int) -> Any:
        data = None if body is None else json.dumps(body).encode()
        headers = {"Accept": "application/json"} | ({"Content-Type": kind} if data else {})
        request = urllib.request.Request(  # noqa: S310 - the URL is our own cluster's
            self._server + path, data=data, headers=headers, method=method
        )
        try:
            return self._opener.open(request, timeout=seconds)
        except urllib.error.HTTPError as refused:
            raise ApiError(refused.code, refused.read().decode(errors="replace")[:500]) from refused
        except (OSError, http.client.HTTPException) as unreachable:
            raise ApiError(0, str(unreachable)) from unreachable


class Mirror:
    """All objects of one kind, kept current by a watch in a thread of its own."""

    def __init__(self, api: Api, path: str, changed: Callable[[], None]) -> None:
        self._api = api
        self._path = path
        self._changed = changed
        self._objects: dict[str, Manifest] = {}
        self._lock = threading.Lock()
        self.synced = threading.Event()

    def start(self) -> None:
        threading.Thread(target=self._follow, name=f"watch {self._path}", daemon=True).start()

    def objects(self) -> list[Manifest]:
        with self._lock:
            return list(self._objects.values())

    def _follow(self) -> None:
        while True:
            try:
                self._replace()
                self._apply_events()
            except (ApiError, OSError, ValueError, http.client.HTTPException) as broken:
                # A watch ends for many harmless reasons; listing again repairs them all.
                print(f"watch {self._path}: {broken}; listing again", flush=True)
                threading.Event().wait(0.5)
            except BaseException:  # noqa: BLE001 - the process ends
                traceback.print_exc()
                os._exit(1)  # an agent that has gone half blind must be seen to be dead

    def _replace(self) -> None:
        listing = self._api.get(self._path)
        with self._lock:
            self._objects = {_uid(item): item for item in listing.get("items") or []}
        self._version = listing["metadata"]["resourceVersion"]
        self.synced.set()
        self._changed()

    def _apply_events(self) -> None:
        while True:
            for event in self._api.watch(self._path, self._version):
                item = event["object"]
                if event["type"] == "ERROR":
                    raise ApiError(item.get("code", 0), item.get("message", "watch ended"))
                self._version = item["metadata"]["resourceVersion"]
                with self._lock:
                    if event["type"] == "DELETED":
                        self._objects.pop(_uid(item), None)
                    else:
                        self._objects[_uid(item)] = item
                self._changed()


def _uid(item: Manifest) -> str:
    return str(item["metadata"]["uid"])
