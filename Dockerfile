# Builds the service. `docker build -t sidecall .`, then for example
# docker run --rm -v "$PWD/examples:/tools:ro" sidecall serve --tools /tools/city_tools.py --listen unix:/tmp/api.sock
ARG BASE_IMAGE=python:3.11-slim

FROM ${BASE_IMAGE} AS build
RUN python3 -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1
WORKDIR /src
COPY requirements/server.txt requirements/build.txt requirements/
RUN python3 -m venv /opt/build \
    && /opt/build/bin/pip install --require-hashes -r requirements/build.txt \
    && pip install --require-hashes -r requirements/server.txt
COPY pyproject.toml README.md LICENSE ./
COPY client/python client/python
COPY sidecar sidecar
RUN /opt/build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /dist . \
    && pip install --no-deps /dist/*.whl \
    && pip uninstall --yes pip

FROM ${BASE_IMAGE}
# tini is process 1 and reaps what tools in processes leave behind: a killed worker's own
# children become those of process 1. The sidecar cannot do it itself, as it cannot tell them
# from children that a tool of its own process still waits for.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends tini \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build /opt/venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1
USER 65532:65532
WORKDIR /tmp
ENTRYPOINT ["tini", "--", "sidecall"]
CMD ["serve"]
