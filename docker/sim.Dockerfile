# The sim image: evaluate, confirm. The train image and the simulators, each in its own environment.
# UNBUILT: a skeleton that says what goes in; see README.md.
ARG BASE=python:3.11-slim
FROM ${BASE}
RUN apt-get update && apt-get install --yes --no-install-recommends libegl1 libgl1 libosmesa6 && rm -rf /var/lib/apt/lists/*
WORKDIR /opt/tendon
COPY pyproject.toml constraints.txt README.md ./
COPY src ./src
RUN pip install --no-cache-dir --constraint constraints.txt '.[train]' && pip install --no-cache-dir --no-deps kfp==2.17.0
RUN useradd --uid 10001 --create-home tendon
USER 10001
RUN tendon sims install robosuite
