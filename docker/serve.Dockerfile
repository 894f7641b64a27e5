# The service: an ONNX or OpenVINO model behind `eurosat serve`, without torch. `make images` builds
# this image with a model; docs/howto/containers.md describes the build and the hardened start.
#
# BASE: an image with Python 3.11 or newer and Python's module venv.
ARG BASE=python:3.13-slim

FROM ${BASE} AS build
WORKDIR /source
RUN python3 -m venv /opt/eurosat
ENV PATH=/opt/eurosat/bin:$PATH
# BACKEND: onnx, or openvino for OpenVINO files as well, which takes another 180 MB.
ARG BACKEND=onnx
# PACKAGES: serve, or monitor for `eurosat drift`, `eurosat log` and logs and models in buckets as
# well, which takes another 340 MB.
ARG PACKAGES=serve
COPY requirements/serve.txt requirements/monitor.txt requirements/
# The secret is an optional pip.conf that names another package index.
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    case "$BACKEND" in \
      onnx) drop='^openvino' ;; \
      openvino) drop='^$' ;; \
      *) echo "BACKEND is onnx or openvino, and not $BACKEND" >&2; exit 2 ;; \
    esac \
    && awk -v drop="$drop" '/^[a-z]/ { left_out = ($0 ~ drop) } !left_out' \
      "requirements/$PACKAGES.txt" \
      > requirements/image.txt \
    && pip install --no-cache-dir --no-deps --require-hashes --requirement requirements/image.txt
COPY . .
RUN pip install --no-cache-dir --no-deps --no-build-isolation . \
    && pip uninstall --yes hatchling editables pathspec pluggy trove-classifiers setuptools pip \
    && find /opt/eurosat -type d -name tests -prune -exec rm -r {} + \
    && find /opt/eurosat \( -name '*.[ach]' -o -name '*.pyx' -o -name '*.pxd' \) -delete

FROM ${BASE}
ARG VERSION=unknown
ARG REVISION=
LABEL org.opencontainers.image.title="eurosat-serve" \
      org.opencontainers.image.description="Land-use classification of Sentinel-2 patches over HTTP" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /opt/eurosat /opt/eurosat
# MODEL: a file, or a folder or pattern of the files of one model, in the build's folder.
ARG MODEL=models
COPY ${MODEL} /models/
ENV PATH=/opt/eurosat/bin:$PATH \
    HOME=/tmp \
    PYTHONDONTWRITEBYTECODE=1
# A volume that is mounted here for the prediction log belongs to the user of the service.
RUN mkdir /log && chown 10001:10001 /log
USER 10001:10001
# Opens the model as the service opens it: a missing or second model, a missing .bin, a model that
# BACKEND cannot run, and a file that the user may not read end the build.
RUN ["python3", "-c", "import sys; sys.tracebacklimit = 0; from pathlib import Path; from eurosat.inference.runtime import open_model; from eurosat.registry.find import find_model; open_model(find_model('/models', Path('/tmp')), threads=1)"]
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s \
    CMD ["python3", "-c", "import os, urllib.request; port = os.environ.get('AIP_HTTP_PORT') or os.environ.get('PORT') or 8000; urllib.request.urlopen(f'http://127.0.0.1:{port}/health', timeout=4)"]
ENTRYPOINT ["eurosat", "serve"]
CMD ["/models"]
