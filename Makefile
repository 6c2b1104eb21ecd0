# Everything on a fresh machine with Python >= 3.10 and git:
#   make demo    virtual environment, install, and the main job (a few minutes on 2 cores)
#   make test    virtual environment, install, and the tests
#   make test-slow  every case of the tables of which `make test` has a sample
#   make check   lint, types and the tests
#   make dist    wheel and sdist, checked
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# tiny tensors only lose time to more threads
export OMP_NUM_THREADS ?= 1

.PHONY: demo test test-slow check lint docs dist clean

demo: $(INSTALLED)
	$(BIN)/disback demo --out out/demo --resume

test: $(INSTALLED)
	$(BIN)/python -m pytest -n 2 --dist loadgroup

# faults at every call that changes a file, flips in every file that a run resumes from
test-slow: $(INSTALLED)
	$(BIN)/python -m pytest -n 2 --dist loadgroup -m thorough

check: lint test

# docs/ as a site, in out/site
docs: $(INSTALLED)
	$(BIN)/mkdocs build --quiet

# wheel and sdist of this commit, checked, in out/dist; needs no network once installed
dist: $(INSTALLED)
	rm -rf out/dist
	$(BIN)/python -m build --no-isolation --outdir out/dist
	$(BIN)/twine check --strict out/dist/*
	$(BIN)/check-wheel-contents out/dist/*.whl

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(INSTALLED): pyproject.toml setup.py
	$(PYTHON) -c 'import sys; sys.exit("Python >= 3.10 is needed, this is " + sys.version.split()[0] if sys.version_info < (3, 10) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) out build *.egg-info
