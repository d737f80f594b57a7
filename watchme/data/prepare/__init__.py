"""Converters of datasets from other formats: `python -m watchme.data.prepare <source>`.

options.py                      command-line options that sources share
splits.py, frame_groups.py      division into train, val and test; what must stay together
output_dir.py                   the output folder: links, atomic files, resuming, prepare.json
yolo_writer.py                  photos with boxes -> YOLO layout
yolo.py, coco.py, crowdhuman.py, voc.py, pennfudan.py, mot.py    sources of photos with boxes
reid.py, mot_crops.py           images of people, tracks -> Market-1501 naming
torchreid.py, archive_layout.py, archives.py    archives of re-ID datasets, unpacked safely
video.py                        frames of videos
conversion_summary.py           the summary that is printed

A source is a module with HELP, USAGE, DESCRIPTION, EXAMPLES, `add` (its options) and `run` (the conversion).
"""
