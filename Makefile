# A fresh machine needs python3 (3.11 or newer) and make; everything else goes into .venv.
#
#   make demo    compare the orders on the body that ships: out/demo/report.html
#   make test    every check that CI runs, stopping at the first that fails
#   make venv    only the environment, with every extra
#   make clean   remove what these made, the environment too

PYTHON ?= python3
BIN := .venv/bin
EXTRAS := fid,clip,lora,dev
STAMP := .venv/installed

.PHONY: demo test venv clean

demo: venv
	@$(BIN)/orderhead demo --out out/demo
	@echo "the page: $(CURDIR)/out/demo/report.html"

test: venv
	@echo "== format"
	@$(BIN)/ruff format --check .
	@echo "== lint"
	@$(BIN)/ruff check .
	@echo "== types"
	@$(BIN)/pyright
	@echo "== imports"
	@$(BIN)/lint-imports
	@echo "== tests"
	@command -v chromium >/dev/null || echo "no chromium here: the tests of the page in a browser are skipped"
	@$(BIN)/pytest
	@echo "== all passed"

venv: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@echo "== environment (.venv)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "orderhead needs Python 3.11 or newer; try make PYTHON=python3.12")'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv || { rm -rf .venv; \
		echo "python3 -m venv failed; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	@$(BIN)/uv --version >/dev/null 2>&1 || $(BIN)/python -m pip install --quiet --constraint constraints.txt uv \
		|| echo "uv cannot be had; going on with pip"
	@if $(BIN)/uv --version >/dev/null 2>&1; then \
		$(BIN)/uv pip install --python $(BIN)/python --constraint constraints.txt --editable '.[$(EXTRAS)]'; \
	else \
		$(BIN)/python -m pip install --constraint constraints.txt --editable '.[$(EXTRAS)]'; \
	fi
	@touch $@

clean:
	rm -rf .venv out build dist .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
