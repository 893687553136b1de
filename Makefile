# Each target sets up what it needs. Choose the interpreter with `make PYTHON=python3.12 ...` (3.10 to 3.13).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test containers check fix bench image lock clean setup

demo: $(READY)  ## the whole path on real data, with the embedded server
	$(BIN)/tfbundle demo

# Two at once, a file each, since tests of a file share servers and models; in order, since the longest come early.
test: $(READY)  ## every test but the benchmarks
	$(BIN)/python -m pytest -m "not benchmark" -n 2 --dist loadfile --no-loadscope-reorder

containers: $(READY)  ## the tests in containers, which `make test` skips: they build an image, and take minutes
	TFBUNDLE_CONTAINERS=1 $(BIN)/python -m pytest -m docker

check: $(READY)  ## lint, format and types; changes nothing
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

fix: $(READY)  ## what ruff can mend by itself
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(READY)  ## speed and memory, as ratios within one run
	$(BIN)/python -m pytest -m benchmark tests/benchmarks -s

image:  ## the embedded server's image
	docker build -t tfbundle -f docker/Dockerfile .

lock: $(READY)  ## choose all versions anew
	$(BIN)/python -m pip install --quiet uv
	UV_CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/uv pip compile --universal --python-version 3.10 --all-extras --group dev --no-emit-index-url \
	    --no-annotate --upgrade --output-file constraints.txt pyproject.toml

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; \
	    sys.exit(0 if (3, 10) <= v <= (3, 13) else "tfbundle needs Python 3.10 to 3.13, $(PYTHON) is %d.%d: make PYTHON=python3.12" % v)'
	@echo "setting up $(VENV): TensorFlow is a download of about 600 MB the first time"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --progress-bar on --constraint constraints.txt --editable ".[all]" --group dev
	@touch $(READY)

clean:
	rm -rf $(VENV) build dist
