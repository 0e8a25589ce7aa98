# The service under test; its models are within the program. Build at the root of the repository:
#   docker build -f helm-config/images/target-service.Dockerfile --build-arg REVISION="$(git rev-parse HEAD)" \
#     -t registry.example/team/target-service:0.1.0 .
# See harness.Dockerfile on bases and digests.
FROM docker.io/library/rust:1.95.0-slim-trixie AS build
ENV RUSTUP_TOOLCHAIN=1.95.0 CARGO_PROFILE_RELEASE_STRIP=debuginfo
WORKDIR /src
COPY . .
ARG REVISION=unknown
RUN TARGET_SERVICE_REVISION="$REVISION" cargo build --release --locked -p target-service \
    && install -D target/release/target-service /out/target-service

FROM gcr.io/distroless/cc-debian13:nonroot
COPY --from=build /out/target-service /usr/local/bin/target-service
USER 65532:65532
EXPOSE 3010 9464
ENTRYPOINT ["/usr/local/bin/target-service"]
