"""The command line: ``python -m tools.cluster``."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

try:
    from tools.cluster import images, provider
except ModuleNotFoundError as missing:
    sys.exit(f"cluster: no Python package {missing.name}: run in the project's environment")
from tools.cluster.errors import ClusterError
from tools.cluster.settings import DEFAULT_NAME, check_name
from tools.cluster.steps import say

Subcommands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"

EXAMPLES = """
examples:
  python -m tools.cluster up                        bring a cluster up, or find it up
  EGRESS=1 python -m tools.cluster up               its pods may reach the internet
  python -m tools.cluster up --kubeconfig ~/.kube/config
  python -m tools.cluster build-image --tag localhost/app:1 --file Dockerfile --context .
  python -m tools.cluster load ~/.cache/tenantplane/images/localhost_app_1.oci.tar
  python -m tools.cluster kubectl -- get pods -A
  python -m tools.cluster helm -- upgrade --install app charts/app
  python -m tools.cluster status
  python -m tools.cluster down
"""


def main(arguments: list[str] | None = None) -> int:
    """Run one command; its exit code."""
    options = _parser().parse_args(arguments)
    try:
        if options.name is not None:
            check_name(options.name)
        return int(options.command(options) or 0)
    except (ClusterError, ValueError, OSError) as ended:
        say(f"cluster: {ended}")
        return 1
    except KeyboardInterrupt:
        say("cluster: interrupted; run the same command again to go on")
        return 130


def _up(options: argparse.Namespace) -> None:
    choice = provider.up(
        options.name, options.kubeconfig, options.provider, install=not options.no_install
    )
    say(f"cluster {options.name} is up ({choice.provider})")
    print(f"export KUBECONFIG={choice.kubeconfig}")


def _down(options: argparse.Namespace) -> None:
    provider.down(options.name)
    say(f"cluster {options.name} is down")


def _status(options: argparse.Namespace) -> int:
    wanted = [options.name] if options.name else provider.names() or [DEFAULT_NAME]
    for name in wanted:
        print("\n".join(provider.status(name)))
    return 0


def _kubeconfig(options: argparse.Namespace) -> None:
    print(provider.need(options.name).kubeconfig)


def _load(options: argparse.Namespace) -> None:
    for archive in options.archives:
        provider.load(options.name, archive)


def _kubectl(options: argparse.Namespace) -> None:
    _become([*provider.kubectl(options.name), *_words(options)])


def _helm(options: argparse.Namespace) -> None:
    _become([*provider.helm(options.name), *_words(options)])


def _build_image(options: argparse.Namespace) -> None:
    pairs = [argument.partition("=") for argument in options.build_arg]
    build = images.Build(
        options.tag,
        options.file.resolve(),
        options.context.resolve(),
        {name: value for name, _, value in pairs},
    )
    made = provider.build_image(build, install=not options.no_install)
    say(f"{options.tag}: {'built' if made else 'unchanged'}")
    print(f"{options.tag}\n{build.archive}")


def _words(options: argparse.Namespace) -> list[str]:
    words: list[str] = options.words
    return words[1:] if words[:1] == ["--"] else words


def _become(argv: list[str]) -> None:
    """Become the program, so that its terminal, signals and exit code are its own."""
    sys.stdout.flush()
    os.execvp(argv[0], argv)  # noqa: S606 - no shell is wanted


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tools.cluster",
        description="A local Kubernetes cluster: one you have, kind, or a bare node on this Linux.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    up = _command(commands, "up", _up, "bring the cluster up, or repair it, or find it up")
    up.add_argument("--kubeconfig", type=Path, help="use the cluster of this kubeconfig")
    up.add_argument(
        "--provider", choices=(provider.KIND, provider.NODE), help="default: kind if Docker answers"
    )
    up.add_argument("--no-install", action="store_true", help="never install Debian packages")

    _command(commands, "down", _down, "take it down; only the cache stays")
    status = _command(commands, "status", _status, "what runs, and how to reach it")
    status.set_defaults(name=None)
    _command(commands, "kubeconfig", _kubeconfig, "print the kubeconfig's path")

    load = _command(commands, "load", _load, "put images into the cluster")
    load.add_argument("archives", nargs="+", type=Path, metavar="IMAGE.oci.tar")

    for name, command in (("kubectl", _kubectl), ("helm", _helm)):
        sub = _command(commands, name, command, f"run {name} on the cluster")
        sub.add_argument("words", nargs=argparse.REMAINDER, metavar="-- …")

    build = commands.add_parser("build-image", help="build an image; prints its name and archive")
    build.set_defaults(command=_build_image, name=None)
    build.add_argument("--tag", required=True, help="such as localhost/my-image:1")
    build.add_argument("--file", type=Path, default=Path("Dockerfile"))
    build.add_argument("--context", type=Path, default=Path())
    build.add_argument("--build-arg", action="append", default=[], metavar="NAME=VALUE")
    build.add_argument("--no-install", action="store_true", help="never install Debian packages")
    return parser


def _command(
    commands: Subcommands, name: str, function: Callable[[argparse.Namespace], object], text: str
) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=text)
    command.add_argument("--name", default=DEFAULT_NAME, help=f"default: {DEFAULT_NAME}")
    command.set_defaults(command=function)
    return command


if __name__ == "__main__":
    sys.exit(main())
