"""What each metric means, in one sentence, for the pages."""

import re

_SUFFIXES = {"_reranked": "After k-reciprocal re-ranking."}
_MEANINGS = {
    "map50": "Detection: area under the precision-recall curve, a box counting as right at an overlap (IoU) of 0.5.",
    "map50_95": "Detection: mean of the average precision at IoU 0.50, 0.55, ... 0.95; rewards tight boxes.",
    "precision": "Share of the predicted boxes that are right, at the confidence with the best F1.",
    "recall": "Share of the people that are found, at the confidence with the best F1.",
    "f1": "Harmonic mean of precision and recall, at the confidence where it is highest.",
    "map": "Re-ID: mean over queries of the average precision of the ranked gallery; rewards finding every match.",
    "minp": "Re-ID: mean inverse negative penalty; how early the hardest true match of a query is ranked.",
    "map_fc_dropped": "Export: mAP as the backend loads the weights, with a random layer for `fc`; mean over seeds.",
    "cosine_fc_dropped": "Export: mean cosine of embeddings with a random layer for `fc` to the trained ones.",
    "loss": "What training minimises; comparable only between runs with the same loss.",
    "box_loss": "Localisation part of the detection loss.",
    "cls_loss": "Classification part of the detection loss.",
    "dfl_loss": "Distribution focal loss: how well box edges are placed.",
    "softmax_loss": "Cross-entropy over the identities of the training set.",
    "triplet_loss": "Batch-hard triplet loss: same identity closer than any other by a margin.",
    "circle_loss": "Circle loss: pairs far from their optimum weigh more.",
    "arcface_loss": "ArcFace: cross-entropy with an angular margin between identities.",
    "cosface_loss": "CosFace: cross-entropy with a margin on the cosine between identities.",
    "center_loss": "Center loss: distance of embeddings to the centre of their identity.",
    "accuracy": "Share of training crops whose identity the classifier names.",
    "lr": "Learning rate of the first parameter group at the end of the epoch.",
    "images_per_s": "Training throughput, images a second.",
    "data_wait_share": "Share of the time in which the model waits for the data loader; above 0.2, add workers.",
    "gpu_utilisation": "Mean share of the time that the GPUs were busy.",
    "gpu_memory_gb": "Most memory in use on one GPU, GiB.",
    "train_s": "Seconds of training an epoch.",
    "eval_s": "Seconds of validation an epoch.",
    "epoch_s": "Seconds an epoch, validation included.",
    "search_map": "Person search: mAP of queries against all detected boxes of all frames.",
    "search_map_gt_boxes": "Person search with the boxes drawn by hand: what a perfect detector would give.",
    "search_map_oracle_embedding": "Person search with each match ranked first: what a perfect embedding would give.",
    "detection_precision": "Share of the detector's boxes that are people, from the confidence of the search on.",
    "detection_ap50": "Area under the detector's precision over recall at IoU 0.5, all confidences.",
    "detection_recall": "Share of the people in the frames that the detector finds.",
    "lost_missed": "mAP lost because the detector missed people.",
    "lost_boxes": "mAP lost because detected boxes are cut less well than annotated ones.",
    "lost_false_detections": "mAP lost to false detections that are ranked before true matches.",
    "lost_embedding": "mAP lost because the embedding ranks somebody else higher.",
}


def meaning(name: str) -> str:
    """One sentence about a metric, by the last part of its name; empty for an unknown one."""
    last = name.rpartition("/")[2]
    for suffix, more in _SUFFIXES.items():
        if last.endswith(suffix) and (text := meaning(last.removesuffix(suffix))):
            return f"{text} {more}"
    if (found := re.fullmatch(r"rank(\d+)", last)) is not None:
        return f"Re-ID: share of queries with a true match among the first {found[1]} of the ranked gallery."
    if (found := re.fullmatch(r"search_top(\d+)(_gt_boxes)?", last)) is not None:
        where = ", with the boxes drawn by hand" if found[2] else ""
        return f"Person search: share of queries with a match among the first {found[1]} boxes{where}."
    return _MEANINGS.get(last, "")
