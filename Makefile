# make up     from a fresh Debian or Ubuntu to a running PostgreSQL with models    make test   everything CI runs
PYTHON ?= python3
BOOTSTRAP = PYTHONPATH=scripts PYTHONDONTWRITEBYTECODE=1 $(PYTHON) -m bootstrap
BIN = .venv/bin

.PHONY: help up down status doctor prepare test lint soak bench clean python
.DEFAULT_GOAL := help

help: ## show this
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 16

python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "error: $(PYTHON) is missing or older than 3.11" >&2; \
	  echo "hint:  install a newer one, or name it: make PYTHON=/usr/bin/python3.12 $(MAKECMDGOALS)" >&2; exit 1; }

prepare: python ## install what is missing (packages, pgvector, .venv, extension, models)
	@$(BOOTSTRAP)

up: python ## prepare, then start PostgreSQL, daemon and worker, and show them working
	@$(BOOTSTRAP) up

down: ## stop everything that make up started
	@if [ -x $(BIN)/pg-steadytext ]; then $(BIN)/pg-steadytext down; else echo "nothing is installed here"; fi

status: ## tell what runs
	@$(BIN)/pg-steadytext status

doctor: ## find out what is wrong
	@$(BIN)/pg-steadytext doctor

lint: prepare ## ruff, mypy --strict, import contracts, PostgreSQL's own checks of the SQL
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python scripts/check_sql.py

test: lint ## lint, then every test, pgTAP included, in TEST_PROCESSES (3) processes, each with a cluster of its own
	@$(BIN)/pytest -n $${TEST_PROCESSES:-3} --dist loadfile --no-loadscope-reorder || { [ $$? -eq 1 ] && \
	  echo "==> What failed beside other tests runs once more, alone: it may have been the machine. Twice is a failure." && \
	  $(BIN)/pytest --last-failed --last-failed-no-failures none; }

soak: prepare ## the long tests: an hour of killing under the queue's load, half of one under the store's, 10,000 random inputs, 500 structured documents, 64 prompts, 500 texts, a user of 50,000 memories
	CHAOS_JOBS=$${CHAOS_JOBS:-20000} CHAOS_SECONDS=$${CHAOS_SECONDS:-3600} $(BIN)/pytest --timeout=0 tests/acceptance/test_queue_chaos.py
	AUTOEMBED_CHAOS_SECONDS=$${AUTOEMBED_CHAOS_SECONDS:-1800} AUTOEMBED_CHAOS_ROWS=$${AUTOEMBED_CHAOS_ROWS:-2000} \
	  $(BIN)/pytest --timeout=0 tests/acceptance/test_autoembed_chaos.py
	MEMORY_CHAOS_SECONDS=$${MEMORY_CHAOS_SECONDS:-1800} $(BIN)/pytest --timeout=0 tests/acceptance/test_memory_chaos.py
	FUZZ_EXAMPLES=$${FUZZ_EXAMPLES:-10000} STRUCTURED_DOCUMENTS=$${STRUCTURED_DOCUMENTS:-500} SUMMARY_ROWS=$${SUMMARY_ROWS:-10000} \
	  SUITE_DOCUMENTS=$${SUITE_DOCUMENTS:-1000} DETERMINISM_PROMPTS=$${DETERMINISM_PROMPTS:-64} \
	  DETERMINISM_TEXTS=$${DETERMINISM_TEXTS:-500} DETERMINISM_TOKENS=$${DETERMINISM_TOKENS:-12} $(BIN)/pytest --timeout=0 \
	  tests/acceptance/test_determinism.py tests/acceptance/test_fuzz.py tests/acceptance/test_structured_soak.py tests/engines/test_schema_suite.py \
	  tests/extension/test_summaries.py
	NEAREST_MEMORIES=$${NEAREST_MEMORIES:-50000} $(BIN)/pytest --timeout=0 tests/memory/test_nearest.py

bench: prepare ## run every benchmark and print one table
	$(BIN)/pg-steadytext bench

clean: down ## stop, and remove the environment and all state: the cluster's data too
	@for link in .venv .local; do if [ -L $$link ]; then rm -rf "$$(readlink -f $$link)"; rmdir "$$(dirname "$$(readlink -m $$link)")" 2>/dev/null || true; fi; rm -rf $$link; done
	@if [ -d extension ]; then $(MAKE) -C extension clean >/dev/null 2>&1 || true; fi
	@rm -rf build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
