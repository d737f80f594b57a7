"""The command line: what is done before Hydra composes the config, and how errors are reported."""
