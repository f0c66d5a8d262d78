# The sim image: evaluate, conclude (select to promote). Torch on the CPU, and the simulators, each in an environment of its own.
ARG BASE=python:3.11-slim-bookworm@sha256:a36c24f9cbdf4fd0f52d67f0823eeac19c2028c637cecc392d97f980d4fec56b
FROM ${BASE} AS drawing
# what a simulator draws with when there is no screen
RUN apt-get update -qq \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends libegl1 libgl1 libosmesa6 >/dev/null \
    && rm -rf /var/lib/apt/lists/*

FROM drawing AS build
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ARG TORCH_INDEX
ARG SIMS="robosuite"
COPY docker/extra /opt/extra
COPY docker/install.sh /opt/install.sh
WORKDIR /opt/source
COPY pyproject.toml constraints.txt ./
COPY docker/requirements ./docker/requirements
RUN /opt/install.sh dependencies train
# Only what installs a simulator, so that a change elsewhere in tendon does not install it again: it takes minutes.
COPY src/tendon/__init__.py src/tendon/errors.py src/tendon/fork_server.py src/tendon/plugins.py src/tendon/trust.py /opt/installer/tendon/
COPY src/tendon/config/__init__.py src/tendon/config/digest.py src/tendon/config/feature_map.py src/tendon/config/numerics.py \
    src/tendon/config/schema.py /opt/installer/tendon/config/
COPY src/tendon/evaluate/__init__.py src/tendon/evaluate/adapters.py src/tendon/evaluate/sims.py src/tendon/evaluate/guest.py \
    /opt/installer/tendon/evaluate/
COPY src/tendon/sim /opt/installer/tendon/sim
RUN if [ -s /opt/extra/ca.crt ]; then export PIP_CERT=/opt/extra/ca.crt; fi; \
    export HOME=/tmp/home XDG_CACHE_HOME=/opt/sims PIP_NO_CACHE_DIR=1 NUMBA_CACHE_DIR=/tmp/numba PYTHONPATH=/opt/installer; \
    for sim in ${SIMS}; do \
      /opt/tendon/bin/python -c "import sys; from tendon.evaluate.sims import install; install(sys.argv[1], print)" "$sim" || exit $?; \
    done; \
    find /opt/sims -name __pycache__ -prune -exec rm -rf {} + ; \
    for python in /opt/sims/tendon/sims/*/bin/python; do "$python" -m compileall -q "${python%/bin/python}/lib" || true; done; \
    chmod -R a+rX /opt/sims
COPY README.md LICENSE ./
COPY docker/wheel_hook.py ./docker/
COPY src ./src
RUN /opt/install.sh tendon

FROM drawing
COPY --from=build /opt/sims /opt/sims
COPY --from=build /opt/tendon /opt/tendon
COPY docker/sims /opt/sims/image
# Any user id may run it, on a read-only root file system: all that is written goes to /tmp.
ENV PATH=/opt/tendon/bin:/usr/local/bin:/usr/bin:/bin HOME=/tmp LOGNAME=tendon \
    PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 LC_ALL=C.UTF-8 \
    XDG_CACHE_HOME=/opt/sims NUMBA_CACHE_DIR=/tmp/numba MESA_SHADER_CACHE_DIR=/tmp/mesa
ARG VERSION=0.0.0
ARG REVISION=unknown
ARG IMAGE
# what the record of a run says it was made in
ENV TENDON_IMAGE=${IMAGE} TENDON_COMMIT=${REVISION}
LABEL org.opencontainers.image.title="tendon-sim" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="Apache-2.0"
# In this stage, because numba looks at the time stamps of the files as they are in the image.
RUN for sim in /opt/sims/tendon/sims/*/lib/python3*/site-packages; do cp /opt/sims/image/numba_cache.py "$sim/"; echo "import numba_cache" > "$sim/numba_cache.pth"; done; \
    PYTHONDONTWRITEBYTECODE= NUMBA_CACHE_DIR=/opt/sims/numba python3 /opt/sims/image/warm.py \
    && chmod -R a+rX /opt/sims/numba && rm -rf /tmp/*
WORKDIR /tmp
USER 10001:0
CMD ["tendon", "doctor"]
