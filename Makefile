# Two commands on a fresh machine: `make chat` and `make test`. Each makes .venv itself.
PYTHON ?= python3
PORT ?= 8080
WORKERS ?= 1
BIN := .venv/bin
EXTENSIONS := $(wildcard silly/*/*.c)

.PHONY: chat test test-full test-oldest lint port-check bench bench-check restart-bench cov fuzz mutate sanitize sanitized-tests soak clean

chat: .venv/installed
	$(BIN)/python -m silly $(if $(filter-out 1,$(WORKERS)),--workers $(WORKERS)) examples/chat.py --port=$(PORT)

test: .venv/tested
	$(BIN)/python -m pytest

# With the tests that open thousands of connections, and the blow at each wait, which have in them the blow at each site. TESTS are
# more arguments for pytest.
test-full: .venv/tested
	$(BIN)/python -m pytest -m "" --deselect tests/test_blows.py::test_a_blow_at_each_site $(TESTS)

# With the oldest version that setup.cfg allows of each package that silly needs, in an environment of its own: the tests of what
# uses them. In `make test` they are as new as pip finds them.
OLDEST := build/oldest
OLDEST_TOOLS := pytest pytest-timeout pytest-randomly hypothesis trustme h11 wsproto 'psycopg[binary]'
OLDEST_TESTS ?= tests/net/test_tls*.py tests/net/test_pem.py tests/net/test_stream_tls.py tests/net/test_http_client_tls.py \
	tests/core/test_switching.py tests/core/test_waiting.py tests/core/test_end*.py tests/core/test_watchdog.py \
	tests/test_task.py tests/test_join.py tests/test_cancel.py tests/test_group.py tests/test_channel.py tests/test_deadline.py
test-oldest: $(OLDEST)/tested
	$(OLDEST)/bin/python -m pip list --disable-pip-version-check | grep -iE '^(greenlet|pyopenssl|service-identity|cryptography) '
	PYTHONPATH=$(CURDIR) $(OLDEST)/bin/python -m pytest -q $(OLDEST_TESTS)

lint: .venv/linted
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m tests.typing

# Checks docs/porting against upstream's pages: every call that they show must be in ours, and none of their lines. UPSTREAM is
# a checkout of upstream.
port-check:
	$(PYTHON) tests/port_check.py $(UPSTREAM)

# Line and branch coverage; the protocol modules must stay at 100 %.
cov: .venv/tested
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -q
	$(BIN)/coverage combine -q
	$(BIN)/coverage report
	$(BIN)/coverage report --include='silly/_wire/*' --fail-under=100 >/dev/null

# Each parser for a minute; stops at the first finding. The suite replays the kept corpus.
SECONDS ?= 60
TARGETS ?= frames inflate handshake requests chunks responses content conditional urls forwarded proxy
fuzz: .venv/tested
	for target in $(TARGETS); do $(BIN)/python -m tests.fuzz $$target --seconds $(SECONDS) || exit 1; done

# Finds code that the tests don't check: make mutate FILE=silly/net/_output.py. The module's usual tests run COUNT times, each
# time with one mutation of it. Mutations that pass are printed. TESTS="…" names other tests, SEED draws other mutations.
COUNT ?= 20
SEED ?= 1
mutate: .venv/tested
	@test -n "$(FILE)" || { echo 'mutate needs a module: make mutate FILE=silly/net/_output.py' >&2; exit 2; }
	$(BIN)/python -m tests.mutate "$(FILE)" --tests "$(TESTS)" --count $(COUNT) --seed $(SEED)

# The extensions with gcc's address and undefined-behaviour sanitizers, in a copy of the tree. The first report ends the run.
# Python allocates with malloc, so that each object's bounds are known. Leaks aren't checked: Python itself leaks at exit (the
# tests count references). An allocation that fails returns NULL, as without the sanitizer. The stack of silly/_core isn't
# checked: greenlet copies it, with what the sanitizer would put between the variables. (And greenlet throws, which the sanitizer
# follows only if it finds libstdc++ at the start.)
SANITIZED := build/sanitized
SANITIZED_TESTS ?= tests/wire tests/core/test_park.py tests/net/test_descriptor.py tests/net/test_tls_pipe.py \
	tests/net/test_tls_renew.py tests/conformance/test_framing.py
SANITIZE := -O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all
WITH_SANITIZER = cd $(SANITIZED) && \
	LD_PRELOAD="$$($(CC) -print-file-name=libasan.so) $$($(CC) -print-file-name=libstdc++.so)" \
	PYTHONMALLOC=malloc SILLY_NEED_C=1 \
	ASAN_OPTIONS=abort_on_error=1:detect_leaks=0:allocator_may_return_null=1 \
	UBSAN_OPTIONS=abort_on_error=1:print_stacktrace=1

sanitize: sanitized-tests
	for target in frames requests chunks; do \
		($(WITH_SANITIZER) $(CURDIR)/$(BIN)/python -m tests.fuzz $$target --seconds $(SECONDS)) || exit 1; \
	done

sanitized-tests: .venv/tested
	rm -rf $(SANITIZED)
	mkdir -p $(SANITIZED)
	cp -R silly tests docs setup.cfg $(SANITIZED)
	include=$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("include"))'); \
	for source in $(EXTENSIONS); do \
		case $$source in silly/_core/*) stack="--param asan-stack=0";; *) stack=;; esac; \
		$(CC) -std=c11 -Wall -Wextra -Werror $(SANITIZE) $$stack -shared -fPIC -I$$include $$source \
			-o $(SANITIZED)/$${source%.c}.abi3.so || exit 1; \
	done
	$(WITH_SANITIZER) $(CURDIR)/$(BIN)/python -m pytest -q --capture=sys -k accelerated $(SANITIZED_TESTS)

# Slow readers at their real pace, through the real programs: curl, nginx, HAProxy. Takes 13 minutes, nearly idle. Without the
# programs it says so, and fails. ARGS="nginx 60": only what has these words in its name.
soak: .venv/tested
	$(BIN)/python -m tests.soak $(ARGS)

# Compares our servers and parsers with others; takes 20 to 25 minutes. ARGS="echo --runs 9": one suite, more turns.
bench: .venv/benched
	$(BIN)/python benchmarks/run.py $(ARGS)

# Whether the working tree is slower than another revision: make bench-check BASE=v0.1
bench-check: .venv/benched
	@test -n "$(BASE)" || { echo 'bench-check needs a revision to compare with: make bench-check BASE=v0.1' >&2; exit 2; }
	$(BIN)/python benchmarks/check.py $(BASE) $(ARGS)

# What a restart loses under load: ours, and others. ARGS="sighup --servers silly": one scenario, one server.
restart-bench: .venv/benched
	$(BIN)/python benchmarks/restart_under_load.py $(ARGS)

clean:
	rm -rf .venv build benchmarks/build dist *.egg-info .coverage* htmlcov .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -prune -exec rm -rf {} +

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or later is needed, this is " + sys.version) if sys.version_info < (3, 11) else 0'
	$(PYTHON) -m venv .venv

# Without a compiler pip installs without the extensions, and doesn't say so; `silly -v` does.
.venv/installed: .venv/bin/python setup.cfg setup.py pyproject.toml $(EXTENSIONS)
	$(BIN)/python -m pip install -q -e .
	$(BIN)/python -m silly -v
	touch $@

.venv/tested: .venv/installed
	$(BIN)/python -m pip install -q -e '.[test]'
	touch $@

# silly itself isn't installed there: it would build the extensions anew, in the place from which others have them loaded.
$(OLDEST)/tested: .venv/installed setup.cfg tests/oldest.py Makefile
	rm -rf $(OLDEST)
	$(BIN)/python -m venv $(OLDEST)
	$(BIN)/python -m tests.oldest $(OLDEST_TOOLS) >$(OLDEST)/requirements.txt
	$(OLDEST)/bin/python -m pip install -q -r $(OLDEST)/requirements.txt
	touch $@

# A package that can't be installed is reported, left out, and tried again the next time.
.venv/benched: .venv/installed
	if $(BIN)/python benchmarks/install_peers.py; then touch $@; fi

.venv/linted: .venv/installed
	$(BIN)/python -m pip install -q -e '.[lint]'
	touch $@
