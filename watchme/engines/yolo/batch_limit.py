"""`train.limit_batches`: a dataset of ultralytics with fewer images."""

from typing import Any

from watchme.core.batch_limit import Limit, limited_images

# What an ultralytics dataset holds of each image, in one order.
_LISTS = ("im_files", "label_files", "npy_files", "labels", "ims", "im_hw0", "im_hw")


def limit_images(dataset: Any, batch_size: int, limit: Limit) -> Any:
    """Keep the images of so many batches, spread over the dataset, and return it.

    Its cached labels are those of all images, so that the next training need not read them again. Of rectangular
    batches, whose images share a shape, the first are kept.

    Args:
        dataset: A `YOLODataset`; changed in place.
        batch_size: Images in a batch, over all devices.
        limit: `train.limit_batches`.
    """
    images = len(dataset.labels)
    kept = limited_images(images, batch_size, limit)
    if kept < images:
        chosen = list(range(kept)) if dataset.rect else [place * images // kept for place in range(kept)]
        for name in _LISTS:
            items = getattr(dataset, name, None)
            if isinstance(items, list) and len(items) == images:
                setattr(dataset, name, [items[place] for place in chosen])
        dataset.ni = kept
    return dataset
