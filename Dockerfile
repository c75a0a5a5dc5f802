# Pinned by version; to pin it to the byte, add its digest, which `docker buildx imagetools inspect python:3.12.13-slim-trixie` prints.
FROM python:3.12.13-slim-trixie AS build

ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
RUN apt-get update && apt-get install --yes --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*
RUN python -m venv --without-pip /opt/beepgpt

# What we use comes first: it changes less often than we do. Hashes say what is installed: what all commands need,
# those that ask a model's server among them.
COPY requirements-image.lock requirements-dev.lock ./
RUN python -m pip --python /opt/beepgpt/bin/python install --require-hashes --only-binary :all: --requirement requirements-image.lock \
    && for each in setuptools mypy mypy-extensions librt ast-serialize pathspec typing-extensions; do \
        sed -n "/^$each==/,/[^\\\\]$/p" requirements-dev.lock; done > build.lock \
    && python -m pip install --require-hashes --only-binary :all: --requirement build.lock

COPY pyproject.toml setup.py README.md LICENSE ./
COPY beepgpt/ beepgpt/
COPY config/ config/
COPY connectors/ connectors/
COPY dataflows/ dataflows/
# The compiled build (setup.py): mypy looks at what we use, which is installed above.
RUN BEEPGPT_COMPILE=1 PYTHONPATH="$(echo /opt/beepgpt/lib/python*/site-packages)" \
    python -m pip wheel --no-deps --no-index --no-build-isolation --wheel-dir /wheels . \
    && python -m pip --python /opt/beepgpt/bin/python install --no-deps --no-index /wheels/*.whl

# The encodings are unpacked here, since the running program can write to its volume only.
ENV TIKTOKEN_CACHE_DIR=/opt/beepgpt/tiktoken
WORKDIR /
RUN /opt/beepgpt/bin/python -c "from beepgpt.connectors.tokenizer import load_encoding as load; load('o200k_base'); load('cl100k_base')" \
    && chmod -R a+rX "$TIKTOKEN_CACHE_DIR"


FROM python:3.12.13-slim-trixie

ENV PATH=/opt/beepgpt/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 TIKTOKEN_CACHE_DIR=/opt/beepgpt/tiktoken
# LightGBM, which `beepgpt score` needs for a local model, is linked to the system's OpenMP.
RUN apt-get update && apt-get install --yes --no-install-recommends libgomp1 && rm -rf /var/lib/apt/lists/* \
    && python -m pip uninstall --yes pip \
    && useradd --system --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin beepgpt \
    && install --directory --owner beepgpt --group beepgpt --mode 0700 /recovery /store /live
COPY --from=build /opt/beepgpt /opt/beepgpt

# By number, so that Kubernetes can see that it isn't root.
USER 10001:10001
WORKDIR /
STOPSIGNAL SIGTERM
CMD ["beepgpt", "--help"]
