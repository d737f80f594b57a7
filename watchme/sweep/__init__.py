"""Sweeps: a Hydra sweeper (`plugin.py`) on Optuna's ask-and-tell interface (`study.py`), imported when one starts."""
