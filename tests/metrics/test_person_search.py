"""Person search: against the published loop, by hand in small cases, and the parts that add up to 1."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from watchme.metrics.detection import Detections, People, score_detections
from watchme.metrics.iou import iou_matrix
from watchme.metrics.person_search import (
    LOOSE,
    Matches,
    Overlap,
    Queries,
    decompose,
    mean,
    needed_iou,
    search,
    themselves,
)

FRAMES = 8


def people_of(*rows: tuple[int, int, list[float]], ignored: tuple[tuple[int, list[float]], ...] = ()) -> People:
    """People from (frame, identity, box)."""
    return People(
        np.array([row[0] for row in rows], np.int64),
        np.array([row[2] for row in rows], np.float64).reshape(-1, 4),
        np.array([row[1] for row in rows], np.int64),
        np.array([frame for frame, _ in ignored], np.int64),
        np.array([box for _, box in ignored], np.float64).reshape(-1, 4),
    )


def detections_of(*rows: tuple[int, float, list[float]]) -> Detections:
    """Detections from (frame, confidence, box)."""
    return Detections(
        np.array([row[0] for row in rows], np.int64),
        np.array([row[2] for row in rows], np.float64).reshape(-1, 4),
        np.array([row[1] for row in rows], np.float64),
    )


def unit(values: Any) -> NDArray[np.float32]:
    array = np.asarray(values, np.float32)
    found: NDArray[np.float32] = array / np.linalg.norm(array, axis=-1, keepdims=True)
    return found


class World:
    """A random world: people in boxes, a detector that misses, doubles, shifts and invents, noisy embeddings."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        rows: list[tuple[int, int, list[float]]] = []
        found: list[tuple[int, float, list[float]]] = []
        traits = rng.normal(size=(8, 6))
        features = []
        for frame in range(FRAMES):
            for pid in rng.permutation(7)[: rng.integers(1, 6)].tolist():
                left, top = rng.uniform(0, 200, 2)
                box = [left, top, left + rng.uniform(8, 40), top + rng.uniform(20, 80)]
                rows.append((frame, pid, box))  # 0 is somebody unknown
                for _ in range(rng.choice(3, p=(0.25, 0.55, 0.2))):
                    shift = rng.normal(0, 0.16, 4) * (np.array(box)[[2, 3, 2, 3]] - np.array(box)[[0, 1, 0, 1]])
                    found.append((frame, rng.uniform(), (np.array(box) + shift).tolist()))
                    features.append(traits[pid] + rng.normal(0, 0.7, 6))
            for _ in range(rng.integers(0, 3)):
                left, top = rng.uniform(0, 200, 2)
                found.append((frame, rng.uniform(), [left, top, left + 20, top + 50]))
                features.append(rng.normal(size=6))
        self.people = people_of(*rows)
        self.detections = detections_of(*found)
        self.features = unit(features)
        self.drawn = unit(traits[self.people.pids] + rng.normal(0, 0.5, (len(rows), 6)))
        asked = [number for number, row in enumerate(rows) if row[1] > 0][:12]
        self.asked_frames = self.people.frames[asked]
        allowed = rng.uniform(size=(len(asked), FRAMES)) < 0.8
        allowed[np.arange(len(asked)), self.asked_frames] = False
        self.queries = Queries(unit(traits[self.people.pids[asked]]), self.people.pids[asked], allowed)
        self.needed = needed_iou(self.people.boxes, 0.5, small_boxes=True)


def iou(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    wide = min(one[2], other[2]) - max(one[0], other[0])
    tall = min(one[3], other[3]) - max(one[1], other[1])
    inside = max(wide, 0) * max(tall, 0)
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
    return float(inside / (areas - inside))


def published(world: World, query: int) -> tuple[float, float]:
    """Average precision and rank of the first match as the code of OIM and its successors computes them."""
    metrics = pytest.importorskip("sklearn.metrics")
    truth: list[int] = []
    likeness: list[float] = []
    count_gt = count_tp = 0
    for frame in range(FRAMES):
        if not world.queries.allowed[query, frame]:
            continue
        there = np.flatnonzero(world.detections.frames == frame)
        alike = world.features[there] @ world.queries.features[query]
        label = np.zeros(len(there), int)
        order = np.argsort(alike)[::-1]
        own = [
            p for p in np.flatnonzero(world.people.frames == frame) if world.people.pids[p] == world.queries.pids[query]
        ]
        for person in own:
            box = world.people.boxes[person]
            w, h = box[2] - box[0], box[3] - box[1]
            needed = min(0.5, (w * h * 1.0) / ((w + 10) * (h + 10)))
            count_gt += 1
            for place in order:
                if iou(world.detections.boxes[there[place]], box) >= needed:
                    label[place] = 1
                    count_tp += 1
                    break
        truth += label.tolist()
        likeness += alike.tolist()
    if not count_gt:
        return float("nan"), float("nan")
    if not count_tp:
        return 0.0, float("inf")
    ap = float(metrics.average_precision_score(truth, likeness)) * count_tp / count_gt
    ranked = np.array(truth)[np.argsort(likeness)[::-1]]
    return ap, float(1 + ranked.argmax())


@pytest.mark.parametrize("seed", range(12))
def test_search_is_the_published_loop(seed: int) -> None:
    world = World(seed)
    overlap = Overlap.of(world.people, world.detections, world.needed)
    score = search(world.queries, world.people, world.detections.frames, world.features, overlap.matches)
    expected = np.array([published(world, query) for query in range(len(world.queries.pids))])
    np.testing.assert_allclose(score.average_precision, expected[:, 0], atol=1e-6)
    np.testing.assert_array_equal(score.first_rank, expected[:, 1])
    assert score.map == pytest.approx(np.nanmean(expected[:, 0]))
    assert score.top(5) == pytest.approx(np.mean(expected[~np.isnan(expected[:, 1]), 1] <= 5))


@pytest.mark.parametrize("seed", range(12))
def test_decomposition_adds_up_and_each_part_is_what_its_repair_gains(seed: int) -> None:
    world = World(seed)
    overlap = Overlap.of(world.people, world.detections, world.needed)
    everything = (world.queries, world.people, world.detections, world.features, world.drawn, overlap)
    real, lost = decompose(*everything)
    parts = lost.real + lost.missed + lost.boxes + lost.false_detections + lost.embedding
    np.testing.assert_allclose(parts[real.wanted > 0], 1, atol=1e-12)
    assert np.isnan(parts[real.wanted == 0]).all()
    defined = real.wanted > 0
    # These can only cost; a box may also embed better than the one drawn by hand.
    for values in (lost.missed, lost.false_detections, lost.embedding):
        assert (values[defined] >= -1e-12).all()
    np.testing.assert_allclose(lost.oracle_embedding[defined], real.matched[defined] / real.wanted[defined])
    # An embedding that knows everybody reaches the detector's bound.
    knows = np.eye(8, dtype=np.float32)
    owner = np.full(len(world.detections.frames), 7)
    for person, pid in enumerate(world.people.pids):
        owner[overlap.matches.of(person)] = pid
    if (np.bincount(np.concatenate([overlap.matches.entries])) <= 1).all():  # no box lies on two people
        asked = Queries(knows[world.queries.pids], world.queries.pids, world.queries.allowed)
        best = search(asked, world.people, world.detections.frames, knows[owner], overlap.matches, fair=overlap)
        np.testing.assert_allclose(best.average_precision, lost.oracle_embedding, atol=1e-12)


def test_by_hand() -> None:
    """Identity 1 in frames 1, 2 and 3: found, missed, badly placed. Identity 2 and background come between."""
    box, far = [0.0, 0, 10, 20], [50.0, 0, 60, 20]
    people = people_of((0, 1, box), (1, 1, box), (1, 2, far), (2, 1, box), (3, 1, box))
    detections = detections_of(
        (1, 0.9, box),
        (1, 0.8, far),
        (1, 0.3, [100, 0, 110, 20]),
        (3, 0.9, [0, 0, 10, 8]),  # the last: IoU 0.4
    )
    angles = np.radians([30, 20, 10, 5])  # to the query: background and identity 2 are more alike than the match
    features = unit(np.stack([np.cos(angles), np.sin(angles)], 1))
    drawn = unit([[1, 0], [1, 1], [1, 0.1], [1, 0], [1, 0]])  # by hand, too, identity 2 is more alike
    queries = Queries(unit([[1, 0]]), np.array([1]), np.array([[False, True, True, True]]))
    overlap = Overlap.of(people, detections, needed_iou(people.boxes, 0.5, small_boxes=False))
    real, lost = decompose(queries, people, detections, features, drawn, overlap)
    assert overlap.false.tolist() == [False, False, True, True]
    assert overlap.near.tolist() == [False, False, False, False, True]
    assert (real.wanted[0], real.matched[0], real.first_rank[0]) == (3, 1, 4)
    third = 1 / 3
    assert real.average_precision[0] == pytest.approx(third / 4)
    assert lost.missed[0] == pytest.approx(third)
    assert lost.false_detections[0] == pytest.approx(third / 2 - third / 4)
    assert lost.boxes[0] == pytest.approx(third)
    assert lost.embedding[0] == pytest.approx(third - third / 2)
    assert lost.oracle_embedding[0] == pytest.approx(third)


def perfect() -> tuple[People, Detections, NDArray[np.float32], Queries]:
    box, far = [0.0, 0, 10, 20], [50.0, 0, 60, 20]
    people = people_of(*((frame, pid, place) for frame in range(3) for pid, place in ((1, box), (2, far))))
    detections = Detections(people.frames, people.boxes, np.full(6, 0.9))
    features = np.eye(2, dtype=np.float32)[people.pids - 1]
    allowed = np.array([[False, True, True]] * 2)
    return people, detections, features, Queries(np.eye(2, dtype=np.float32), np.array([1, 2]), allowed)


def test_perfect_models_give_1() -> None:
    people, detections, features, queries = perfect()
    overlap = Overlap.of(people, detections, np.full(6, 0.5))
    real, lost = decompose(queries, people, detections, features, features, overlap)
    assert (real.map, real.top(1), mean(lost.oracle_embedding)) == (1, 1, 1)
    for values in (lost.missed, lost.boxes, lost.false_detections, lost.embedding):
        assert values.tolist() == [0, 0]
    found = score_detections(people, detections)
    assert (found.recall, found.precision, found.ap) == (1, 1, 1)


def test_a_blind_detector_loses_all() -> None:
    people, _, features, queries = perfect()
    nothing = detections_of()
    overlap = Overlap.of(people, nothing, np.full(6, 0.5))
    real, lost = decompose(queries, people, nothing, features[:0], features, overlap)
    assert (real.map, real.top(10), mean(lost.missed), mean(lost.embedding)) == (0, 0, 1, 0)
    found = score_detections(people, nothing)
    assert (found.recall, found.ap) == (0, 0)
    assert np.isnan(found.precision)
    # A perfect detector with the same embedding would lose nothing.
    drawn = search(queries, people, people.frames, features, themselves(np.ones(6, bool)))
    assert drawn.map == 1


def test_undefined_is_nan() -> None:
    people, detections, features, queries = perfect()
    overlap = Overlap.of(people, detections, np.full(6, 0.5))
    nowhere = Queries(queries.features, np.array([1, 99]), np.array([[False] * 3, [True] * 3]))
    real, lost = decompose(nowhere, people, detections, features, features, overlap)
    assert np.isnan([real.map, real.top(1), mean(lost.missed), mean(lost.oracle_embedding)]).all()
    half = Queries(queries.features, np.array([1, 99]), queries.allowed)
    assert search(half, people, detections.frames, features, overlap.matches).map == 1  # the other one does not count
    nobody = score_detections(people_of(), detections)
    assert np.isnan([nobody.recall, nobody.ap]).all()
    assert nobody.precision == 0


def test_equally_alike_entries_share_the_worst_rank() -> None:
    people, detections, features, queries = perfect()
    overlap = Overlap.of(people, detections, np.full(6, 0.5))
    same = np.ones_like(features) / np.sqrt(np.float32(2))
    score = search(queries, people, detections.frames, same, overlap.matches)
    assert score.average_precision.tolist() == [0.5, 0.5]
    assert score.first_rank.tolist() == [3, 3]


def test_small_boxes_need_less() -> None:
    boxes = np.array([[0.0, 0, 10, 20], [0, 0, 100, 200]])
    assert needed_iou(boxes, 0.5, small_boxes=True).tolist() == [200 / (20 * 30), 0.5]
    assert needed_iou(boxes, 0.6, small_boxes=False).tolist() == [0.6, 0.6]


def test_a_detection_on_two_people_counts_for_both() -> None:
    """As published: each query looks at its own person alone."""
    people = people_of((0, 1, [0, 0, 10, 20]), (1, 1, [0, 0, 10, 20]), (1, 2, [2, 0, 12, 20]))
    detections = detections_of((1, 0.9, [1, 0, 11, 20]))
    overlap = Overlap.of(people, detections, np.full(3, 0.5))
    assert overlap.matches.found.tolist() == [False, True, True]
    assert isinstance(overlap.matches, Matches)


# ---- Detection


def naive_detection(people: People, detections: Detections, least: float) -> tuple[float, float, float]:
    """Recall and precision from a confidence on, and AP as a sum over recall, by plain loops."""

    def matched(level: float) -> tuple[int, int]:
        right = shown = 0
        for frame in range(FRAMES):
            free = set(np.flatnonzero(people.frames == frame).tolist())
            there = [d for d in np.flatnonzero(detections.frames == frame) if detections.scores[d] >= level]
            for d in sorted(there, key=lambda d: -detections.scores[d]):
                shown += 1
                options = [(iou(people.boxes[p], detections.boxes[d]), p) for p in free]
                if options and max(options)[0] >= 0.5:
                    free.remove(max(options)[1])
                    right += 1
        return right, shown

    total = len(people.frames)
    points = [matched(level) for level in sorted(detections.scores, reverse=True)]
    curve = [(right / total, right / shown) for right, shown in points]
    ap, before = 0.0, 0.0
    for number, (recall, _) in enumerate(curve):
        ap += (recall - before) * max(precision for _, precision in curve[number:])
        before = recall
    right, shown = matched(least)
    return right / total, right / shown, ap


@pytest.mark.parametrize("seed", range(6))
def test_detection_is_the_naive_loop(seed: int) -> None:
    world = World(seed)
    found = score_detections(world.people, world.detections, confidence=0.4)
    expected = naive_detection(world.people, world.detections, 0.4)
    assert (found.recall, found.precision, found.ap) == pytest.approx(expected)


def test_detections_in_ignored_regions_do_not_count() -> None:
    region = (0, [100.0, 0, 200, 100])
    people = people_of((0, 1, [0, 0, 10, 20]), ignored=(region,))
    inside, outside = [110.0, 10, 120, 30], [300.0, 0, 310, 20]
    rows = ((0, 0.9, [0.0, 0, 10, 20]), (0, 0.95, inside), (0, 0.5, outside))
    found = score_detections(people, detections_of(*rows))
    assert (found.recall, found.precision, found.ap, found.detections) == (1, 0.5, 1, 2)
    plain = score_detections(people_of((0, 1, [0, 0, 10, 20])), detections_of(*rows))
    assert plain.precision == pytest.approx(1 / 3)


def test_iou_matrix_is_the_loop() -> None:
    world = World(3)
    matrix = iou_matrix(world.people.boxes, world.detections.boxes)
    loop = [[iou(one, other) for other in world.detections.boxes] for one in world.people.boxes]
    np.testing.assert_allclose(matrix, loop, atol=1e-12)
    assert iou_matrix(np.zeros((1, 4)), np.zeros((1, 4))).tolist() == [[0.0]]


def test_near_needs_a_loose_overlap_with_a_box_of_nobody() -> None:
    people = people_of((0, 1, [0, 0, 10, 20]))
    for height, near in ((20 * (LOOSE + 0.05), True), (20 * (LOOSE - 0.05), False)):
        overlap = Overlap.of(people, detections_of((0, 0.9, [0, 0, 10, height])), np.array([0.5]))
        assert overlap.near.tolist() == [near]
    # Their neighbour's detection touches them, but it is the neighbour's.
    both = people_of((0, 1, [0, 0, 10, 20]), (0, 2, [7, 0, 17, 20]))
    overlap = Overlap.of(both, detections_of((0, 0.9, [7, 0, 17, 20])), np.array([0.5, 0.5]))
    assert overlap.near.tolist() == [False, False]
