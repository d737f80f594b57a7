"""One run: its folder, callbacks, and summary."""
