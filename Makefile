# make demo: set up, then train, grade and film three avatars from the shipped capture.   make test: set up, then run all tests.
# make site: set up, then build the course's static site into build/site.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: setup system demo test site data clean

setup:
	@PYTHON="$(PYTHON)" sh tools/setup.sh

system:
	@sh tools/system.sh

demo: system setup
	@$(BIN)/raf-lite demo

test: setup
	@sh tools/system.sh browser
	@$(BIN)/python -m pytest
	@RAF_FAST=1 $(BIN)/python -m pytest --nbval-lax --nbval-current-env --nbval-sanitize-with tests/sanitize.cfg \
		--nbval-cell-timeout=300 --nbval-kernel-startup-timeout=120 notebooks/*.ipynb notebooks/solutions

site: setup
	@$(BIN)/python tools/build_site.py

data: system setup
	@$(BIN)/raf-lite data build

clean:
	rm -rf .venv out build
