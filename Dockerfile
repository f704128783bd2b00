# syntax=docker/dockerfile:1
# The miner in a container. docs/how-to/run-in-a-container.md says how to start it; no secret is needed to build it.
#
#   docker build --build-arg EXTRAS="aer postgres" --tag qcompute:0.1.0 .

FROM python:3.11.13-slim-bookworm AS build
# The version that pyproject.toml names; a test compares them.
ARG UV_VERSION=0.13.8
# Extras of pyproject.toml: the providers you use, and postgres.
ARG EXTRAS="aer postgres"
ENV UV_COMPILE_BYTECODE=1 \
    UV_LINK_MODE=copy \
    UV_NO_CACHE=1 \
    UV_PROJECT_ENVIRONMENT=/opt/qcompute \
    UV_PYTHON_DOWNLOADS=never
RUN pip install --no-cache-dir "uv==${UV_VERSION}"
WORKDIR /src
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
# Dependencies first: they change less often than the code, and this layer is kept.
COPY pyproject.toml uv.lock README.md LICENSE ./
RUN read -ra extras <<< "${EXTRAS}" && \
    uv sync --frozen --no-dev --no-install-project "${extras[@]/#/--extra=}"
COPY qcompute ./qcompute
COPY neurons ./neurons
RUN read -ra extras <<< "${EXTRAS}" && \
    uv sync --frozen --no-dev --no-editable "${extras[@]/#/--extra=}"

FROM python:3.11.13-slim-bookworm
LABEL org.opencontainers.image.title="qcompute" \
      org.opencontainers.image.description="A miner of the Bittensor quantum-compute subnet" \
      org.opencontainers.image.licenses="MIT"
# Numbers, so that Kubernetes can see that it is not root.
RUN groupadd --system --gid 10001 qcompute && \
    useradd --system --uid 10001 --gid qcompute --home-dir /data --create-home --shell /usr/sbin/nologin qcompute && \
    mkdir /keys && chown qcompute:qcompute /keys && \
    chmod 700 /data /keys
COPY --from=build /opt/qcompute /opt/qcompute
ENV PATH=/opt/qcompute/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    QCOMPUTE_NEURON__FULL_PATH=/data/miner
USER 10001:10001
WORKDIR /data
# /data: ledger, wallet, spool; /keys: the ledger's key, where two share it. With them, and a tmpfs on /tmp, the root file system may be read-only.
VOLUME ["/data", "/keys"]
EXPOSE 8091
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=5s --start-period=120s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as u; u.urlopen(f'http://127.0.0.1:{os.environ.get(\"QCOMPUTE_AXON__PORT\", 8091)}/health', timeout=4)"]
ENTRYPOINT ["qcompute-miner"]
