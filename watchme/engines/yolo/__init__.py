"""YOLO person detectors, trained and evaluated with ultralytics."""
