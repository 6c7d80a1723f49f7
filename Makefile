# Two commands for a fresh machine: `make demo` and `make test`. Both set up .venv first.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
BENCHES := bench-accuracy bench-extract bench-memory bench-speed bench-demo bench-round_trips \
	bench-change_accuracy bench-change_scenes bench-change_speed \
	bench-compare_cost bench-compare_choice bench-check_planted bench-tasks_fashion \
	bench-finetune_speed bench-finetune_accuracy bench-partial_speed bench-stanford40 bench-processes

.PHONY: demo test check nightly index bench $(BENCHES) format clean

demo: $(READY)  ## train on the packaged textile images and end with a report
	$(BIN)/regraft train sample:textile

test: $(READY)  ## the default suite, about ten minutes on two cores
	$(BIN)/python -m pytest

check: $(READY)  ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

nightly: $(READY)  ## the long tests and the commands of all documents too
	$(BIN)/python -m pytest -m "nightly or not nightly"

bench: $(BENCHES)  ## every number that the documents quote

$(BENCHES): bench-%: $(READY)
	$(BIN)/python benchmarks/$*.py

index: $(READY)  ## the index by which networks are recognised, from the installed zoos (about 20 minutes)
	$(BIN)/python -m regraft.backbones.fingerprint_build

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[all,dev]'
	touch $@

clean:
	rm -rf $(VENV) runs
