# Images for CPUs, `docker build -t alexnet_tf .`, and for NVIDIA GPUs,
# `docker build --target=gpu -t alexnet_tf:gpu .`. See docs/packaging.md.
ARG BASE=python:3.11.14-slim-bookworm

FROM ${BASE} AS wheel
WORKDIR /source
COPY pyproject.toml requirements.in README.md LICENSE ./
COPY flags flags
COPY alexnet_tf alexnet_tf
RUN pip wheel --no-cache-dir --no-deps --wheel-dir=/wheels .

FROM ${BASE} AS base
ENV PYTHONUNBUFFERED=1
RUN useradd --create-home --uid=1000 alexnet
WORKDIR /home/alexnet
ENTRYPOINT ["python", "-m", "alexnet_tf.main"]
CMD ["--help"]

# The CUDA libraries come from pip; the host supplies the driver.
FROM base AS gpu
COPY requirements-gpu.txt /tmp/
RUN pip install --no-cache-dir --require-hashes -r /tmp/requirements-gpu.txt
COPY --from=wheel /wheels /tmp/wheels
RUN pip install --no-cache-dir --no-deps /tmp/wheels/*.whl
USER 1000

FROM base AS cpu
COPY requirements.txt /tmp/
RUN pip install --no-cache-dir --require-hashes -r /tmp/requirements.txt
COPY --from=wheel /wheels /tmp/wheels
RUN pip install --no-cache-dir --no-deps /tmp/wheels/*.whl
USER 1000
