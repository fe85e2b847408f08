# One image for web, worker, checks, beat and migrate: see docker-compose.yml for how each is started.
ARG PYTHON=3.13

FROM python:${PYTHON}-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_NO_INPUT=1 \
    STATIC_ROOT=/app/staticfiles
RUN python -m venv /opt/venv
COPY requirements/image.txt /tmp/image.txt
RUN /opt/venv/bin/pip install --quiet --require-hashes --requirement /tmp/image.txt
WORKDIR /app
COPY . .
RUN /opt/venv/bin/python manage.py collectstatic --no-input
RUN /opt/venv/bin/python -m compileall -q fundapi idempotency rollout
# For /health: docker build --build-arg COMMIT=$(git rev-parse HEAD)
ARG COMMIT=
RUN echo "$COMMIT" > COMMIT

FROM python:${PYTHON}-slim
# PROMETHEUS_MULTIPROC_DIR holds the metrics of all processes of a container. Mount a tmpfs on it and on /tmp; the
# rest of the file system can be read-only.
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    WEB_HOST=0.0.0.0 \
    PORT=8000 \
    STATIC_ROOT=/app/staticfiles \
    PROMETHEUS_MULTIPROC_DIR=/run/fundapi
# The worker needs git to open reverts (ROLLOUT_AUTO_REVERT). tini is PID 1: the kernel lets nobody kill that one, not
# even the watchdog of a process that hangs.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends git tini \
    && rm -rf /var/lib/apt/lists/*
RUN useradd --uid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin fundapi \
    && install --directory --owner fundapi --mode 0700 /run/fundapi
COPY --from=build /opt/venv /opt/venv
COPY --from=build /app /app
WORKDIR /app
USER 10001
EXPOSE 8000
# Liveness, not readiness: a restart would not bring back a database.
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import http.client as h, os, sys; c = h.HTTPConnection('127.0.0.1', os.environ['PORT'], timeout=2); c.request('GET', '/livez'); sys.exit(c.getresponse().status != 200)"]
ENTRYPOINT ["tini", "--"]
CMD ["python", "-m", "fundapi.web.serve"]
