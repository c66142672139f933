"""The modes of train_specgan.py, by purpose: `run_MODE(settings)` runs each."""
