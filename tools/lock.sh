#!/usr/bin/env bash
# Pins with hashes, one file for developers and one for the image. No uv.lock: its format writes the
# index's host into every entry; these carry the same pins and hashes without naming any host.
# Resolved for Python 3.11.2 upwards, since the image's base has that one.
set -euo pipefail
cd "$(dirname "$0")/.."
compile() {
  .venv/bin/uv pip compile -q --universal --generate-hashes --python-version 3.11.2 \
    --custom-compile-command "make lock" "$@" pyproject.toml
}
compile --extra dev -o requirements/dev.lock
compile --extra image --constraints <(grep -oE '^[a-z0-9._-]+==[^ ;]+( ;[^\\]*)?' requirements/dev.lock) \
  -o requirements/image.lock
