# Everything that a developer or a newcomer runs. Each target installs what it needs.
PYTHON ?= python3
BUF_AGAINST ?= main
PIP_FLAGS = --disable-pip-version-check --quiet
RUN = .venv/bin
DEV = .venv-dev/bin
GEN = .venv-gen/bin

.PHONY: help demo test conformance check fmt bench gen lock clean

help: ## Show this help
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

demo: .venv/.ready ## Watch one chat turn's tool calls run in parallel through a real sidecar
	@$(RUN)/sidecall demo

test: .venv-dev/.ready .venv-gen/.ready ## Run all tests
	@$(DEV)/python -m pytest $(PYTEST_ARGS)

conformance: .venv-dev/.ready .venv-gen/.ready ## Prove that the clients of all languages behave alike
	@$(DEV)/python -m tests.conformance $(CONFORMANCE_ARGS)

check: .venv-dev/.ready .venv-gen/.ready ## Format, lint, types and protos
	$(DEV)/ruff format --check .
	$(DEV)/ruff check .
	$(DEV)/mypy
	$(GEN)/python scripts/gen.py --protos-only
	$(DEV)/buf format --diff --exit-code protos
	$(DEV)/buf lint
	@if git rev-parse --quiet --verify '$(BUF_AGAINST):protos' >/dev/null; then \
	  echo "buf breaking, against $(BUF_AGAINST)"; \
	  rm -rf build/against && mkdir -p build/against/build && \
	  git archive '$(BUF_AGAINST)' protos buf.yaml | tar -x -C build/against && \
	  cp -R build/protos build/against/build/protos && \
	  $(DEV)/buf breaking --against build/against; \
	else echo "buf breaking: skipped, $(BUF_AGAINST) has no protos to compare with"; fi

fmt: .venv-dev/.ready ## Format all code
	$(DEV)/ruff format .
	$(DEV)/ruff check --fix .
	$(DEV)/buf format --write protos
	@if command -v gofmt >/dev/null; then cd client/go && gofmt -w .; fi
	@if command -v cargo >/dev/null; then cd client/rust && cargo fmt; fi
	@if command -v npm >/dev/null; then cd client/typescript && node scripts/prepare.mjs && npm run fmt; fi

bench: .venv-dev/.ready ## Measure against bare gather and a gRPC echo, in one run
	@$(DEV)/python -m benchmarks

gen: .venv-gen/.ready ## Make the stubs from the protos that are committed: Python and Go
	PATH="$(CURDIR)/$(GEN):$$PATH" $(GEN)/python scripts/gen.py

lock: .venv-dev/.ready ## Compile the hashed requirement files from pyproject.toml
	sh scripts/lock.sh $(DEV)/uv

clean: ## Remove environments and build output
	rm -rf .venv .venv-dev .venv-gen build dist client/go/build client/java/target client/rust/target
	rm -rf client/typescript/node_modules client/typescript/dist client/typescript/build client/typescript/src/gen

.venv/.ready: requirements/run.txt pyproject.toml
	@echo "Preparing .venv ..."
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed; set PYTHON=")'
	@$(PYTHON) -m venv --clear .venv
	@$(RUN)/pip install $(PIP_FLAGS) --require-hashes -r requirements/run.txt
	@$(RUN)/pip install $(PIP_FLAGS) --no-deps --no-build-isolation -e .
	@touch $@

.venv-dev/.ready: requirements/dev.txt pyproject.toml
	@echo "Preparing .venv-dev ..."
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed; set PYTHON=")'
	@$(PYTHON) -m venv --clear .venv-dev
	@$(DEV)/pip install $(PIP_FLAGS) --require-hashes -r requirements/dev.txt
	@$(DEV)/pip install $(PIP_FLAGS) --no-deps --no-build-isolation -e .
	@touch $@

.venv-gen/.ready: requirements/gen.txt
	@echo "Preparing .venv-gen ..."
	@$(PYTHON) -m venv --clear .venv-gen
	@$(GEN)/pip install $(PIP_FLAGS) --require-hashes -r requirements/gen.txt
	@touch $@
