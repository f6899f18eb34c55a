# Container image of Runward: interpreter, locked libraries and gateway; no shell, package manager or compiler.
#
#   docker build --tag runward:local .
#
# Builds with the same PYTHON_IMAGE, SOURCE_DATE_EPOCH and sources contain the same files (docs/deploy.md).

# Python 3.11 or newer on Debian, with the module venv. Pinned by digest, because a tag can be moved.
ARG PYTHON_IMAGE=docker.io/library/python:3.14-slim-trixie@sha256:51dafde81dbdb6ebde285137a295cf18a47ca95234fe388a343719cb97305b3d

# hadolint ignore=DL3006
FROM ${PYTHON_IMAGE} AS build
ARG SOURCE_DATE_EPOCH=0
# For networks with a private package index or certificate authority; not part of the final image.
ARG PIP_INDEX_URL=
ARG PIP_CERT=
# Empty if the builder mounts a cache.
ARG PIP_NO_CACHE_DIR=1
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONHASHSEED=0
WORKDIR /src
COPY deploy/image/build.lock deploy/image/runtime.lock deploy/image/
RUN python3 -m venv /build \
    && /build/bin/python -m pip install --quiet --require-hashes --only-binary :all: -r deploy/image/build.lock \
    && python3 -m venv --without-pip /opt/runward \
    && /build/bin/python -m pip --python /opt/runward/bin/python install --quiet --no-compile \
        --require-hashes --only-binary :all: -r deploy/image/runtime.lock
COPY pyproject.toml README.md LICENSE ./
COPY providers providers
COPY gateway gateway
RUN /build/bin/python -m pip wheel --quiet --no-index --no-deps --no-build-isolation --wheel-dir /wheels . \
    && /build/bin/python -m pip --python /opt/runward/bin/python install --quiet --no-compile \
        --no-index --no-deps /wheels/*.whl
COPY deploy/image/collect.py deploy/image/healthcheck.py deploy/image/
RUN install -D -m 0644 deploy/image/healthcheck.py /opt/runward/libexec/healthcheck.py \
    && python3 deploy/image/collect.py /opt/runward /rootfs \
    && mkdir -p /data/runward && touch -d "@${SOURCE_DATE_EPOCH}" /data/runward

FROM scratch
ARG PYTHON_IMAGE
ARG VERSION=0.0.0+local
ARG REVISION=unknown
ARG CREATED=1970-01-01T00:00:00Z
ARG SOURCE=
LABEL org.opencontainers.image.title="Runward" \
      org.opencontainers.image.description="One HTTP service in front of PromptLayer and Prompt Studio" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}" \
      org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.base.name="${PYTHON_IMAGE}"
COPY --from=build /rootfs/ /
COPY --from=build --chown=10001:10001 /data/ /var/lib/
# RUNWARD_SECRETS_DIR is a path, not a secret.
# hadolint ignore=DL3064
ENV LANG=C.UTF-8 \
    PATH=/opt/runward/bin \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    RUNWARD_CONFIG=/etc/runward/gateway.yaml \
    RUNWARD_SECRETS_DIR=/run/secrets/runward \
    SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
USER 10001:10001
WORKDIR /var/lib/runward
VOLUME ["/var/lib/runward"]
EXPOSE 8080 9090
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["/opt/runward/bin/python", "-I", "-S", "/opt/runward/libexec/healthcheck.py"]
# dumb-init is process 1: it forwards signals to the gateway and reaps orphaned processes.
ENTRYPOINT ["/opt/runward/bin/dumb-init", "--single-child", "--", "/opt/runward/bin/runward"]
CMD ["serve"]
