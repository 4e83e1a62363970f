# Every target sets up what it needs: a virtual environment in .venv with everything from constraints.txt.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
SOURCES := client core evaluator models proto selector storage supervisor trainer_server
CODE := client core evaluator models selector storage supervisor trainer_server tests examples benchmarks docs

.PHONY: help install run test test-slow test-pandas test-browser check format lint types proto proto-check bench study study-selection docs docs-check clean

help: ## Show the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

install: $(STAMP) ## Create .venv and install everything

# torch first and pinned: without the pin, pip would take the build with several gigabytes of CUDA libraries.
# Compiled, because where PYTHONDONTWRITEBYTECODE is set every process would do so again, which takes half a second.
$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch==$$(sed -n 's/^torch==//p' constraints.txt)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt hatchling editables
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-build-isolation --editable '.[dev]'
	$(BIN)/python -m compileall -q $(SOURCES)
	touch $@

run: install ## Run the main job: the digits example, report in runs/digits
	$(BIN)/python examples/digits/prepare.py
	$(BIN)/modyn-client run examples/digits/pipeline.yaml --output runs/digits

test: install ## Run all tests but the slow ones and those that need a browser or pandas
	$(BIN)/python -m pytest -m "not slow and not browser and not pandas" --numprocesses 2

test-slow: install ## Run the tests that take minutes
	$(BIN)/python -m pytest -m slow

# Beside the environment: installed there, Arrow would import it in every process, which takes a second.
test-pandas: install ## Run the tests that need pandas
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-deps --upgrade --target $(VENV)/pandas pandas
	PYTHONPATH=$(VENV)/pandas $(BIN)/python -m pytest -m pandas

test-browser: install ## Check the HTML reports in a real browser (Chromium)
	$(BIN)/python -m pytest -m browser

check: format lint types proto-check docs-check ## Format, lint, types, generated code and docs up to date

format: install
	$(BIN)/ruff format --check $(CODE)

lint: install
	$(BIN)/ruff check $(CODE)

types: install
	$(BIN)/mypy

PROTOC = PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m grpc_tools.protoc -I modyn/proto=proto \
	--python_out=$(1) --mypy_out=quiet:$(1) --grpc_python_out=$(1) --mypy_grpc_out=quiet:$(1) proto/*.proto

proto: install ## Regenerate the code of the protos
	$(call PROTOC,proto)

proto-check: install
	@rm -rf $(VENV)/proto-check && mkdir -p $(VENV)/proto-check
	@$(call PROTOC,$(VENV)/proto-check)
	@for file in $(VENV)/proto-check/modyn/proto/*; do \
		cmp "$$file" "proto/modyn/proto/$$(basename $$file)" || { echo "run 'make proto' and commit the result"; exit 1; }; \
	done; echo "generated code is up to date"

bench: install ## Measure speed; ONLY=part restricts it (results in benchmarks/)
	$(BIN)/python -m benchmarks $(if $(ONLY),--only $(ONLY))

study: install ## The long studies of drift tests (an hour; parts kept in .venv/study)
	$(BIN)/python -m benchmarks.triggers.studies $(VENV)/study

study-selection: install ## The study of downsampling strategies (an hour; parts kept in .venv/study-selection)
	$(BIN)/python -m benchmarks.selection.study $(VENV)/study-selection

docs: install ## Regenerate the reference pages, the example reports and their pictures (with Chromium)
	$(BIN)/python docs/generate.py
	$(BIN)/python -m docs.pictures

docs-check: install
	$(BIN)/python docs/generate.py --check
	$(BIN)/python -m docs.pictures --check

clean: ## Remove what runs and tools leave behind (not .venv)
	rm -rf runs .modyn build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
