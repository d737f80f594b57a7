"""What the exports of all engines share: hand-off folder, ONNX files, latency."""
