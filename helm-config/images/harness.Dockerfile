# The gate. Build at the root of the repository:
#   docker build -f helm-config/images/harness.Dockerfile -t registry.example/team/harness:0.1.0 .
# rust-toolchain.toml names the compiler; the tag below is that version. Pin both bases by digest where you build
# (FROM name:tag@sha256:…): the digests could not be looked up where this was written.
FROM docker.io/library/rust:1.95.0-slim-trixie AS build
# Else rustup would fetch the components that rust-toolchain.toml names for contributors.
ENV RUSTUP_TOOLCHAIN=1.95.0
# A fifth of the size; the names of functions stay.
ENV CARGO_PROFILE_RELEASE_STRIP=debuginfo
WORKDIR /src
COPY . .
RUN cargo build --release --locked -p harness && install -D target/release/harness /out/harness \
    && install -d -o 65532 -g 65532 /out/runs

# glibc, CA certificates and nothing else: no shell, no package manager. Same Debian release as above, for its glibc.
FROM gcr.io/distroless/cc-debian13:nonroot
COPY --from=build /out/harness /usr/local/bin/harness
COPY --from=build --chown=65532:65532 /out/runs /runs
COPY scenarios /usr/share/harness/scenarios
COPY slo /usr/share/harness/slo
USER 65532:65532
WORKDIR /runs
ENTRYPOINT ["/usr/local/bin/harness"]
