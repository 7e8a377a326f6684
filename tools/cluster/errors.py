"""What can end a cluster command, each with one line that says how to go on.

::

    ClusterError
    ├── MissingRequirement   a tool, right or kernel feature that is not there
    ├── CommandFailed        a program that we ran ended with an error
    ├── NotReady             something that we started did not answer in time
    ├── ApiError             the API server refused a call
    └── NotSupported         this provider cannot do what was asked
"""

from __future__ import annotations


class ClusterError(Exception):
    """The command cannot go on; the message is one line for the user."""


class MissingRequirement(ClusterError):
    """A tool, a right or a kernel feature is missing."""

    def __init__(self, what: str, how_to_go_on: str) -> None:
        super().__init__(f"{what}: {how_to_go_on}")


class CommandFailed(ClusterError):
    """A program ended with an error; the message carries its last words."""

    def __init__(self, argv: list[str], code: int, output: str) -> None:
        lines = [line.strip() for line in output.strip().splitlines() if line.strip()]
        last_words = " | ".join(lines[-3:]) or "it said nothing"
        super().__init__(f"`{' '.join(argv[:4])} …` ended with {code}: {last_words}")
        self.code = code
        self.output = output


class NotReady(ClusterError):
    """Something that was started did not answer in time."""


class ApiError(ClusterError):
    """The API server refused a call, or could not be reached (``status`` 0)."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"API server answered {status}: {message}")
        self.status = status


class NotSupported(ClusterError):
    """This provider cannot do what was asked."""
