"""Published pretrained weights: which there are, fetching them once, and loading them safely. Imports no torch."""
