# make train      train the default preset; ARGS="--steps 20 --method supervised" adds settings
# make test       all gates: sync, notebooks, ruff, mypy, eslint, pytest (its summary comes last); any red one fails
# make test-all   the same, with the slow cells and the slow tests
# make lint-js    eslint over dgcl_nb/static, where node and npm are installed
# make lab        JupyterLab at the project's folder, so that notebooks there share runs/ and data/ with the terminal
# make export     clean the notebooks and write dgcl_nb/ anew from them
# make bench      the timings in tests/bench/
# make gpu-check  the step, waits, memory and density on a GPU: results/gpu.md; without one nothing is measured; ARGS adds flags
# make docs       the documentation site, _docs/html/index.html: static, searched and read without a server or a network
# Each does the set-up itself, once: one environment in .venv, renewed when pyproject.toml changes. PYTHON=python3.12 names another Python for it.

SHELL := /bin/bash
PYTHON ?= python3
PY := .venv/bin/python
STAMP := .venv/installed
DOCS_STAMP := .venv/installed-docs
IN_VENV := export PATH="$(CURDIR)/.venv/bin:$$PATH"
NB_FLAGS :=
MARKS := not slow and not bench
ARGS :=

.PHONY: train test test-all lint-js lab export bench gpu-check docs docs-tools setup install
.DEFAULT_GOAL := test

train: $(STAMP)
	@$(PY) -m dgcl_nb.train $(ARGS)

test: $(STAMP)
	@$(IN_VENV); red=; \
	echo "== sync gate"; python tests/sync_gate.py || red="$$red sync"; \
	echo "== notebooks"; OMP_NUM_THREADS=1 MPLBACKEND=Agg nbdev-test --n-workers 2 --timing --flags "$(NB_FLAGS)" || red="$$red notebooks"; \
	echo "== ruff"; ruff check nbs tests results docs || red="$$red ruff"; \
	echo "== format"; ruff format --check nbs tests results docs || red="$$red format"; \
	echo "== names"; ruff check --isolated --select F821 dgcl_nb || red="$$red names"; \
	echo "== types"; mypy || red="$$red types"; \
	echo "== eslint"; bash tests/js/lint.sh || red="$$red eslint"; \
	echo "== pytest"; DGCL_NB_RED="$$red" OMP_NUM_THREADS=1 python -m pytest -m "$(MARKS)" --durations=10 || red="$$red pytest"; \
	test -z "$$red"

test-all:
	@$(MAKE) --no-print-directory test NB_FLAGS="slow" MARKS="not bench"

lint-js:
	@bash tests/js/lint.sh

lab: $(STAMP)
	@$(IN_VENV); jupyter lab $$([ "$$(id -u)" != 0 ] || echo --allow-root) --ServerApp.root_dir="$(CURDIR)" \
	--LabApp.default_url=/lab/tree/nbs/index.ipynb    # in a container one is often root

export: $(STAMP)
	@$(PY) tests/sync_gate.py --write

bench: $(STAMP)
	@$(IN_VENV); red=; for file in tests/bench/*.py; do \
	echo "== $$file"; python "$$file" || red="$$red $$file"; done; \
	if [ -n "$$red" ]; then echo "failed:$$red"; exit 1; fi

gpu-check: $(STAMP)
	@$(PY) tests/bench/bench_gpu.py $(ARGS)

docs: $(DOCS_STAMP)
	@$(IN_VENV); OMP_NUM_THREADS=1 python docs/make.py

docs-tools: $(DOCS_STAMP)

setup: $(STAMP)

# The stamps are copies of pyproject.toml: nbdev_export writes it anew as it is, so its content decides and not its time.
$(DOCS_STAMP): $(STAMP)
	@cmp -s pyproject.toml $@ || $(PY) -m pip install --disable-pip-version-check -e '.[docs]'
	@cp pyproject.toml $@

$(STAMP): pyproject.toml
	@cmp -s $< $@ || $(MAKE) --no-print-directory install
	@cp $< $@

install:
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(v < (3, 10) and f"Python 3.10 or newer is needed, {v[0]}.{v[1]} was found: make PYTHON=python3.12")'
	@$(PY) -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv .venv
	$(PY) -m pip install --disable-pip-version-check -e '.[dev]'
	@bash tests/install_hooks.sh || echo "the git hooks for notebooks were not installed (training and tests don't need them)"
