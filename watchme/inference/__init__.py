"""Trained models on pictures and videos of one's own: sources of frames, a pipeline over them, and what it finds."""
