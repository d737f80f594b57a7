"""Datasets from other formats: `python -m watchme.data.prepare <source>`.

sources.py               what the sub-commands share: options, bad records, fingerprints, where images lie
boxes.py, splits.py      boxes and label lines; who goes to train, val and test
folder.py                the output folder: links, atomic files, resuming, prepare.json
detection.py             photos with boxes -> YOLO layout
coco.py, crowdhuman.py, voc.py, pennfudan.py, mot.py    readers; mot_crops.py: tracks -> Market-1501 crops
torchreid.py, places.py, archives.py                    archives of re-ID datasets, unpacked safely
video.py                 frames of videos
summary.py               what is said at the end
"""
