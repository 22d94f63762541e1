# Needs Python >= 3.11 and make, nothing else. `make help` lists what there is.
PYTHON ?= python3
BIN := .venv/bin

# TORCH=cpu takes PyTorch's CPU wheels: without CUDA and triton, 4.3 of 7.2 GB
TORCH ?=
CPU_WHEELS := https://download.pytorch.org/whl/cpu

.PHONY: help setup quickstart demo web web-build screenshot test test-all bare lint format docs dist clean

help:  ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*##/ -/'

.venv/ready: pyproject.toml
	$(PYTHON) -m venv .venv
ifeq ($(TORCH),cpu)
	@echo "Downloads the package, its tools, and PyTorch for the CPU: some 3 GB when installed."
	$(BIN)/pip install --index-url $(CPU_WHEELS) torch torchvision
else
	@echo "Downloads the package, its tools, and on Linux PyTorch with CUDA: some 7 GB when installed."
	@echo "Without a GPU, 'make setup TORCH=cpu' leaves out 4 GB of it."
endif
	$(BIN)/pip install --editable '.[dev]'
	@touch $@

setup: .venv/ready  ## make .venv and install the package into it

# one thread: sums are rounded in its order, so that the same figures come out again on the same processor
quickstart: .venv/ready  ## sample data -> trained, evaluated, explained tiny model in runs/quickstart
	OMP_NUM_THREADS=1 $(BIN)/python scripts/train_and_push.py --data sample --preset tiny --epochs 12 --learning-rate 2e-3 \
		--run-dir runs/quickstart

demo: .venv/ready  ## the package's sample model in the browser, on http://127.0.0.1:7860
	$(BIN)/python space/app.py

web/dist/files.json: web/package-lock.json web/build.mjs $(shell find web/src web/static space/static/viewer stroke_hub/models/sample_model -type f)
	cd web && npm ci && npm run check && npm run build

web-build: web/dist/files.json  ## build the page that uploads nothing (needs Node 20 or newer)

web: web-build  ## the page that uploads nothing, on http://127.0.0.1:7861
	$(PYTHON) web/serve.py

screenshot: .venv/ready  ## draw docs/demo*.png again (needs Chromium)
	$(BIN)/python scripts/screenshot.py

# a worker more than cores: the tests of the demo mostly wait for it
test: .venv/ready  ## every test that takes seconds, on all cores
	$(BIN)/python -m pytest --numprocesses $$($(BIN)/python -c "import os; print(1 + os.cpu_count())") --dist loadfile --no-loadscope-reorder

test-all: .venv/ready  ## the proofs that take minutes too
	$(BIN)/python -m pytest -m ''

docs: .venv/ready  ## write the parts of docs/ that are made from the code
	$(BIN)/python scripts/write_docs.py

bare:  ## the wheel alone, in an empty environment: what the core does without PyTorch
	rm -rf .venv/bare && $(PYTHON) -m venv .venv/bare
	.venv/bare/bin/pip install --quiet .
	cd .venv/bare && bin/python -I ../../tests/bare.py

dist: .venv/ready  ## wheel and sdist, checked
	rm -rf dist && $(BIN)/python -m build
	$(BIN)/twine check --strict dist/*
	$(BIN)/check-wheel-contents dist/*.whl

lint: .venv/ready  ## ruff, mypy, and that imports only go down
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: .venv/ready  ## let ruff put the code in order
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## remove what the commands above wrote
	rm -rf .venv data dist runs web/dist web/node_modules
