# `make demo` and `make test` set everything up by themselves, in .venv; all they need is Python 3.11 or 3.12.
# PYTHON=/path/to/python chooses one.

SHELL := /bin/sh
BIN := .venv/bin
READY := .venv/.ready
LOCKED := .venv/.locked
PYTHONS := python3.11 python3.12
unexport PYTHONPATH PYTHONHOME

.PHONY: demo test test-all check lint format mutations proof bench readme notebooks schemas docs lock wheels clean

demo: $(READY) ## all of it, on a simulated workspace
	@$(BIN)/beepgpt demo

test: lint check ## what a person waits for: lint, types, every law at small sizes, a broker, a browser

check: $(READY)
	HYPOTHESIS_PROFILE=quick $(BIN)/python -m pytest -n 2 --dist loadgroup -m "not slow" $(ARGS)

test-all: $(READY) ## the rest: kills, real data, every property with 100 histories
	$(BIN)/python -m pytest -n 2 --dist loadgroup -m "slow or hypothesis" $(ARGS)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

format: $(READY) ## mend what can be mended by itself
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

proof: $(READY) ## what is too long for every day, part by part; goes on where it stopped, and writes docs/proof.md
	@$(BIN)/python -m tests.proof $(ARGS)

mutations: $(READY) ## plants leaks and losses in copies of the code, and writes docs/mutations.md
	$(BIN)/python -m tests.mutations $(ARGS)

bench: $(READY) ## every measurement in benchmarks/
	@for each in benchmarks/*.py; do echo "== $$each"; $(BIN)/python "$$each" $(ARGS) || exit 1; done

readme: $(READY) ## fills the README's blocks with what the program prints
	$(BIN)/python docs/fill_readme.py

notebooks: $(READY) ## runs the notebooks, and keeps what they show
	$(BIN)/python notebooks/run.py

schemas: $(READY) ## the JSON Schemas of records, in docs/reference/schemas
	$(BIN)/python -m docs.make_schemas

docs: $(READY) ## the pages as a site, in build/site
	$(BIN)/python -m mkdocs build --strict

# Hashes only: no address of a registry stands in a lock, so that every mirror will do.
LOCK := uv pip compile pyproject.toml --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --custom-compile-command "make lock"

lock: ## newer versions: make lock ARGS=--upgrade
	@command -v uv >/dev/null || { echo "make lock needs uv: pip install uv" >&2; exit 1; }
	$(LOCK) $(ARGS) --output-file requirements.lock
	$(LOCK) $(ARGS) --group dev --constraint requirements.lock --output-file requirements-dev.lock
	$(LOCK) $(ARGS) --extra all --constraint requirements-dev.lock --output-file requirements-image.lock

# Of the plain one there is one for all; a compiled one (setup.py) is of one version of Python.
wheels: $(READY) ## in dist/: the plain build, and the compiled one for each of PYTHONS that is here
	rm -rf dist build/lib* build/bdist.*
	$(BIN)/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist .
	@for python in $(PYTHONS); do \
		version=$$("$$python" -c 'import ensurepip, sys, venv; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || \
			{ echo "$$python is not here, or lacks the venv module: no compiled build for it (make wheels PYTHONS=/path/to/python3.12)" >&2; continue; }; \
		venv=build/wheels-$$version; \
		"$$python" -m venv --clear $$venv && \
		sed -n 's/^\([a-z0-9-]*==[^ ]*\).*/\1/p' requirements-dev.lock >$$venv/versions.txt && \
		$$venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements.lock && \
		$$venv/bin/python -m pip install --quiet --disable-pip-version-check --constraint $$venv/versions.txt mypy setuptools && \
		BEEPGPT_COMPILE=1 $$venv/bin/python -m pip wheel --quiet --disable-pip-version-check --no-deps --no-build-isolation --wheel-dir dist . \
			|| exit 1; \
	done
	@ls -l dist

clean: ## also forgets .venv
	rm -rf .venv .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache build dist *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(READY): $(LOCKED) pyproject.toml
	@$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

# Some pythonX.Y on a PATH only say that they aren't installed (pyenv's shims), and Debian's may lack ensurepip: so each is tried.
$(LOCKED): requirements-dev.lock
	@found=; chosen=; \
	for each in $${PYTHON:-python3.12 python3.11 python3 python}; do \
		version=$$("$$each" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || continue; \
		case $$version in \
			3.11|3.12) "$$each" -c 'import ensurepip, venv' 2>/dev/null && { chosen=$$each; break; }; \
				found="$$found $$each (Python $$version, without the venv module)" ;; \
			*) found="$$found $$each (Python $$version)" ;; \
		esac; \
	done; \
	if [ -z "$$chosen" ]; then \
		echo "BeepGPT needs Python 3.11 or 3.12 with its venv module. Found:$${found:- none}." >&2; \
		echo "Install one (on Debian and Ubuntu: apt install python3.11-venv), or name it: make PYTHON=/path/to/python3.11" >&2; \
		exit 1; \
	fi; \
	echo "Setting up .venv with $$chosen (Python $$version), once. This takes a minute." >&2; \
	"$$chosen" -m venv --clear .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements-dev.lock
	@touch $@
