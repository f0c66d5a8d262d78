# The data image: plan, convert, stats, select, report, promote. No torch.
# UNBUILT: a skeleton that says what goes in; see README.md.
ARG BASE=python:3.11-slim
FROM ${BASE}
WORKDIR /opt/tendon
COPY pyproject.toml constraints.txt README.md ./
COPY src ./src
# kfp without its dependencies: a pod needs its executor only, and installs nothing when it starts.
RUN pip install --no-cache-dir --constraint constraints.txt . && pip install --no-cache-dir --no-deps kfp==2.17.0
RUN useradd --uid 10001 --create-home tendon
USER 10001
