# make sounds: hear the model that comes along.  make demo: train, hear, see and export a small SpecGAN.  make test: the test suite.
PYTHON ?= python3
VENV ?= .venv
OUT ?= demo_out
BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: sounds demo test quick lint matrix clean

$(VENV)/installed: setup.py
	$(PYTHON) -m venv $(VENV)
	@echo "Installing TensorFlow and the rest into $(VENV): a minute or two"
	$(PIP) -e '.[litert]'
	@touch $@

$(VENV)/test-installed: $(VENV)/installed
	$(PIP) -e '.[test]'
	@touch $@

sounds: $(VENV)/installed
	$(BIN)/python train_specgan.py generate --overwrite

demo: $(VENV)/installed
	$(BIN)/python train_specgan.py train $(OUT)/train --train_max_steps 250 \
		--specgan_dim 16 --train_batch_size 8 --seed 1
	$(BIN)/python train_specgan.py preview $(OUT)/train --once
	$(BIN)/python train_specgan.py generate $(OUT)/train --seed 1 \
		--generate_dir $(OUT)/sounds --overwrite
	$(BIN)/python export.py $(OUT)/train --out_dir $(OUT)/export --overwrite
	@echo
	@echo "Listen to   $(OUT)/sounds/0000.wav ... 0015.wav"
	@echo "Look at     $(OUT)/sounds/sheet.png"
	@echo "Go on with  $(BIN)/python train_specgan.py train $(OUT)/train"

test: $(VENV)/test-installed
	$(BIN)/python -m pytest -n 2

# Without the slow ones.
quick: $(VENV)/test-installed
	$(BIN)/python -m pytest -n 2 -m "not slow"

lint: $(VENV)/test-installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# Install and quick tests on each of these Pythons that is found.
matrix:
	@for v in 3.10 3.11 3.12 3.13; do \
		if python$$v -c '' 2>/dev/null; then \
			echo "== Python $$v"; \
			$(MAKE) quick PYTHON=python$$v VENV=.venv-$$v || exit 1; \
		else echo "== Python $$v: not found"; fi; \
	done

clean:
	rm -rf $(VENV) .venv-* $(OUT) generated build *.egg-info .pytest_cache .ruff_cache
