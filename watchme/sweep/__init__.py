"""Sweeps: a Hydra sweeper on Optuna's ask and tell. Only `schema` is imported when Hydra starts."""
