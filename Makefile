# make demo: set up, then train, grade and film four avatars from the shipped capture.   make test: set up, then run all tests.
# make site: set up, then build the course's static site into build/site.
# make test-matrix: a chosen part of the tests on each Python that is here, with the newest and the oldest dependencies.
# make colab: all lessons with the versions that Colab has.   make lint: what has to be clean.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: setup system demo test test-matrix colab lint site data clean

setup:
	@PYTHON="$(PYTHON)" sh tools/setup.sh

system:
	@sh tools/system.sh

demo: system setup
	@$(BIN)/raf-lite demo

test: setup
	@sh tools/system.sh browser
	@$(BIN)/python -m pytest --durations=25
	@RAF_FAST=1 $(BIN)/python -m pytest --nbval-lax --nbval-current-env --nbval-sanitize-with tests/sanitize.cfg \
		--nbval-cell-timeout=300 --nbval-kernel-startup-timeout=120 notebooks/*.ipynb notebooks/solutions

test-matrix: system setup
	@$(BIN)/python tools/matrix.py

colab: system setup
	@$(BIN)/python tools/matrix.py colab

lint: setup
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports --no-cache
	@$(BIN)/pyright

site: setup
	@$(BIN)/python tools/build_site.py

data: system setup
	@$(BIN)/raf-lite data build

clean:
	rm -rf .venv .venvs out build
