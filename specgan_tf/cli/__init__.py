"""The modes of train_specgan.py, by purpose: each is `run_MODE`, of its settings."""
