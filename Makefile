# SPDX-License-Identifier: GPL-2.0-or-later
#
#   make run                 from kernel source to a verdict, on x86_64
#   make run TARGETS=all     on all four targets; or pages, hash, every
#   make matrix              Debian's 6.1 and 6.12 on all four targets; or on those that TARGETS names
#   make repeat              20 runs, which must all be good; make soak: races on two CPUs, for a minute
#   make test                unit tests and system tests, the four default targets
#   make breadth             system tests of further kernels and page sizes
#   make unit, make check    unit tests alone; ruff and mypy
#   make bench               what it costs
#
# Both install what is missing first: Debian packages (as root, or by sudo), and Python's into .venv.

TARGETS   ?= x86_64
KERNEL    ?= debian:6.1
WORKLOADS ?= all
OUT       ?= out
ARGS      ?=
PYTHON    ?= python3

ALL_TARGETS := x86_64 aarch64 ppc64 ppc64le
comma := ,
empty :=
space := $(empty) $(empty)
asked := $(if $(filter file,$(origin TARGETS)),all,$(TARGETS))
target_list = $(subst $(space),$(comma),$(strip $(subst $(comma), ,$(TARGETS))))

# What takes long anyway is for all targets unless the command line names some.
matrix repeat: TARGETS := $(asked)

.DELETE_ON_ERROR:
.PHONY: run matrix test breadth unit check deps deps-all deps-asked bench soak repeat clean help

run: deps .venv/run.stamp
	@.venv/bin/ksm-harness run --kernel $(KERNEL) --target $(target_list) --workload $(WORKLOADS) --out $(OUT) $(ARGS)

# Two runs, each with its reports; ends as the worse of the two: bad before not judged.
SERIES ?= 6.1 6.12
matrix: deps-asked .venv/run.stamp
	@status=0; for series in $(SERIES); do \
	  .venv/bin/ksm-harness run --kernel debian:$$series --target $(target_list) --workload $(WORKLOADS) --out $(OUT)/$$series $(ARGS); \
	  ended=$$?; [ $$status = 1 ] || [ $$ended = 0 ] || status=$$ended; \
	done; exit $$status

test: deps-all .venv/dev.stamp
	@.venv/bin/pytest $(PYTEST_ARGS)

# More kernels than 6.1 on the four default targets: some 5 minutes each, where no earlier run has built them.
breadth: deps-all .venv/dev.stamp
	@.venv/bin/pytest -m breadth $(PYTEST_ARGS)

unit: .venv/dev.stamp
	@.venv/bin/pytest tests/unit $(PYTEST_ARGS)

check: .venv/dev.stamp
	@.venv/bin/ruff check . && .venv/bin/ruff format --check . && .venv/bin/mypy

# How often the same verdict comes out: no flake in 20 runs on each target.
REPEATS ?= 20
repeat: deps-asked .venv/run.stamp
	@for i in $$(seq $(REPEATS)); do \
	  .venv/bin/ksm-harness run --kernel $(KERNEL) --target $(target_list) --out $(OUT)/repeat >$(OUT)-repeat.log 2>&1 || \
	    { echo "run $$i of $(REPEATS) ended with $$?"; cat $(OUT)-repeat.log; exit 1; }; \
	  echo "run $$i of $(REPEATS): all judged good"; \
	done

# P5 and P6 for long: use after free and lost references; and races on two CPUs.
SOAK_SECONDS ?= 60
soak: deps .venv/run.stamp
	@.venv/bin/ksm-harness run --kernel $(KERNEL) --target $(target_list) --workload anon_vma_life,ref_leak,soak --smp 2 --out $(OUT)/soak \
	  --arg rounds=100 --arg churn=200 --arg cycles=100 --arg seconds=$(SOAK_SECONDS) $(ARGS)

bench: deps-all .venv/dev.stamp
	@.venv/bin/python -m tests.bench $(BENCH_ARGS)

clean:
	rm -rf .venv $(OUT) dist

help:
	@sed -n '3,12s/^# *//p' Makefile; .venv/bin/ksm-harness --help 2>/dev/null || true

# Python's packages: what the harness needs, and what its tests need.
.venv/run.stamp: pyproject.toml
	@test -x .venv/bin/python || $(PYTHON) -m venv .venv || \
	  { echo "no usable $(PYTHON) with venv (3.11 or later): install python3-venv, or name one with PYTHON=" >&2; exit 1; }
	@.venv/bin/pip install -qq --disable-pip-version-check --editable .
	@touch $@

.venv/dev.stamp: .venv/run.stamp
	@.venv/bin/pip install -qq --disable-pip-version-check --editable '.[dev]'
	@touch $@

deps-all: private TARGETS := $(ALL_TARGETS)
deps-asked: private TARGETS := $(asked)
deps deps-all deps-asked:
	@harness/install-packages.sh harness/packages.txt $(subst $(comma), ,$(TARGETS))
