# daydrive for a processor or a CUDA GPU; docs/DOCKER_GUIDE.md. Needs BuildKit, Docker's own builder since version 23.
ARG DEVICE=cpu

FROM python:3.11-slim-bookworm AS base
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_ROOT_USER_ACTION=ignore \
    PYTHONUNBUFFERED=1

# Only what the packages are; other changes of pyproject.toml leave the layers of the packages as they are.
FROM base AS requirements
WORKDIR /requirements
COPY pyproject.toml .
RUN python -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['dependencies'], sep='\n')" \
        > all.txt \
    && grep -E '^torch\b' all.txt > torch.txt

FROM base AS packages
RUN python -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH
COPY --from=requirements /requirements/torch.txt /requirements/

FROM packages AS torch-cpu
ARG CPU_WHEELS=https://download.pytorch.org/whl/cpu
RUN --mount=type=cache,target=/root/.cache/pip \
    pip install --index-url "${CPU_WHEELS}" -r /requirements/torch.txt

FROM packages AS torch-cuda
ARG CUDA_WHEELS=
RUN --mount=type=cache,target=/root/.cache/pip \
    pip install ${CUDA_WHEELS:+--index-url "${CUDA_WHEELS}"} -r /requirements/torch.txt

# hadolint ignore=DL3006
FROM torch-${DEVICE} AS dependencies
COPY --from=requirements /requirements/all.txt /requirements/
RUN --mount=type=cache,target=/root/.cache/pip \
    pip install -r /requirements/all.txt \
    && rm -rf /opt/venv/lib/python3.11/site-packages/torch/test

FROM base AS wheel
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN --mount=type=cache,target=/root/.cache/pip \
    pip wheel --no-deps --wheel-dir /wheels .

FROM base AS daydrive
ARG UID=1000
ARG GID=1000
# The folders data and runs of a clone are the volumes, so that the commands of all guides work as they stand. The home
# folder is anybody's, for `docker run --user`.
RUN groupadd --non-unique --gid "${GID}" daydrive \
    && useradd --non-unique --no-log-init --uid "${UID}" --gid "${GID}" --create-home daydrive \
    && chmod 1777 /home/daydrive \
    && install --directory --owner "${UID}" --group "${GID}" /data /runs /daydrive \
    && ln --symbolic /data /daydrive/data \
    && ln --symbolic /runs /daydrive/runs
COPY --from=dependencies /opt/venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH \
    HOME=/home/daydrive \
    USER=daydrive \
    PYTHONDONTWRITEBYTECODE=1 \
    TORCH_HOME=/data/weights \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility,video
RUN --mount=type=bind,from=wheel,source=/wheels,target=/wheels \
    pip install --no-cache-dir --no-deps --no-index /wheels/*.whl
WORKDIR /daydrive
COPY scripts scripts
COPY src/daydrive/configs configs
USER ${UID}:${GID}
VOLUME ["/data", "/runs"]
ENTRYPOINT ["daydrive"]
CMD ["--help"]
