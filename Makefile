PYTHON ?= python3
BIN := .venv/bin
# The CPU default runs without torch; the trainers' extras use it. One exact version, so that every
# machine resolves alike; on a GPU machine the same version with CUDA comes from the same index.
TORCH := torch==2.13.0
TORCHVISION := torchvision==0.28.0
DEMO := demo
unexport PYTHONDONTWRITEBYTECODE  # many processes start, which would compile all of it again
# without setuptools' advice about folders of the packages' names in a working directory
EDITABLE := PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet --editable
# two workers, a file's tests together, in the order that tests/conftest.py gives
PYTEST := $(BIN)/python -m pytest -n 2 --dist loadgroup --no-loadscope-reorder

.PHONY: help setup setup-gpu gpu-packages demo bench-demo test test-fast proof check format clean

help: ## show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

setup: .venv/ready ## make .venv with everything the CPU default needs, and fetch the light models

# .venv/gpu is setup-gpu's mark: pip would put onnxruntime back over onnxruntime-gpu
.venv/ready: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet $(TORCH)
	$(EDITABLE) ".[train,quantize,s3,plots,dev]"
	$(BIN)/harmoview models fetch
	test ! -e .venv/gpu || $(MAKE) --no-print-directory gpu-packages
	touch .venv/ready

setup-gpu: ## the same for NVIDIA GPUs, with pyiqa: onnxruntime-gpu takes the place of onnxruntime
	mkdir -p .venv
	touch .venv/gpu
	rm -f .venv/ready
	$(MAKE) --no-print-directory setup

# onnxruntime-gpu is the module onnxruntime too, and pyiqa's opencv-python-headless the module cv2:
# only one of each may be there
gpu-packages:
	$(EDITABLE) ".[iqa]" $(TORCH) $(TORCHVISION)
	$(BIN)/python -m pip uninstall --quiet --yes onnxruntime onnxruntime-gpu \
		opencv-python opencv-python-headless
	$(BIN)/python -m pip install --quiet "onnxruntime-gpu[cuda,cudnn]>=1.21" "opencv-python>=4.11"
	$(BIN)/python -c "import onnxruntime as o; p = o.get_available_providers(); assert 'CUDAExecutionProvider' in p, p; print('onnxruntime', o.__version__, p)"

demo: setup ## the main job on a small corpus made on the spot; ends with pictures to look at
	$(BIN)/python -m jobs.demo --out $(DEMO)

bench-demo: setup ## HarmoView-Bench: virtual people, methods with known defects, tables, a report
	$(BIN)/python -m jobs.bench.demo --out bench-demo

# For its tests pyiqa has a folder of its own: the package index's torchvision is made for CUDA's
# torch and does not import beside the one for CPUs, and transformers would import what is in .venv.
.venv/iqa: .venv/ready
	rm -rf .venv/iqa
	$(BIN)/python -m pip install --quiet --no-deps --target .venv/iqa pyiqa timm $(TORCHVISION)

test: setup .venv/iqa ## the tests, in some 18 minutes on two cores
	$(PYTEST) -m "not proof"

test-fast: setup .venv/iqa ## the tests that take seconds
	$(PYTEST) -m "not proof and not slow"

proof: setup ## the long proofs: learning, kills, hostile input, clusters (MINUTES=5: begin none later)
	$(PYTEST) -m proof $(if $(MINUTES),--minutes $(MINUTES))

check: setup ## lint, format, types, import directions
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup ## format the code and mend what can be mended
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## remove the environment and the demo
	rm -rf .venv $(DEMO) bench-demo
