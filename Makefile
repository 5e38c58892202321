# make setup   .venv with .venv/bin/atradiff
# make test    the tests, warnings as errors
# make lint    style, types and the direction of imports
# make demo    offline stages, then ATraDiff and the plain agent online on the same budget (SEED=0)
PYTHON ?= python3
SEED ?= 0
DEMO := runs/demo-seed$(SEED)
export PATH := $(CURDIR)/.venv/bin:$(PATH)

.PHONY: setup test lint demo

setup: .venv/.installed

.venv/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --disable-pip-version-check --quiet -c constraints.txt -e '.[dev]'
	touch $@

test: setup
	.venv/bin/pytest -q

lint: setup
	.venv/bin/ruff check components pipeline tests
	.venv/bin/pyright
	.venv/bin/lint-imports

demo: setup
	.venv/bin/dvc repro
	rm -rf $(DEMO)
	.venv/bin/atradiff online run --arm atradiff --seed $(SEED) --run-dir $(DEMO)/atradiff
	.venv/bin/atradiff online run --arm agent --seed $(SEED) --run-dir $(DEMO)/agent
	.venv/bin/atradiff online compare $(DEMO)/atradiff $(DEMO)/agent --out $(DEMO)/comparison.png
	@echo "Report: $(DEMO)/atradiff/report.html   Picture: $(DEMO)/comparison.png"
