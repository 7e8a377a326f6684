#!/usr/bin/env bash
# Lays out the image's build context in build/image: Dockerfile and site/, the pinned packages for
# the base's Python. Quick where neither code nor pins changed.
set -euo pipefail
cd "$(dirname "$0")/.."

context=build/image
packages=build/site-packages
mkdir -p build

# The base's Python is 3.11.2 on Debian 12: markers are resolved for it, not for this machine's.
wanted=$(cat requirements/image.lock tools/image.sh | sha256sum | cut -d' ' -f1)
if [ "$(cat $packages.stamp 2>/dev/null)" != "$wanted" ]; then
  rm -rf $packages
  .venv/bin/uv pip install -q --target $packages --require-hashes --compile-bytecode \
    --python-version 3.11 --python-platform x86_64-manylinux_2_36 -r requirements/image.lock
  rm -rf $packages/bin
  echo "$wanted" > $packages.stamp
fi

source=$(git ls-files -co --exclude-standard core operator controlplane dataplane cli lua crds pyproject.toml |
  sort | xargs sha256sum | sha256sum | cut -d' ' -f1)
if [ "$(cat $context.stamp 2>/dev/null)" != "$wanted $source" ]; then
  rm -rf $context build/wheel
  .venv/bin/uv build -q --wheel --out-dir build/wheel
  mkdir -p $context
  cp -al $packages $context/site
  .venv/bin/uv pip install -q --target $context/site --no-deps --compile-bytecode \
    --python-version 3.11 build/wheel/*.whl
  cp Dockerfile $context/
  echo "$wanted $source" > $context.stamp
fi
echo "$context"
