# Needs make, coreutils and a Python that tff_tx runs on, with its venv module; nothing else.

CHECK := tff_tx/core/platform_check.py
STAMP := .venv/complete
PEERS := .venv-peers/complete
PYTORCH := .venv-pytorch/complete
DOCS := .venv-docs/complete
TRACKERS := .venv-trackers/complete
FLOWER := .venv-flower/complete
export NO_MKDOCS_2_WARNING := 1
RUN := .venv/bin/python
UV_VERSION := 0.13.8

# Files of tests side by side: by file, as tests of one file share models and engines. Three, as they also wait for
# programs.
SIDE_BY_SIDE := --dist loadfile

# The first that is supported. Where none is, the first that runs at all, to say what is wrong.
PYTHONS := python3.11 python3.10 python3.9 python3 python3.14 python3.13 python3.12 python3.8 python
PYTHON ?= $(shell \
	for python in $(PYTHONS); do $$python $(CHECK) 2>/dev/null && echo $$python && exit; done; \
	for python in $(PYTHONS); do $$python -c '' 2>/dev/null && echo $$python && exit; done)
# The newest of all: notebooks must run where people have them, and the site is built by the same environment.
PYENV = "$$HOME"/.pyenv/versions
NEWEST ?= $(shell for python in python3.14 $(PYENV)/3.14.*/bin/python python3.13 $(PYENV)/3.13.*/bin/python \
	python3.12 $(PYENV)/3.12.*/bin/python $(PYTHONS); do \
	$$python -c 'import ensurepip, venv' 2>/dev/null && echo $$python && exit; done)
# Tests import a small part of these environments, which is compiled then.
$(PYTORCH) $(FLOWER) $(DOCS): COMPILED := --no-compile
INSTALL = -m pip install -qq $(COMPILED) -r $< || { \
	echo "The packages of $< could not be installed, for the reason above: check the network." >&2; exit 1; }
NONE := Found no Python: tff_tx needs Python 3.9, 3.10 or 3.11.
CHECK_PYTHON = [ -n "$(PYTHON)" ] || { echo "$(NONE)" >&2; exit 1; }; $(PYTHON) $(CHECK)

export PIP_DISABLE_PIP_VERSION_CHECK := 1
# As in images of containers: every process of the tests would compile all that it imports.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup train test test-slow pytorch trackers setup-flower test-cluster test-all bench bench-memory bench-rounds bench-start bench-scaling bench-peers lock clean \
	notebooks test-notebooks docs
.DELETE_ON_ERROR:

help:
	@echo "make train ARGS='--flag=value ...'  train a model: python -m programs.train"
	@echo "make test                           ruff and the fast tests"
	@echo "make test-slow                      the slow tests, about 45 minutes"
	@echo "make test-cluster                   those with nodes of a cluster, about 15 minutes more"
	@echo "make pytorch                        .venv-pytorch, for the slow tests that PyTorch reads models: 1 GB, a minute"
	@echo "make trackers                       .venv-trackers, for the slow tests of MLflow and Weights & Biases: 150 MB"
	@echo "make setup-flower                   .venv-flower, for the slow tests of Flower as a transport: 350 MB, a minute"
	@echo "make test-all                       ruff and all tests"
	@echo "make notebooks                      write notebooks/*.ipynb from their sources"
	@echo "make test-notebooks                 run them with small settings on the newest Python, about 10"
	@echo "                                    minutes, and build the site of their outputs"
	@echo "make docs                           the documentation as a site, in site/; runs the notebooks first, once"
	@echo "make setup                          the virtual environment .venv, which the above make"
	@echo "                                    by themselves; PYTHON=... chooses the Python for it"
	@echo "make bench                          speed and memory beside TFF and plain TensorFlow, about 20 minutes"
	@echo "make bench-memory, bench-rounds, bench-start"
	@echo "                                    memory as cohorts grow; many rounds and clients; time to the first"
	@echo "                                    round; about 10 minutes each"
	@echo "make bench-scaling                  raylets with a core each beside one and beside the local engine; a cost"
	@echo "                                    model of clusters; about an hour"
	@echo "make bench-peers                    speed beside Flower and pfl-research, in .venv-peers; about 30 minutes"
	@echo "make lock                           resolve requirements.txt anew"
	@echo "make clean                          remove .venv and everything else that make wrote"

setup: $(STAMP)

train: $(STAMP)
	@$(RUN) -m programs.train $(ARGS)

test: $(STAMP)
	$(RUN) -m ruff check
	$(RUN) -m ruff format --check
	$(RUN) -m pytest -m "not slow" -n 3 $(SIDE_BY_SIDE) --no-loadscope-reorder

# Without PyTorch, trackers or Flower, what needs them is skipped.
test-slow: $(STAMP)
	-@$(MAKE) --no-print-directory -j3 pytorch trackers setup-flower
	$(RUN) -m pytest -m "slow and not cluster" -n 3 $(SIDE_BY_SIDE)

pytorch: $(PYTORCH)

trackers: $(TRACKERS)

setup-flower: $(FLOWER)

test-cluster: $(STAMP)
	$(RUN) -m pytest -m cluster

test-all: $(STAMP)
	$(RUN) -m ruff check
	$(RUN) -m ruff format --check
	$(RUN) -m pytest

notebooks: $(DOCS)
	@.venv-docs/bin/python tools/notebooks.py build

# The second kernel is that of the environment of the tests, even where `make` finds it out of date.
test-notebooks: $(STAMP) $(DOCS)
	.venv-docs/bin/python tools/notebooks.py check
	TFF_PYTHON="$(CURDIR)/$(RUN)" .venv-docs/bin/python tools/notebooks.py run --small
	.venv-docs/bin/python -m mkdocs build --strict --quiet --site-dir .notebooks/site

docs: $(STAMP) $(DOCS)
	@TFF_PYTHON="$(CURDIR)/$(RUN)" .venv-docs/bin/python tools/notebooks.py run
	@.venv-docs/bin/python -m mkdocs build --strict --quiet
	@if command -v chromium >/dev/null; then .venv-docs/bin/python tools/site_widths.py; fi
	@echo "The documentation is in site/index.html."

$(DOCS): docs/requirements.txt
	@[ -n "$(NEWEST)" ] || { echo "$(NONE)" >&2; exit 1; }
	@echo "Setting up .venv-docs with $(NEWEST): Jupyter and MkDocs, 400 MB, a minute."
	@$(NEWEST) -m venv --clear .venv-docs
	@.venv-docs/bin/python $(INSTALL)
	@touch $@

bench: $(STAMP)
	@$(RUN) -m benchmarks.bench $(ARGS)

bench-memory: $(STAMP)
	@$(RUN) -m benchmarks.memory $(ARGS)

bench-rounds: $(STAMP)
	@$(RUN) -m benchmarks.rounds $(ARGS)

bench-start: $(STAMP)
	@$(RUN) -m benchmarks.start $(ARGS)

bench-scaling: $(STAMP)
	@$(RUN) -m benchmarks.scaling $(ARGS)

bench-peers: $(STAMP) $(PEERS)
	@$(RUN) -m benchmarks.bench --peers_python=.venv-peers/bin/python $(ARGS)

$(PEERS): benchmarks/peers/requirements.txt
	@$(CHECK_PYTHON)
	@echo "Setting up .venv-peers with $(PYTHON): PyTorch, Flower and pfl-research, 2 GB or more."
	@$(PYTHON) -m venv --clear .venv-peers
	@.venv-peers/bin/python $(INSTALL)
	@touch $@

$(PYTORCH): tests/models/pytorch/requirements.txt
	@$(CHECK_PYTHON)
	@echo "Setting up .venv-pytorch with $(PYTHON): PyTorch reads the models that the tests write, 1 GB or more."
	@$(PYTHON) -m venv --clear .venv-pytorch
	@.venv-pytorch/bin/python $(INSTALL)
	@touch $@

$(FLOWER): deploy/flower/requirements.txt
	@[ -n "$(NEWEST)" ] || { echo "$(NONE)" >&2; exit 1; }
	@echo "Setting up .venv-flower with $(NEWEST): Flower, 350 MB, a minute."
	@$(NEWEST) -m venv --clear .venv-flower
	@.venv-flower/bin/python $(INSTALL)
	@touch $@

# Beside the packages of .venv, not instead of them.
$(TRACKERS): tests/run/trackers.txt | $(STAMP)
	@echo "Setting up .venv-trackers: MLflow and Weights & Biases, 150 MB."
	@rm -rf .venv-trackers
	@$(RUN) -m pip install -qq --no-compile --no-deps --target .venv-trackers -r tests/run/trackers.txt
	@touch $@

# Without its stamp, .venv was left half made and may hold half a package: it is made afresh.
$(STAMP): requirements.txt setup.py
	@$(CHECK_PYTHON)
	@echo "Setting up .venv with $(PYTHON): some 110 packages, 3 GB, about 3 minutes."
	@[ -e $@ ] && $(RUN) $(CHECK) 2>/dev/null || $(PYTHON) -m venv --clear .venv
	@rm -f $@
	@$(RUN) -m pip install -qq --constraint requirements.txt pip
	@{ $(RUN) -m pip install --no-deps --build-constraint requirements.txt -r requirements.txt \
		2> .venv/errors || { cat .venv/errors >&2; echo failed; }; \
	} | while read -r line; do case $$line in \
		Collecting*|Processing*) printf . ;; \
		"Installing collected"*) printf ' downloaded, installing\n' ;; \
		failed) exit 1 ;; \
	esac; done
	@$(RUN) -m pip install -qq --no-deps --no-build-isolation -e .
	@$(RUN) tools/check_install.py
	@touch $@

# Resolved for the oldest Python. The newer ones must need nothing else, so that one list without
# conditions serves them all. Wheels only, so that nobody needs a compiler; seqeval has none, and
# nothing to compile either.
COMPILE = .venv-lock/bin/uv pip compile requirements.in --overrides overrides.txt --quiet \
	--no-config --no-header --python-platform x86_64-manylinux_2_31 \
	--only-binary :all: --no-binary seqeval --no-binary rouge-score

lock:
	@$(CHECK_PYTHON)
	@echo "Resolving requirements.txt, about 1 minute."
	@$(PYTHON) -m venv .venv-lock
	@.venv-lock/bin/python -m pip install -qq uv==$(UV_VERSION)
	@$(COMPILE) --python-version 3.9 --annotation-style line --output-file .venv-lock/lock --upgrade
	@cut -d' ' -f1 .venv-lock/lock > .venv-lock/pins
	@for version in 3.10 3.11; do \
		$(COMPILE) --python-version $$version --no-annotate --constraint .venv-lock/pins \
			--output-file .venv-lock/$$version --upgrade || exit; \
		more=$$(sort .venv-lock/pins .venv-lock/pins .venv-lock/$$version | uniq -u); \
		if [ -n "$$more" ]; then echo "Only Python $$version needs: $$more" >&2; exit 1; fi; \
	done
	@{ echo "# Every version that tff_tx is tested with, on all its Pythons. Written by 'make lock'"; \
	   echo "# from requirements.in and overrides.txt; to be installed with"; \
	   echo "# 'pip install --no-deps -r requirements.txt'. Why some versions cannot be others:"; \
	   echo "#"; \
	   cat overrides.txt requirements.in | while read -r line; do \
	   	case $$line in [!#]*"  # "*) echo "#   $$line" ;; esac; done; \
	   echo; cat .venv-lock/lock; } > .venv-lock/requirements.txt
	@mv .venv-lock/requirements.txt requirements.txt
	@rm -rf .venv-lock

clean:
	rm -rf .venv .venv-lock .venv-peers .venv-pytorch .venv-docs .venv-trackers .venv-flower .notebooks site benchmarks/results build dist *.egg-info .pytest_cache .ruff_cache
