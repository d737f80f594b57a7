"""mode=find compares the means of tracks, by the calibration that fits."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from inference.drawn import Knowing
from person_search.finding import Run, Typed, calibration


class Confused(Knowing):
    """Takes every fourth red person for a green one."""

    def __init__(self) -> None:
        self.red = 0

    def embed(self, crops: Any) -> Any:
        vectors = super().embed(crops)
        for place in np.flatnonzero(vectors[:, 0] > 0.8):
            self.red += 1
            if self.red % 4 == 0:
                vectors[place] = vectors[place, [1, 0, 2]]
        return vectors


def test_the_mean_of_a_track_finds_whom_single_frames_miss(typed_config: Typed, tmp_path: Path) -> None:
    run = Run(tmp_path, typed_config)
    made = calibration(run.root / "calibration.json")
    told = run(f"find.calibration={made}", embedder=Confused())
    assert {match.frame for match in told.found.matches if match.is_match} == set(range(40))
    assert len({match.similarity for match in told.found.matches if match.is_match}) == 1
    assert "means of 3 persons" in told.found.search
    assert told.fallbacks == []
    content = json.loads(made.read_text())
    del content["means"]
    made.write_text(json.dumps(content))
    alone = run(f"find.calibration={made}", embedder=Confused())
    assert sum(match.is_match for match in alone.found.matches) == 30
    (text,) = alone.fallbacks
    assert "each sighting is compared alone" in text
