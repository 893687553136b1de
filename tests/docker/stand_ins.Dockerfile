# Debian's nginx and Prometheus in the shape of the official images, for tests where no image can be pulled.
FROM python:3.12-slim AS base
RUN apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends nginx-light prometheus wget \
    && rm -rf /var/lib/apt/lists/*

FROM base AS nginx

FROM base AS prometheus
RUN mkdir /prometheus && chown 65534:65534 /prometheus
USER 65534:65534
VOLUME /prometheus
ENTRYPOINT ["prometheus"]
