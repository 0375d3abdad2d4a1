# An image that makes objects. Nothing is loaded from a network when it runs: the embedded prior is in the package.
#
#   docker build -t dreamfusion_pl .
#   docker run --rm --network none --user "$(id -u):$(id -g)" -v "$PWD:/work" dreamfusion_pl fit --prompt "a red chair"
#
# For NVIDIA GPUs (its own Python 3.12; the driver comes from the machine):
#
#   docker build -t dreamfusion_pl --build-arg BASE=nvidia/cuda:12.8.1-runtime-ubuntu24.04 .
#   docker run --rm --gpus all -v "$PWD:/work" dreamfusion_pl fit --prompt "a red chair"
#
# BASE is any image with Debian's packages. EXTRAS adds parts of this package, such as [app]. On Linux pip brings
# PyTorch with CUDA, also where there is no GPU; PIP_EXTRA_INDEX_URL names an index with PyTorch's CPU build instead.
ARG BASE=python:3.11-slim-bookworm
FROM ${BASE}
ARG EXTRAS=""
ARG PIP_EXTRA_INDEX_URL=""

RUN python3 -c "import ensurepip" 2> /dev/null \
    || (apt-get update && apt-get install -y --no-install-recommends python3 python3-venv \
        && rm -rf /var/lib/apt/lists/*)
RUN python3 -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1

# The versions of the tested set, as far as the package needs them. An extra may want others, as gradio does.
WORKDIR /source
COPY setup.py MANIFEST.in requirements.txt README.md LICENSE CHANGELOG.md ./
COPY configs configs
COPY dreamfusion_pl dreamfusion_pl
RUN pip install --no-cache-dir -c requirements.txt . \
    && if [ -n "${EXTRAS}" ]; then pip install --no-cache-dir ".${EXTRAS}"; fi

RUN useradd --create-home maker && mkdir /work && chown maker /work
USER maker
WORKDIR /work
EXPOSE 7860
ENTRYPOINT ["python", "-m", "dreamfusion_pl"]
CMD ["--help"]
