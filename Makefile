# make sounds: hear the bundled model of drums.
# make demo: train, hear, see and export a small SpecGAN.  make web: play it in a browser.
# make serve: it over HTTP.  make test: the test suite.
# make docs: the documentation, with an API reference.
PYTHON ?= python3
VENV ?= .venv
OUT ?= demo_out
BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip install --quiet --disable-pip-version-check

# Short sounds on a CPU: docs/TRAINING.md says what each is for.
SMALL = --specgan_dim 16 --train_batch_size 16 --specgan_disc_nupdates 2 \
	--train_lr_G 2e-4 --train_lr_D 4e-4 --train_ema 0.999 --mixed_precision \
	--specgan_log_eps 1e-3 --specgan_moments range --specgan_pad_front \
	--specgan_gl_window dual --specgan_gl_momentum 0.99 --specgan_ngl 32

WEB = demo/web
NAME ?= drums
# The page's menu: NAME first, or a MODEL of one's own
MODELS = $(NAME) $(filter-out $(NAME),drums digits)
PORT ?= 8000

.PHONY: sounds demo web serve test quick lint docs matrix clean

$(VENV)/installed: setup.py
	$(PYTHON) -m venv $(VENV)
	@echo "Installing TensorFlow and the rest into $(VENV): a minute or two"
	$(PIP) -e '.[litert]'
	@touch $@

$(VENV)/serve-installed: $(VENV)/installed
	$(PIP) -e '.[serve]'
	@touch $@

$(VENV)/test-installed: $(VENV)/installed
	$(PIP) -e '.[test]'
	@touch $@

$(VENV)/docs-installed: $(VENV)/installed
	$(PIP) -e '.[docs]'
	@touch $@

sounds: $(VENV)/installed
	$(BIN)/python train_specgan.py generate --generate_dir $(OUT)/generated --overwrite

demo: $(VENV)/installed
	$(BIN)/python train_specgan.py train $(OUT)/train --train_max_steps 800 --seed 1 $(SMALL)
	$(BIN)/python train_specgan.py preview $(OUT)/train --once
	$(BIN)/python train_specgan.py generate $(OUT)/train --seed 1 \
		--generate_dir $(OUT)/sounds --overwrite
	$(BIN)/python export.py $(OUT)/train --out_dir $(OUT)/export --overwrite
	@echo
	@echo "Listen to   $(OUT)/sounds/0000.wav ... 0015.wav"
	@echo "Look at     $(OUT)/sounds/sheet.png"
	@echo "Go on with  $(BIN)/python train_specgan.py train $(OUT)/train"

# The page at http://127.0.0.1:8000, with a menu of the bundled models; NAME=digits opens
# the digits first, MODEL=another.tflite a model of one's own
web: $(WEB)/vendor/litert.js $(MODEL) $(MODELS:%=$(OUT)/%/synthesize.f32.tflite)
	@$(PYTHON) $(WEB)/gather.py $(MODEL:%=$(basename $(notdir $(MODEL)))=%) \
		$(foreach name,$(filter-out $(basename $(notdir $(MODEL))),$(MODELS)),$(name)=$(OUT)/$(name)/synthesize.f32.tflite)
	@$(PYTHON) $(WEB)/serve.py $(PORT)

$(OUT)/%/synthesize.f32.tflite: specgan_tf/data/models/%/generator.npz | $(VENV)/installed
	$(BIN)/python export.py $* --formats tflite --tflite f32 --out_dir $(@D) --overwrite

$(WEB)/vendor/litert.js: $(WEB)/package-lock.json $(WEB)/vendor.mjs
	@command -v npm >/dev/null || { echo "npm is not there: install Node.js"; exit 1; }
	cd $(WEB) && npm ci --silent && npm run --silent vendor

# The bundled model of drums, or NAME=digits, or MODEL=out/specgan; docs/SERVING.md
serve: PORT = 8501
serve: $(VENV)/serve-installed
	@$(BIN)/specgan-serve $(or $(MODEL),$(NAME)) --port $(PORT)

test: $(VENV)/test-installed
	$(BIN)/python -m pytest -n 2 --dist loadgroup

# Without the slow ones.
quick: $(VENV)/test-installed
	$(BIN)/python -m pytest -n 2 -m "not slow"

lint: $(VENV)/test-installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# The pages of docs/ and a reference made of docstrings, in site/. Warnings are errors.
docs: $(VENV)/docs-installed
	$(BIN)/mkdocs build
	@echo "Open site/index.html in a browser"

# Install and quick tests on each of these Pythons that is found.
matrix:
	@for v in 3.10 3.11 3.12 3.13; do \
		if python$$v -c '' 2>/dev/null; then \
			echo "== Python $$v"; \
			$(MAKE) quick PYTHON=python$$v VENV=.venv-$$v || exit 1; \
		else echo "== Python $$v: not found"; fi; \
	done

clean:
	rm -rf $(WEB)/node_modules $(WEB)/vendor $(WEB)/model
	rm -rf $(VENV) .venv-* $(OUT) build site *.egg-info .pytest_cache .ruff_cache
