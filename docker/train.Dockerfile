# Training, and the service of a checkpoint on a GPU. The packages of `eurosat export` are left out.
# `make images` builds this image; docs/howto/containers.md describes the build and the hardened start.
#
# BASE: an image with Python 3.11 or newer and Python's module venv. CUDA comes with torch.
ARG BASE=python:3.13-slim
FROM ${BASE}
RUN python3 -m venv /opt/eurosat
ENV PATH=/opt/eurosat/bin:$PATH
WORKDIR /source
# TORCH: cuda, or cpu for torch's CPU build, which takes 5 GB less and needs PyTorch's own index.
ARG TORCH=cuda
COPY requirements/cloud.txt requirements/cloud.txt
# The secret is an optional pip.conf that names another package index.
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    case "$TORCH" in \
      cuda) pip install --no-cache-dir --no-deps --require-hashes --requirement requirements/cloud.txt ;; \
      cpu) pip install --no-cache-dir uv==0.13.9 \
        && grep -oE '^torch(vision)?==[^ ;]+' requirements/cloud.txt > requirements/torch.txt \
        && uv pip install --no-cache --compile-bytecode --torch-backend cpu --no-deps \
          --requirement requirements/torch.txt \
        && awk '/^[a-z]/ { cuda = /^(torch|torchvision|triton|cuda-[a-z]+|nvidia-[a-z0-9-]+)==/ } !cuda' \
          requirements/cloud.txt > requirements/without-torch.txt \
        && pip install --no-cache-dir --no-deps --require-hashes \
          --requirement requirements/without-torch.txt ;; \
      *) echo "TORCH is cuda or cpu, and not $TORCH" >&2; exit 2 ;; \
    esac
# The sources are mounted, so that no layer holds them.
RUN --mount=type=bind,target=/source \
    pip install --no-cache-dir --no-deps --no-build-isolation /source
WORKDIR /project
RUN eurosat init . \
    && mkdir outputs \
    && chown -R 10001:10001 .
ARG VERSION=unknown
ARG REVISION=
LABEL org.opencontainers.image.title="eurosat-train" \
      org.opencontainers.image.description="Training of land-use classifiers for Sentinel-2 patches" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
ENV EUROSAT_REVISION=${REVISION} \
    HOME=/tmp \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    NVIDIA_VISIBLE_DEVICES=all \
    PYTHONDONTWRITEBYTECODE=1
USER 10001:10001
HEALTHCHECK NONE
ENTRYPOINT ["eurosat"]
CMD ["--help"]
