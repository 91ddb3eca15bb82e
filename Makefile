# Everything a reader or a maintainer does with the book. `make` alone lists the targets.
# Each target sets up what it needs in .venv, once.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/pip --disable-pip-version-check install -q -c constraints.txt
SETUP  := pyproject.toml constraints.txt
JOBS   ?= 2
# One thread for each of $(JOBS) workers: two that fight for the same cores are slower than one.
# And glibc keeps the memory of large arrays for the next ones: page faults can take a third of the time.
KEEP   := MALLOC_MMAP_THRESHOLD_=1073741824 MALLOC_TRIM_THRESHOLD_=2147483647
PYTEST := BOOK_DEVICE=cpu OMP_NUM_THREADS=1 $(KEEP) $(BIN)/pytest -n $(JOBS) --dist loadfile
NBVAL  := --nbval --nbval-current-env --nbval-cell-timeout=300
DATA_CHAPTERS := $(shell grep -l load_mnist notebooks/*.ipynb)

export KERAS_BACKEND := torch
# The folder that holds mnist.npz, if you have one: an absolute path for kernels that start elsewhere.
export BOOK_DATA := $(shell d="$$BOOK_DATA"; case "$$d" in (""|/*|"~"*) ;; (*) d="$$PWD/$$d";; esac; printf %s "$$d")
# Figures go into the page, whatever the shell asks of Matplotlib.
unexport MPLBACKEND

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help book lab notebooks test test-offline test-rounding test-networks test-browser lint bench clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

$(VENV)/pip.done: constraints.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("The book needs Python 3.11 or later: name one, as in `make PYTHON=python3.12 book`.")'
	$(PYTHON) -m venv $(VENV)
	$(PIP) --upgrade pip
	@touch $@

$(VENV)/book.done: $(VENV)/pip.done $(SETUP)
	$(PIP) --group book
	@touch $@

$(VENV)/test.done: $(VENV)/pip.done $(SETUP)
	$(PIP) --group test --editable '.[ship]'
	@touch $@

$(VENV)/lab.done: $(VENV)/pip.done $(SETUP)
	$(PIP) --editable '.[lab,ship]'
	@touch $@

$(VENV)/browser.done: $(VENV)/pip.done $(SETUP)
	$(PIP) --group test --group browser
	@touch $@

book: $(VENV)/book.done ## render the book into book/_build/html
	rm -rf book/_build/html
	$(BIN)/jupyter-book build . --config book/_config.yml --toc book/_toc.yml --path-output book --all -W --keep-going -q
	@echo "The book: book/_build/html/index.html"

lab: $(VENV)/lab.done ## open the chapters in JupyterLab
	$(BIN)/jupyter lab --notebook-dir notebooks $(LAB)

notebooks: $(VENV)/test.done ## run every chapter, store its outputs, stamp it (name some: CHAPTERS="notebooks/01_concepts.ipynb")
	BOOK_DEVICE=cpu $(BIN)/python -m tools.notebooks run $(CHAPTERS)

test: $(VENV)/test.done ## run the tests, then every cell of every chapter against what the page shows
	@failed=0; $(PYTEST) --ignore tests/test_book.py || failed=1; \
	$(PYTEST) $(NBVAL) notebooks || failed=1; exit $$failed

test-offline: $(VENV)/test.done ## the data tests and the chapters that use data, with no folder, no cache and no network
	cache=$$(mktemp -d) && trap 'rm -rf "$$cache"' EXIT && \
	export BOOK_DATA= KERAS_HOME="$$cache" https_proxy=http://127.0.0.1:9 && \
	$(PYTEST) tests/test_data.py && \
	$(if $(DATA_CHAPTERS),$(PYTEST) $(NBVAL) $(DATA_CHAPTERS),true)

test-rounding: $(VENV)/test.done ## every chapter once more, as a processor from 2004 would round it (on x86)
	OPENBLAS_CORETYPE=Prescott ATEN_CPU_CAPABILITY=default $(PYTEST) $(NBVAL) $(or $(CHAPTERS),notebooks)

test-networks: $(VENV)/test.done ## 1,200 random networks, copied both ways and compared (the tests draw 360 of them)
	BOOK_DEVICE=cpu OMP_NUM_THREADS=1 BOOK_NETWORKS=$(or $(BOOK_NETWORKS),1200) $(BIN)/pytest -s tests/test_networks.py

test-browser: book $(VENV)/browser.done ## load every built page in a real browser (needs Chromium or Chrome)
	$(PYTEST) --dist load tests/test_book.py

lint: $(VENV)/test.done ## check code and notebooks with ruff
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

bench: $(VENV)/test.done ## what takes longer than a chapter may, measured and stored (name some: BENCH="steps to99")
	PYTHONPATH=.:notebooks $(BIN)/python -m tools.bench $(BENCH)

clean: ## remove the rendered book, .venv and caches
	rm -rf book/_build $(VENV) .hypothesis .pytest_cache .ruff_cache
