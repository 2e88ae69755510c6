# The verbs of this project.  Each sets up what it needs in .venv, and is quick
# when run again.  PYTHON chooses the interpreter, ARGS goes to the tool.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.NOTPARALLEL:
.DELETE_ON_ERROR:

PYTHON ?= python3
ARGS ?=
FUZZ_SECONDS ?= 30
FUZZ_RUNS ?= -1

VENV := .venv
BIN := $(VENV)/bin
RUN := $(VENV)/stamp-run
DEV := $(VENV)/stamp-dev
EXTENSIONS := $(VENV)/stamp-extensions

C_SOURCES := $(filter-out $(wildcard csrc/fuzz/*),$(wildcard csrc/*.c csrc/*/*.c))
C_HEADERS := $(wildcard csrc/*.h csrc/*/*.h)
# What fuzz targets are linked with: the C that makes no system call.
FUZZ_CORE := $(patsubst csrc/%.c,build/fuzz/core/%.o,$(wildcard csrc/*.c))
FUZZ := $(patsubst csrc/fuzz/%.c,%,$(wildcard csrc/fuzz/*.c))
PYX := $(wildcard overlay/*.pyx overlay/*.pxd overlay/live/*.pxi overlay/_cffi_build.py)
PYTHON_SOURCES := overlay tests benchmarks setup.py docs/conf.py

WARNINGS := -std=c11 -O2 -Wall -Wextra -Wconversion -Wsign-compare -Wshadow -Werror
SANITIZE := -O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all

# Runs a tool on the sanitized build, from a folder where no other overlay is in the way.
SANITIZED = env -C build/sanitize PYTHONPATH=$(CURDIR)/build/sanitize/lib \
    LD_PRELOAD="$$(cc -print-file-name=libasan.so):$$(cc -print-file-name=libubsan.so)" \
    ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1 PYTHONMALLOC=malloc \
    HYPOTHESIS_PROFILE=short $(CURDIR)/$(BIN)

# Where .ci/venv found Python's headers, if the compiler would not.
export C_INCLUDE_PATH = $(shell cat $(VENV)/compiles 2>/dev/null)
# A build that fails is an error where one is possible at all.
REQUIRE = OVERLAY_REQUIRE_EXTENSIONS=$$(test -e $(VENV)/compiles && echo 1 || echo 0)
INSTALL = $(REQUIRE) $(BIN)/python -m pip install -qq --no-build-isolation -e

# Not under sanitizers: tests that start VTEPs and look at what they do, which run the
# package of the tree, or the system's own programs, and not the sanitized build; and
# tests of what has no C in it.
UNSANITIZED := bench cli_ends conform cookbook extcap generate lab meter peers pytest_plugin \
    readme real service strategies three_hosts tshark

.PHONY: help demo build test sanitize fuzz bench docs lint wheel clean

help: ## this list
	@sed -nE 's/^([a-z]+):.*## (.*)/  make \1\t\2/p' Makefile | expand -t 18

demo: build ## every protocol on the sample capture, checked against the twin
	@$(BIN)/overlay demo $(ARGS)

build: $(EXTENSIONS) ## .venv with the package and its C core
	@$(BIN)/python -c 'import overlay; print("backend:", overlay.backend)'

test: $(DEV) build ## the whole suite, on every backend
	$(BIN)/pytest -n 2 $(ARGS)

sanitize: $(DEV) ## the suite and the fuzz corpus under ASan and UBSan
	rm -rf build/sanitize
	OVERLAY_REQUIRE_EXTENSIONS=1 CFLAGS="$(SANITIZE)" LDFLAGS="-fsanitize=address,undefined" \
	    $(BIN)/python setup.py -q build --build-base build/sanitize --build-lib build/sanitize/lib
	$(SANITIZED)/python -c 'import overlay._native as n; print(n.__file__)' | grep build/sanitize/lib
	$(SANITIZED)/pytest -c ../../pyproject.toml -n 2 -m "not slow" -k "not reference" \
	    $(UNSANITIZED:%=--ignore=../../tests/test_%.py) $(ARGS) ../../tests
	$(if $(shell command -v clang),$(MAKE) --no-print-directory fuzz FUZZ_RUNS=0)

fuzz: $(FUZZ:%=build/fuzz/%) ## libFuzzer on the C core: FUZZ_SECONDS or FUZZ_RUNS a target
	@printf '%s\n' $(FUZZ) | xargs -P "$$(nproc)" -I@ sh -c ' \
	    mkdir -p build/fuzz/corpus/@; \
	    build/fuzz/@ -max_total_time=$(FUZZ_SECONDS) -runs=$(FUZZ_RUNS) \
	        -print_final_stats=1 -artifact_prefix=build/fuzz/ $(ARGS) \
	        build/fuzz/corpus/@ csrc/fuzz/corpus/@ >build/fuzz/@.log 2>&1 \
	        || { tail -60 build/fuzz/@.log; exit 255; }; \
	    echo "fuzz: @: $$(sed -nE "s/^stat::number_of_executed_units: *//p" \
	        build/fuzz/@.log) inputs, all in order"'

build/fuzz/core/%.o: csrc/%.c $(C_HEADERS)
	@command -v clang >/dev/null || { echo "make fuzz needs clang and its libclang-rt"; exit 1; }
	@mkdir -p $(@D)
	@clang -std=c11 $(SANITIZE) -fsanitize=fuzzer-no-link -Icsrc -c -o $@ $<

build/fuzz/%: csrc/fuzz/%.c csrc/fuzz/fuzz.h $(FUZZ_CORE)
	@clang -std=c11 $(SANITIZE) -fsanitize=fuzzer -Icsrc -o $@ $< $(FUZZ_CORE)

.SECONDARY: $(FUZZ_CORE)

bench: $(DEV) build ## the table of the README, then pytest-benchmark
	$(BIN)/python -m benchmarks $(ARGS)
	$(BIN)/pytest -q benchmarks --benchmark-max-time=0.1 --benchmark-columns=median,iqr,ops

docs: $(DEV) build ## docs/_build/html; a warning is an error
	$(BIN)/sphinx-build -q -W --keep-going -b html docs docs/_build/html $(ARGS)
	@echo "docs/_build/html/index.html"

lint: $(DEV) build ## every checker, Python, Cython and C
	$(BIN)/ruff check $(wildcard $(PYTHON_SOURCES))
	$(BIN)/ruff format --check $(wildcard $(PYTHON_SOURCES))
	$(BIN)/mypy
	$(BIN)/pyright --pythonpath $(BIN)/python
	PATH=$(BIN):$$PATH cython-lint $(filter %.pyx %.pxd %.pxi,$(PYX))
	$(BIN)/clang-format --dry-run -Werror $(wildcard csrc/*.[ch] csrc/*/*.[ch])
	for cc in gcc clang; do \
	    command -v $$cc >/dev/null || continue; \
	    for file in $(C_SOURCES); do $$cc $(WARNINGS) -Icsrc -c -o /dev/null $$file; done; \
	done

wheel: $(DEV) ## dist/*.tar.gz, and a wheel built from it
	rm -rf dist
	$(BIN)/python -m build --outdir dist
	@ls -l dist

clean: ## remove everything that the verbs made
	rm -rf $(VENV) build dist benchmarks/build docs/_build *.egg-info .benchmarks .hypothesis
	rm -rf .mypy_cache .pytest_cache .ruff_cache overlay/*.so overlay/_native.c overlay/_live.c overlay/_cffi_*.c
	find . -name __pycache__ -prune -exec rm -rf {} +

$(VENV)/bin/python:
	@PYTHON="$(PYTHON)" .ci/venv $(VENV)

$(RUN): $(VENV)/bin/python pyproject.toml setup.py
	@$(BIN)/python -m pip install -qq "setuptools>=77" "cython>=3.0.10" "cffi>=1.16"
	@$(INSTALL) .
	@touch $@

$(DEV): $(RUN)
	@$(INSTALL) '.[dev]'
	@touch $@

$(EXTENSIONS): $(RUN) $(C_SOURCES) $(C_HEADERS) $(PYX)
	@$(REQUIRE) $(BIN)/python setup.py -q build_ext --inplace
	@touch $@
