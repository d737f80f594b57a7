"""Checks of a dataset before it is trained on: one streaming pass, then questions to what it found. No torch.

issue_kinds.py        what can be wrong, how bad it is, and why
database.py        what is known of each image, box and name, in SQLite: memory does not grow with the dataset
pictures.py     one image looked at: readable, size, hashes            scan.py    all of them, several at a time
labels.py       lines of YOLO label files                              detection.py, people.py    the questions
duplicates.py   the same picture twice, by content or by looks
plots.py, sheets.py, report.py    what is shown of it
"""
