"""The NetworkPolicy agent: watches the API server, writes the nftables table.

CNI's bridge plugin enforces no policy; ``policy_rules`` says what the rules are.
When the agent is down the last table stays in the kernel: it fails closed for the
pods it knows. A pod's address reaches the agent a moment after the pod has it, so a
fresh pod may speak for some milliseconds before it is isolated; the standard allows
that, and a workload must not count on the first packet being dropped.
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path

from tools.cluster.api import Api, Mirror
from tools.cluster.commands import run
from tools.cluster.errors import CommandFailed
from tools.cluster.policy_rules import ruleset

SETTLE_SECONDS = 0.02
"""Wait this long after a change for its companions: a rollout comes as many events."""

RETRY_SECONDS = 1.0


class PolicyAgent:
    """Keeps the table equal to what the API server has."""

    def __init__(self, api: Api) -> None:
        self._dirty = threading.Event()
        self._policies = self._mirror(api, "/apis/networking.k8s.io/v1/networkpolicies")
        self._pods = self._mirror(api, "/api/v1/pods")
        self._namespaces = self._mirror(api, "/api/v1/namespaces")
        self._written = ""

    def run(self) -> None:
        """Follow changes for ever."""
        mirrors = (self._policies, self._pods, self._namespaces)
        for mirror in mirrors:
            mirror.start()
        for mirror in mirrors:
            mirror.synced.wait()
        while True:
            self._dirty.wait()
            threading.Event().wait(SETTLE_SECONDS)
            self._dirty.clear()
            self._write()

    def _write(self) -> None:
        text = ruleset(self._policies.objects(), self._pods.objects(), self._namespaces.objects())
        if text == self._written:
            return
        try:
            run(["nft", "-f", "-"], stdin=text)
        except CommandFailed as refused:
            print(f"nft refused the table: {refused}\n{text}", flush=True)
            threading.Event().wait(RETRY_SECONDS)
            self._dirty.set()
            return
        self._written = text
        print(f"table written: {text.count('jump ')} isolated pod directions", flush=True)

    def _mirror(self, api: Api, path: str) -> Mirror:
        return Mirror(api, path, self._dirty.set)


if __name__ == "__main__":
    PolicyAgent(Api(Path(sys.argv[1]))).run()
