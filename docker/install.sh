#!/bin/sh
# Makes the Python environment of an image in /opt/tendon. Called by the Dockerfiles, in their build stage only.
#   install.sh dependencies [EXTRA]   what pyproject.toml asks for, in the versions of constraints.txt
#   install.sh tendon                 tendon itself, and kfp without its dependencies: a step needs its executor only
# Every file that pip takes must have the sha256 of docker/requirements/, which are for linux x86_64 and Python 3.11; on
# others the versions hold without hashes. Torch from another index or a folder has no hash there: see docker/README.md.
set -eu
extra=${TENDON_BUILD_EXTRA:-/opt/extra}
prefix=${TENDON_BUILD_PREFIX:-/opt/tendon}
pip="$prefix/bin/pip"
if [ -s "$extra/ca.crt" ]; then export PIP_CERT="$extra/ca.crt"; fi
export PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
if [ -d "$extra/wheels" ]; then export PIP_FIND_LINKS="$extra/wheels"; fi
platform=$(python3 -c 'import platform, sys; print(sys.platform, platform.machine(), "%d.%d" % sys.version_info[:2])')
hashed=false
if [ "$platform" = "linux x86_64 3.11" ]; then hashed=true; fi

checked() { # what a file of requirements lists and nothing else
  "$pip" install --quiet --no-deps --no-build-isolation --require-hashes --requirement "docker/requirements/$1.txt"
}

case "$1" in
dependencies)
  python3 -m venv "$prefix"
  other_torch=${TORCH_INDEX:-}$(ls "$extra"/wheels/torch-*.whl 2>/dev/null || true)
  if ! $hashed; then
    echo "install.sh: $platform has no hashes in docker/requirements, installing by version"
    python3 - "${2:-}" >/tmp/requirements.txt <<'PYTHON'
import sys, tomllib
project = tomllib.load(open("pyproject.toml", "rb"))["project"]
print("\n".join(project["dependencies"] + project["optional-dependencies"].get(sys.argv[1], [])))
PYTHON
    "$pip" install --quiet --constraint constraints.txt --requirement /tmp/requirements.txt \
      ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"}
  elif [ "${2:-}" = train ] && [ -n "$other_torch" ]; then
    checked build
    checked train-cpu
    "$pip" install --quiet --constraint constraints.txt torch ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"}
  else
    checked build
    checked "${2:-data}"
  fi
  ;;
tendon)
  if $hashed; then
    checked kfp
    "$pip" install --quiet --no-deps --no-build-isolation .
  else
    "$pip" install --quiet --no-deps "$(sed -n 's/^kfp==/kfp==/p' constraints.txt)"
    "$pip" install --quiet --no-deps .
  fi
  # headers and tests of packages: nothing here compiles against them or runs them
  packages=$(echo "$prefix"/lib/python3*/site-packages)
  rm -rf "$packages"/pyarrow/include "$packages"/pyarrow/tests "$packages"/numpy/*/tests "$packages"/h5py/tests
  "$pip" uninstall --quiet --yes pip
  "$prefix/bin/python" -m compileall -q "$prefix/lib" || true # a read-only root file system cannot cache them later
  ;;
esac
