"""Files: atomic writes, checkpoints, the cache folder, and which run a weights file is from."""
