# syntax=docker/dockerfile:1

# One image with the four services; the command says which of them runs. It needs BuildKit, for the caches.

FROM rust:1.95-slim-bookworm AS build
# For librdkafka: make and a C++ compiler.
RUN apt-get update \
    && apt-get install -y --no-install-recommends g++ make \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY . .
# A backtrace needs the names of functions. What a debugger needs beside them is three quarters of a program.
ENV CARGO_PROFILE_RELEASE_STRIP=debuginfo
# What is built stays in a cache that is no part of the image, so the programs are copied out of it in the same step.
# Two builds at once would be in each other's way. The cache may be that of another checkout, whose files were newer:
# touched, ours are what is built.
RUN --mount=type=cache,target=/usr/local/cargo/registry,sharing=locked \
    --mount=type=cache,target=/source/target,sharing=locked \
    find . -path ./target -prune -o -type f -exec touch {} + \
    && cargo build --locked --release -p examples \
        --example orders --example payments --example inventory --example orchestrator \
    && mkdir /programs \
    && for program in orders payments inventory orchestrator; do \
        cp "target/release/examples/$program" /programs/ || exit 1; \
    done

FROM debian:bookworm-slim AS services
# A number, so that it can be seen from outside that it is not root's.
RUN groupadd --system --gid 10001 orderweaver \
    && useradd --system --uid 10001 --gid orderweaver --no-create-home --shell /usr/sbin/nologin orderweaver
COPY --from=build /programs/ /usr/local/bin/
USER 10001:10001
# With nothing set it tells the story in memory: docker run --rm orderweaver:local orders --once
CMD ["orders"]
