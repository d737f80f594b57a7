"""Datasets of person search: frames, the people in them and who they are, and who is to be looked for."""
