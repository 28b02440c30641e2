#!/bin/sh
# Installs datalabd with its locked dependencies into the new virtual environment $1, without pip in it.
# The Dockerfile runs this; `make image-steps` tries it where there is no container engine. Wheels only: no compiler.
set -eu
destination=$1
python=${PYTHON:-python3}
cd "$(dirname "$0")/.."

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
"$python" -m venv "$scratch/build"
pip="$scratch/build/bin/python -m pip --disable-pip-version-check --quiet --no-cache-dir"

$pip install --no-deps --require-hashes --only-binary :all: --requirement requirements-build.lock
$pip wheel --no-deps --no-build-isolation --wheel-dir "$scratch" .

"$python" -m venv --without-pip "$destination"
pip="$pip --python $destination/bin/python"
$pip install --no-deps --require-hashes --only-binary :all: --requirement requirements.lock
$pip install --no-deps --no-index "$scratch"/datalabd-*.whl
$pip check
