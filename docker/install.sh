#!/bin/sh
# Makes the Python environment of an image in /opt/tendon. Called by the Dockerfiles, in their build stage only.
#   install.sh dependencies [EXTRA]   what pyproject.toml asks for, in the versions of constraints.txt
#   install.sh tendon                 tendon itself, and kfp without its dependencies: a step needs its executor only
set -eu
extra=/opt/extra
if [ -s "$extra/ca.crt" ]; then export PIP_CERT="$extra/ca.crt"; fi
export PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
if [ -d "$extra/wheels" ]; then export PIP_FIND_LINKS="$extra/wheels"; fi
case "$1" in
dependencies)
  python3 -m venv /opt/tendon
  python3 - "${2:-}" >/tmp/requirements.txt <<'PYTHON'
import sys, tomllib
project = tomllib.load(open("pyproject.toml", "rb"))["project"]
print("\n".join(project["dependencies"] + project["optional-dependencies"].get(sys.argv[1], [])))
PYTHON
  /opt/tendon/bin/pip install --quiet --constraint constraints.txt --requirement /tmp/requirements.txt \
    ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"}
  ;;
tendon)
  kfp=$(sed -n 's/^kfp==/kfp==/p' constraints.txt)
  /opt/tendon/bin/pip install --quiet --no-deps "$kfp"
  /opt/tendon/bin/pip install --quiet --no-deps .
  # headers and tests of packages: nothing here compiles against them or runs them
  rm -rf /opt/tendon/lib/python3*/site-packages/pyarrow/include /opt/tendon/lib/python3*/site-packages/pyarrow/tests \
    /opt/tendon/lib/python3*/site-packages/numpy/*/tests /opt/tendon/lib/python3*/site-packages/h5py/tests
  /opt/tendon/bin/pip uninstall --quiet --yes pip
  /opt/tendon/bin/python -m compileall -q /opt/tendon/lib || true # a read-only root file system cannot cache them later
  ;;
esac
