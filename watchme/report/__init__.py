"""Pages that a person wants to open: `report.html` of a run, and an index of all runs.

Both are single files that need no network and no server. `python -m watchme.report outputs/` builds the index.
"""
