"""Dataset checks before training: one streaming pass into SQLite, then queries. No torch.

issue_kinds.py              what can be wrong, how bad it is, and why
image_probe.py, scan.py     one image: readable, size, hashes; all images, in threads
yolo_labels.py              lines of label files
database.py                 images, boxes and findings in SQLite: memory does not grow with the dataset
detection_checks.py, reid_checks.py, duplicates.py    the queries
dataset_plots.py, contact_sheets.py, summary_table.py, result.py    plots, pictures of findings, tables, the result
"""
