# The packages are installed in a stage of their own: the image that runs holds no pip cache and no build tools.
FROM python:3.13-slim AS packages
COPY requirements.lock /
RUN python -m venv /venv && /venv/bin/pip install --no-cache-dir --require-hashes -r /requirements.lock

FROM python:3.13-slim
COPY --from=packages /venv /venv
COPY celeryconfig.py /app/
COPY integrations /app/integrations
COPY tasks /app/tasks
WORKDIR /app
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 OCC_DATA_DIR=/data
RUN mkdir /data && chown 65534:65534 /data
USER 65534:65534
CMD ["celery", "--quiet", "-A", "tasks", "worker", "--queues", "occ,occ.steps,occ.tick", "--without-gossip", "--without-mingle"]
