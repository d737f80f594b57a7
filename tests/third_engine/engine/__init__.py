"""An engine that trains nothing: its objective is a given curve."""
