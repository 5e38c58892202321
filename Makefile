# make setup   .venv with .venv/bin/atradiff
# make test    the tests, warnings as errors
# make test-reference    the agents beside other libraries' and inside them, each algorithm on a small dense task, and the examples
# make test-faults   runs killed at random instants 100 times, `dvc repro` 30 times, and gone on with: what was lost is counted (KILLS=100 SEED=0)
# make test-many   16 runs that start at once against one Prefect server, 10 without any: none may fail or harm another
# make test-large-checkpoints   what checkpoints of replays of a million transitions cost, in seconds and bytes; 2.5 GB of memory, 1.7 of disk
# make test-metaworld   what needs the extra [metaworld]
# make test-tasks   every task that comes with the project, from its environment to the store, and the formats arrow and parquet
# make test-ui   the report, Prefect's pages and the documentation in a headless Chromium; films, TensorBoard
# make docs    the documentation's site, site/index.html
# make fuzz    files as strangers may have written them, RUNS of each of READERS; what is found, and the counts, stay in fuzz/
# make soak    whether memory stays flat, over STEPS env steps and over ROUNDS rounds of a flow; hours
# make lint    style, types and the direction of imports
# make demo    offline stages, then ATraDiff and the plain agent online on the same budget (SEED=0 ENV_STEPS=3000)
PYTHON ?= python3
SEED ?= 0
ENV_STEPS ?= 3000
RUNS ?= 1000000
READERS ?= metrics params checkpoint manifest store dataset
STEPS ?= 1000000
ROUNDS ?= 1000
KILLS ?= 100
DEMO := runs/demo-seed$(SEED)
export PATH := $(CURDIR)/.venv/bin:$(PATH)
# Bytecode is kept even where the shell forbids it: without it every process spends seconds on compiling torch and Prefect anew.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: setup test test-reference test-faults test-many test-large-checkpoints test-metaworld test-tasks lint demo test-ui docs fuzz soak

setup: .venv/.installed

# A recent pip without byte-compiling ahead installs in a third of the time.
PIP_INSTALL := .venv/bin/python -m pip install --disable-pip-version-check --quiet --no-compile

.venv/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(PIP_INSTALL) pip==26.2
	$(PIP_INSTALL) -c constraints.txt -e .
	touch $@

.venv/.developing: .venv/.installed
	$(PIP_INSTALL) -c constraints.txt -e '.[dev]'
	touch $@

# Two test files at a time, each process on one core: torch's own threads would only get in each other's way.
test: .venv/.developing
	OMP_NUM_THREADS=1 .venv/bin/pytest -q --numprocesses 2 --dist loadfile

# Their libraries are no part of the program, so these tests are not among those of `make test`.
.venv/.reference: .venv/.developing
	$(PIP_INSTALL) -c constraints.txt -e '.[reference]'
	touch $@

test-reference: .venv/.reference
	OMP_NUM_THREADS=1 .venv/bin/pytest -q --numprocesses 2 tests/reference

test-faults: .venv/.developing
	OMP_NUM_THREADS=1 .venv/bin/python tests/faults/kill_runs.py --kills $(KILLS) --seed $(SEED)
	OMP_NUM_THREADS=1 .venv/bin/python tests/faults/kill_stages.py --seed $(SEED)

.venv/.metaworld: .venv/.developing
	$(PIP_INSTALL) -c constraints.txt -e '.[metaworld]'
	touch $@

test-many: .venv/.developing
	OMP_NUM_THREADS=1 .venv/bin/python tests/faults/many_flows.py 16 --server
	OMP_NUM_THREADS=1 .venv/bin/python tests/faults/many_flows.py 10

test-large-checkpoints: .venv/.developing
	.venv/bin/python tests/faults/large_checkpoints.py

# What the targets below install one after another, found and installed by pip in one go: continuous integration begins with it.
.venv/.extras: .venv/.developing
	$(PIP_INSTALL) -c constraints.txt -e '.[reference,metaworld,arrow,docs,ui-test,video,tensorboard]'
	touch .venv/.reference .venv/.metaworld .venv/.arrow .venv/.documenting .venv/.ui-test $@

test-metaworld: .venv/.metaworld
	OMP_NUM_THREADS=1 .venv/bin/pytest -q tests/data/test_metaworld.py tests/flows/test_metaworld.py

.venv/.arrow: .venv/.metaworld
	$(PIP_INSTALL) -c constraints.txt -e '.[arrow]'
	touch $@

test-tasks: .venv/.arrow
	OMP_NUM_THREADS=1 .venv/bin/pytest -q --numprocesses 2 -m every_task tests/params/test_tasks.py
	OMP_NUM_THREADS=1 .venv/bin/pytest -q tests/data/test_record.py

.venv/.ui-test: .venv/.documenting .venv/.developing
	$(PIP_INSTALL) -c constraints.txt -e '.[ui-test,video,tensorboard]'
	touch $@

# Debian's own Chromium: Playwright would fetch one of its own from elsewhere.
/usr/bin/chromium:
	@[ "$$(id -u)" = 0 ] || { echo "test-ui needs Chromium at $@: install it (Debian: apt-get install chromium)"; exit 1; }
	apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium libegl1 libopengl0 libgl1-mesa-dri

test-ui: .venv/.ui-test /usr/bin/chromium
	OMP_NUM_THREADS=1 .venv/bin/pytest -q -p no:cacheprovider --numprocesses 2 --dist loadgroup tests/ui tests/reporting/test_tracking.py

.venv/.documenting: .venv/.installed
	$(PIP_INSTALL) -c constraints.txt -e '.[docs]'
	touch $@

docs: .venv/.documenting
	NO_MKDOCS_2_WARNING=1 .venv/bin/mkdocs build --quiet --site-dir site
	@echo "written: site/index.html"

.venv/.fuzz: .venv/.developing
	$(PIP_INSTALL) -c constraints.txt -e '.[fuzz]'
	touch $@

# One reader after the other; each goes on from what the campaign before has found worth keeping.
fuzz: .venv/.fuzz
	for reader in $(READERS); do PYTHONPATH=tests OMP_NUM_THREADS=1 .venv/bin/python tests/fuzz.py $$reader fuzz -runs=$(RUNS) || exit 1; done
	cat fuzz/*-counts.json

soak: .venv/.developing
	rm -rf soak
	PYTHONPATH=tests .venv/bin/python tests/soak.py steps $(STEPS) soak/steps
	PYTHONPATH=tests .venv/bin/python tests/soak.py rounds $$((20 * $(ROUNDS))) soak/rounds

lint: .venv/.developing
	.venv/bin/ruff check components pipeline tests examples
	.venv/bin/pyright
	.venv/bin/lint-imports

# Each run keeps to one core, so the two arms run side by side; the second starts when the first one's server is up.
demo: setup
	.venv/bin/atradiff repro
	rm -rf $(DEMO) && mkdir -p $(DEMO)
	(sleep 20; exec .venv/bin/atradiff online run --arm agent --seed $(SEED) --env-steps $(ENV_STEPS) --run-dir $(DEMO)/agent > $(DEMO)/agent.log 2>&1) & agent=$$!; \
	trap 'kill $$agent 2> /dev/null' INT TERM; \
	.venv/bin/atradiff online run --arm atradiff --seed $(SEED) --env-steps $(ENV_STEPS) --run-dir $(DEMO)/atradiff || { kill $$agent 2> /dev/null; exit 1; }; \
	echo "waiting for the plain agent, see $(DEMO)/agent.log"; \
	wait $$agent || { cat $(DEMO)/agent.log; exit 1; }
	.venv/bin/atradiff online compare $(DEMO)/atradiff $(DEMO)/agent --out $(DEMO)/comparison.png
	@echo "Report: $(DEMO)/atradiff/report.html   Picture: $(DEMO)/comparison.png"
