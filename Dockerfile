# The server as a container image. Data goes to /var/lib/sluice; everything else is told by
# SLUICE_… variables (`sluice --help`). docker-compose.yml shows a scaled-out run.

FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
# Names of functions stay for backtraces, lines of code do not: they are most of the size.
ENV CARGO_PROFILE_RELEASE_STRIP=debuginfo
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked --bin sluice && cp target/release/sluice /usr/local/bin/sluice

# Neither git nor a shell is needed to run it: C library, certificates, the binary.
FROM debian:12-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --home-dir /var/lib/sluice --create-home --shell /usr/sbin/nologin sluice
COPY --from=build /usr/local/bin/sluice /usr/local/bin/sluice
USER 10001:10001
WORKDIR /var/lib/sluice
ENV SLUICE_LISTEN=0.0.0.0:8000 SLUICE_DATA_DIR=/var/lib/sluice
VOLUME /var/lib/sluice
EXPOSE 8000
# Whether this process answers, and no more: `sluice check` alone opens a pool and reaches
# every dependency each time, and a container that is killed because its database is away
# does not bring that back. Whoever sends requests asks /v1/readyz.
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 \
    CMD ["sluice", "check", "--live"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["sluice"]
CMD ["serve"]
