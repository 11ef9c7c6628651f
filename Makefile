# Two commands on a fresh machine with Python 3.11+, make and the package registries: `make run` and `make test`.
PYTHON ?= python3
VENV   ?= .venv
BIN     = $(VENV)/bin

# `make install` puts systemd units, users, folders and examples here. For the program itself see docs/install.md.
DESTDIR ?=
prefix  ?= /usr/local

# The page that the alerts link to. An absolute address, for whoever reads an alert elsewhere.
runbook ?= docs/operations.md
UNITS    = $(notdir $(wildcard systemd/*.service systemd/*.timer))
EXAMPLES = $(notdir $(wildcard systemd/examples/*))
lib      = $(DESTDIR)$(prefix)/lib
examples = $(DESTDIR)$(prefix)/share/doc/syncd

.PHONY: run run-cluster test fuzz crash cluster lint types imports unit system bench install uninstall alerts lock clean

# The demo builds the public PDQ; what it needs for that is installed if it is missing and we may.
run: SYSTEM = g++:g++ $(PYTHON_H):python3-dev
run: $(VENV)/.ready system   ## the whole road on this machine, with real data
	$(BIN)/python -m demo

run-cluster: $(VENV)/.ready  ## three daemons on a real PostgreSQL and a real S3 server; the leader is killed
	cd tests && PYTHONPATH=.. ../$(BIN)/python -m cluster

test: lint types imports unit ## everything that CI runs

$(VENV)/.ready: requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@

lint: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.ready
	$(BIN)/mypy

imports: $(VENV)/.ready
	$(BIN)/lint-imports

# One worker more than there are cores: tests of daemons and browsers spend much of their time waiting.
unit: $(VENV)/.ready system
	$(BIN)/pytest --numprocesses $$(($$(getconf _NPROCESSORS_ONLN) + 1)) --dist loadfile --no-loadscope-reorder

# Programs that tests use and pip does not install, as PROGRAM:PACKAGE of Debian; a file of the package will do. If they
# are missing and we may not install them, the tests that need them are skipped, with the reason.
SYSTEM = chromium:chromium nginx:nginx-light promtool:prometheus /lib/systemd/systemd:systemd /bin/kill:procps \
  gcc:gcc /usr/include/stdio.h:libc6-dev g++:g++ $(PYTHON_H):python3-dev

PYTHON_H = $(shell $(PYTHON) -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h

system:
	@for pair in $(SYSTEM); do \
	  command -v $${pair%%:*} >/dev/null || [ -e $${pair%%:*} ] || missing="$$missing $${pair##*:}"; \
	done; \
	if [ -n "$$missing" ] && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  echo "installing$$missing"; \
	  apt-get update -q >/dev/null && \
	  DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $$missing >/dev/null || \
	  echo "could not: what needs them will be skipped"; \
	fi

FUZZ_SECONDS ?= 120
FUZZ_SEED ?= 0
fuzz: $(VENV)/.ready         ## the randomised tests with many more cases, FUZZ_SECONDS for each parser: half an hour
	SYNCD_FUZZ=1 SYNCD_FUZZ_SECONDS=$(FUZZ_SECONDS) SYNCD_FUZZ_SEED=$(FUZZ_SEED) $(BIN)/pytest --numprocesses auto --timeout 900 \
	  tests/test_head_and_origin.py tests/test_format_stack.py tests/test_partner_week.py tests/test_stated_story.py tests/test_fuzz.py

CRASH_SECONDS ?=
CRASH_SEED ?=
crash: $(VENV)/.ready system ## stop every command at every call that changes a file, or as many as fit in CRASH_SECONDS
	cd tests && ../$(BIN)/python -m stops $(if $(CRASH_SECONDS),--seconds $(CRASH_SECONDS)) $(if $(CRASH_SEED),--seed $(CRASH_SEED))

CLUSTER_SECONDS ?= 900
CLUSTER_SEED ?=
cluster: $(VENV)/.ready      ## kill, pause and cut off three daemons in any order: CLUSTER_SECONDS, a quarter of an hour
	cd tests && PYTHONPATH=.. ../$(BIN)/python -m cluster.prove --seconds $(CLUSTER_SECONDS) $(if $(CLUSTER_SEED),--seed $(CLUSTER_SEED))

bench: $(VENV)/.ready        ## every figure in one run: some minutes and 35 GB below the temporary folder
	$(BIN)/python -m benchmarks

install:                     ## units, users, folders and examples; prefix=/usr/local, DESTDIR= (docs/install.md)
	for unit in $(UNITS); do \
	  sed 's|/usr/local/bin/|$(prefix)/bin/|' "systemd/$$unit" | install -D -m 644 /dev/stdin "$(lib)/systemd/system/$$unit" || exit; \
	done
	install -D -m 644 systemd/sysusers.d/syncd.conf "$(lib)/sysusers.d/syncd.conf"
	install -D -m 644 systemd/tmpfiles.d/syncd.conf "$(lib)/tmpfiles.d/syncd.conf"
	install -D -m 644 -t "$(examples)" systemd/examples/*

alerts:                      ## the alert rules on standard output; runbook=https://wiki.example.org/syncd/operations
	@sed 's|runbook_url: docs/operations.md#|runbook_url: $(runbook)#|' syncd/alerts.yml

uninstall:                   ## remove the files of `make install`; configuration and state stay
	rm -f $(UNITS:%="$(lib)/systemd/system/%") "$(lib)/sysusers.d/syncd.conf" "$(lib)/tmpfiles.d/syncd.conf"
	rm -f $(EXAMPLES:%="$(examples)/%")

lock:                        ## refresh requirements.lock from pyproject.toml (needs uv)
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate \
	  --all-extras --group dev --custom-compile-command 'make lock' --output-file requirements.lock pyproject.toml
	for name in demo/pictures/build benchmarks/libraries; do \
	  uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate \
	    --custom-compile-command 'make lock' --output-file $$name.txt $$name.in || exit; \
	done

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
