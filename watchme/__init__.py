"""WatchMe: Hydra-composed training of YOLO person detectors and OSNet re-identification models."""

__version__ = "0.1.0"
