"""`make bench ARGS=<suite>`: measures, and writes bench/results/<suite>.json."""

from __future__ import annotations

import argparse
import sys

from bench import admission, gate, noise, smoke, state, vectors

SUITES = {
    "smoke": smoke.run,
    "state": state.run,
    "vectors": vectors.run,
    "noise": noise.run,
    "gate": gate.run,
    "admission": admission.run,
}


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="make bench",
        description="Measures one suite.",
        epilog="examples: make bench ARGS=smoke · make bench ARGS='smoke --skip-cold'",
    )
    parser.add_argument("suite", choices=SUITES)
    parser.add_argument(
        "--skip-cold",
        action="store_true",
        help="leave out what builds everything anew in empty caches (some 15 minutes)",
    )
    parser.add_argument(
        "--small", action="store_true", help="vectors alone: a corpus for development, in a minute"
    )
    options = parser.parse_args()
    if options.small:
        vectors.run(cold=False, small=True)
        return 0
    SUITES[options.suite](cold=not options.skip_cold)
    return 0


if __name__ == "__main__":
    sys.exit(main())
