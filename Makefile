# `make demo` trains, evaluates, exports and predicts; `make test` runs the tests. Both set up .venv first.
PYTHON ?= python3
BIN := .venv/bin
RUN := runs/digits_resnet20
# A process for each core, up to four: three on two cores took a third more CPU time than two. Each takes whole files, because
# the tests of a file share networks and exports.
PROCESSES = $(shell $(PYTHON) -c "import os; print(min(len(getattr(os, 'sched_getaffinity', lambda _: range(os.cpu_count() or 1))(0)), 4))")
WORKERS = --numprocesses $(PROCESSES) --dist loadfile

.PHONY: demo test test-all check benchmark constraints docs

# A virtual environment that has the packages of one extra more than the core; `test` includes `export`.
define install
	@$(PYTHON) -c 'import sys; assert (3, 10) <= sys.version_info[:2] <= (3, 13), f"Expected Python 3.10 to 3.13, named by PYTHON=python3.13. Received: {sys.version}"'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[$(1)]'
	@touch $@
endef

.venv/export .venv/test .venv/dev .venv/docs: pyproject.toml
	$(call install,$(notdir $@))

demo: .venv/export
	$(BIN)/resnet train digits --workdir $(RUN)
	$(BIN)/resnet evaluate $(RUN)
	$(BIN)/resnet export $(RUN)
	$(BIN)/resnet predict $(RUN) $(RUN)/samples/7.png
ifneq ($(wildcard resnet_keras/weights/pretrained/resnet20_cifar10.safetensors),)
	$(BIN)/resnet predict resnet20_cifar10 examples/photos/cat.jpg
endif
	@echo
	@echo "run:        $(RUN) (recipe, history, curves.png, model.keras, evaluation.json, samples)"
	@echo "TensorBoard: $(BIN)/tensorboard --logdir $(RUN)/tensorboard"
	@echo "artifacts:  saved_models/digits_resnet20 (a folder for each version, with a README.md)"

test: .venv/test
	$(BIN)/python -m pytest -m "not slow" $(WORKERS)

test-all: .venv/test
	$(BIN)/python -m pytest $(WORKERS)

check: .venv/dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy resnet_keras
	$(BIN)/python -m pytest -m "not slow" $(WORKERS)

benchmark: .venv/test
	$(BIN)/python benchmarks/training.py

constraints: .venv/dev
	$(BIN)/python -m pip install --quiet --upgrade --upgrade-strategy eager --editable '.[dev]'
	$(BIN)/python -m pytest -m "not slow" $(WORKERS)
	head -2 constraints.txt > constraints.new
	$(BIN)/python -m pip freeze --exclude-editable >> constraints.new
	mv constraints.new constraints.txt

docs: .venv/docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
