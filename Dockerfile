# datalabd as a container image: the locked wheels and the project, nothing that compiles or installs.
#
# The base is pinned by tag. To pin it by digest too, take the one that
#     docker buildx imagetools inspect python:3.11-slim-bookworm
# prints and write python:3.11-slim-bookworm@sha256:… here; both stages use this one line.
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS build
WORKDIR /src
COPY . .
RUN hack/install_image.sh /opt/datalabd

FROM ${BASE}
LABEL org.opencontainers.image.title="datalabd" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /opt/datalabd /opt/datalabd
# No account of that number exists, and no home: a numeric user is what runAsNonRoot can verify.
ENV PATH=/opt/datalabd/bin:$PATH HOME=/nonexistent PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
# Buffers of 48 KiB and more go back to the system once they are free; glibc would keep whatever a burst has needed.
ENV MALLOC_MMAP_THRESHOLD_=49152
USER 65532:65532
EXPOSE 9443 8080 8181
ENTRYPOINT ["datalabd"]
CMD ["run"]
