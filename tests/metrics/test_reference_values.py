"""Scores of real weights on real photographs, as torchreid's own functions gave them (people/README.md)."""

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torchreid.reid.models import build_model
from torchvision import transforms

from watchme.metrics.distance import Distance
from watchme.metrics.retrieval import evaluate_features

pytestmark = pytest.mark.real

Split = tuple[torch.Tensor, list[int], list[int]]


@pytest.fixture(scope="module")
def splits(real_data: Path) -> tuple[Split, Split]:
    """Features, person and camera of the query and gallery crops."""
    model: Any = build_model("osnet_x0_25", num_classes=1041, pretrained=False)
    model.load_state_dict(torch.load(real_data / "weights" / "osnet_x0_25_msmt17.pth", weights_only=True))
    model.eval()
    prepare = transforms.Compose(
        [
            transforms.Resize((256, 128)),
            transforms.ToTensor(),
            transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        ]
    )

    def load(folder: str) -> Split:
        files = sorted((real_data / "market1501_mini" / folder).glob("*.jpg"))
        with torch.no_grad():
            images = [prepare(Image.open(file).convert("RGB")) for file in files]
            features = torch.cat([model(torch.stack(images[i : i + 58])) for i in range(0, len(images), 58)])
        return features, [int(file.name[:4]) for file in files], [int(file.name[6]) for file in files]

    return load("query"), load("bounding_box_test")


@pytest.mark.parametrize(
    ("distance", "scores", "reranked"),
    [
        ("euclidean", (0.697909, 0.826923, 1.000000, 0.459453), (0.810722, 0.865385)),
        ("cosine", (0.742240, 0.846154, 0.990385, 0.525794), (0.855227, 0.903846)),
    ],
)
def test_reference_values(
    splits: tuple[Split, Split], distance: Distance, scores: tuple[float, ...], reranked: tuple[float, ...]
) -> None:
    (query, query_pids, query_cams), (gallery, gallery_pids, gallery_cams) = splits
    assert (len(query), len(gallery)) == (104, 174)
    ids = (query_pids, gallery_pids, query_cams, gallery_cams)
    plain = evaluate_features(query, gallery, *ids, distance=distance)
    assert (plain.map, plain.rank(1), plain.rank(5), plain.minp) == pytest.approx(scores, abs=1e-4)
    again = evaluate_features(query, gallery, *ids, distance=distance, rerank=True)
    assert (again.map, again.rank(1)) == pytest.approx(reranked, abs=1e-4)
