# Packages are installed in a stage of their own: the image that runs holds no pip cache and no build tools.
# To pin the base for good, name it by digest: --build-arg PYTHON=python:3.13-slim-trixie@sha256:...
ARG PYTHON=python:3.13-slim-trixie

FROM ${PYTHON} AS packages
COPY requirements.lock /
RUN python -m venv /venv \
    && /venv/bin/pip install --no-cache-dir --disable-pip-version-check --no-deps --require-hashes --only-binary :all: -r /requirements.lock \
    && /venv/bin/pip check
COPY celeryconfig.py flowerconfig.py /app/
COPY integrations /app/integrations
COPY tasks /app/tasks
COPY occ /app/occ
# The root file system is read-only when it runs, so modules are compiled now.
RUN /venv/bin/python -m compileall -q /app

FROM ${PYTHON} AS pipeline
COPY --from=packages /venv /venv
COPY --from=packages /app /app
COPY deploy/image /usr/local/bin
WORKDIR /app
ENV PATH=/venv/bin:$PATH PYTHONPATH=/app PYTHONSAFEPATH=1 PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 OCC_DATA_DIR=/data
# The one folder that is written to: a volume or a tmpfs is mounted there.
RUN mkdir /data && chown 65534:65534 /data
USER 65534:65534
CMD ["celery", "--quiet", "-A", "tasks", "worker", "--queues", "occ,occ.steps,occ.tick", "--without-gossip", "--without-mingle", "--include", "tasks.worker.heartbeat"]

# With simulated stores, for the profile `demo`: docker build --target demo
FROM pipeline AS demo
USER 0:0
RUN mkdir /keys && chown 65534:65534 /keys
USER 65534:65534

# What a build without --target makes.
FROM pipeline
