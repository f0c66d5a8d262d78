# The train image: train, export. The data image and torch.
# UNBUILT: a skeleton that says what goes in; see README.md.
ARG BASE=python:3.11-slim
FROM ${BASE}
WORKDIR /opt/tendon
COPY pyproject.toml constraints.txt README.md ./
COPY src ./src
RUN pip install --no-cache-dir --constraint constraints.txt '.[train]' && pip install --no-cache-dir --no-deps kfp==2.17.0
RUN useradd --uid 10001 --create-home tendon
USER 10001
