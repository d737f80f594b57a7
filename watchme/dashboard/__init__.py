"""`python -m watchme.dashboard wandb`: a saved W&B workspace and a report of a project, ready to decide by."""
