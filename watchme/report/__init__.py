"""HTML reports: `report.html` of a run, and an index of all runs.

Each is a single file that needs no network and no server. `python -m watchme.report outputs/` builds the index.
"""
