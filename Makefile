# `make demo` trains, evaluates, exports and predicts; `make test` runs the tests. Both set up .venv first if need be.
PYTHON ?= python3
BIN := .venv/bin
RUN := runs/digits_resnet20
# A process for each core, up to four, which take whole files: a file's tests share what was dear to make.
WORKERS := --numprocesses auto --maxprocesses 4 --dist loadfile

.PHONY: demo test test-all check benchmark

.venv/ready: pyproject.toml
	@$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 10), f"Expected Python 3.10 or later. Received: {sys.version}"'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	@touch $@

demo: .venv/ready
	$(BIN)/resnet train digits_resnet20 --workdir $(RUN)
	$(BIN)/resnet evaluate $(RUN)
	$(BIN)/resnet export $(RUN)
	$(BIN)/resnet predict $(RUN) $(RUN)/samples/7.png
	@echo
	@echo "run:        $(RUN) (recipe, history, curves.png, model.keras, evaluation.json, samples)"
	@echo "TensorBoard: $(BIN)/tensorboard --logdir $(RUN)/tensorboard"
	@echo "artifacts:  saved_models/digits_resnet20 (a folder for each version, with a README.md)"

test: .venv/ready
	$(BIN)/python -m pytest -m "not slow" $(WORKERS)

test-all: .venv/ready
	$(BIN)/python -m pytest $(WORKERS)

check: .venv/ready
	@$(BIN)/python -c 'import mypy, ruff' 2>/dev/null || $(BIN)/python -m pip install --quiet --editable '.[dev]'
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy resnet_keras
	$(BIN)/python -m pytest -m "not slow" $(WORKERS)

benchmark: .venv/ready
	$(BIN)/python benchmarks/training.py
