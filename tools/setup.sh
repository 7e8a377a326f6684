#!/usr/bin/env bash
# Installs the environment into .venv from requirements/dev.lock; quick where nothing changed.
set -euo pipefail
cd "$(dirname "$0")/.."

stamp=.venv/.installed
wanted=$(cat requirements/dev.lock pyproject.toml | sha256sum | cut -d' ' -f1)
if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ]; then exit 0; fi

python=$(command -v python3 || true)
if [ -z "$python" ]; then
  echo "python3 is missing: install Python 3.11 or newer, then run this again." >&2
  exit 1
fi
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
  echo "$("$python" --version) is too old: Python 3.11 or newer is needed first on PATH." >&2
  exit 1
fi

echo "· environment: creating .venv and installing the pinned packages (a minute on a fresh machine)"
if [ ! -x .venv/bin/python ]; then
  "$python" -m venv .venv || {
    echo "python3 -m venv failed: install your system's python3-venv package, then run this again." >&2
    exit 1
  }
fi
if [ ! -x .venv/bin/uv ]; then
  [ -x .venv/bin/pip ] || .venv/bin/python -m ensurepip -q
  .venv/bin/python -m pip install -q "$(grep -o '^uv==[0-9.]*' requirements/dev.lock)"
fi
.venv/bin/uv pip sync -q --python .venv/bin/python --require-hashes requirements/dev.lock
.venv/bin/uv pip install -q --python .venv/bin/python --no-deps -e .
echo "$wanted" > "$stamp"
