"""mode=export: the part that all engines share (formats, comparison, ONNX files, latency, hand-off folder)."""
