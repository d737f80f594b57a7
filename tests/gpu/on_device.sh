#!/usr/bin/env bash
# The proof on a machine that has torch and no network: what else is needed is carried along as wheels.
#
#   tests/gpu/on_device.sh <carried> <out> [options of proof.py]
#
# <carried> holds wheels/ (what `python train.py` imports and the machine lacks), stubs/ (small stand-ins for large
# packages), market1501_mini/, coco128_person/ and weights/. <out> gets result.json, summary.txt, profile.txt, the
# card's load each second, and the logs.
set -uo pipefail
carried=$(realpath "$1") out=$(realpath "$2")
shift 2
cd "$(dirname "$0")/../.." || exit
site=$(mktemp -d)
work=$(mktemp -d)
# Wheels without scripts or data are unpacked in a second; pip takes a quarter of a minute.
python3 -c 'import sys, zipfile; [zipfile.ZipFile(wheel).extractall(sys.argv[1]) for wheel in sys.argv[2:]]' \
    "$site" "$carried"/wheels/*.whl || exit
export PYTHONPATH="$site:$carried/stubs" PYTHONUNBUFFERED=1
if command -v nvidia-smi > /dev/null; then
    nvidia-smi dmon -s pumt -o T > "$out/dmon.txt" &
    trap 'kill %1' EXIT
fi
python3 tests/gpu/proof.py --out "$out" --work "$work" --data "$carried" "$@"
status=$?
tar -C "$work" --ignore-failed-read -czf "$out/logs.tgz" log steps
exit $status
