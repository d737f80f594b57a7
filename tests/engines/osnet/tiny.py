"""The least OSNet runs: crops of 64 x 32, batches of 8. Tests add what they are about."""

SMALL = (
    "model=osnet_x0_25",
    "model.weights=null",
    "dataset.height=64",
    "dataset.width=32",
    "train.batch_size=8",
    "train.num_instances=2",
    "train.workers=0",
)
TINY = (*SMALL, "dataset=market1501", "dataset.val_identities=3", "evaluation.visrank=0")
