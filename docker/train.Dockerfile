# The train image: train, export. The data image's packages and torch; CUDA unless TORCH_INDEX or a wheel says otherwise.
ARG BASE=python:3.11-slim-bookworm@sha256:a36c24f9cbdf4fd0f52d67f0823eeac19c2028c637cecc392d97f980d4fec56b
FROM ${BASE} AS build
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ARG TORCH_INDEX
COPY docker/extra /opt/extra
COPY docker/install.sh /opt/install.sh
WORKDIR /opt/source
COPY pyproject.toml constraints.txt ./
COPY docker/requirements ./docker/requirements
RUN /opt/install.sh dependencies train
COPY README.md LICENSE ./
COPY docker/wheel_hook.py ./docker/
COPY src ./src
RUN /opt/install.sh tendon

FROM ${BASE}
COPY --from=build /opt/tendon /opt/tendon
# Any user id may run it, on a read-only root file system: all that is written goes to /tmp.
ENV PATH=/opt/tendon/bin:/usr/local/bin:/usr/bin:/bin HOME=/tmp LOGNAME=tendon \
    PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 LC_ALL=C.UTF-8 \
    NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
ARG VERSION=0.0.0
ARG REVISION=unknown
ARG IMAGE
# what the record of a run says it was made in
ENV TENDON_IMAGE=${IMAGE} TENDON_COMMIT=${REVISION}
LABEL org.opencontainers.image.title="tendon-train" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="Apache-2.0"
WORKDIR /tmp
USER 10001:0
CMD ["tendon", "doctor"]
