"""`train.limit_batches`: how much of an epoch, and of an evaluation, is left."""

Limit = int | float | None


def limited(batches: int, limit: Limit) -> int:
    """Batches that are left of so many: a count at most, or a share of them, at least one."""
    if limit is None:
        return batches
    return min(batches, limit if isinstance(limit, int) else max(1, int(batches * limit)))


def limited_images(images: int, batch_size: int, limit: Limit) -> int:
    """Images that are left of so many: those of as many batches as `limited` leaves."""
    return min(images, limited(-(-images // batch_size), limit) * batch_size)


def not_comparable(limit: int | float) -> str:
    """What a limited run says of its metrics."""
    what = f"{limit} batches" if isinstance(limit, int) and limit > 1 else f"{limit} batch"
    what = what if isinstance(limit, int) else f"a share of {limit:g} of the batches"
    return (
        f"train.limit_batches={limit}: {what} of each epoch and of each evaluation. "
        "It shows that everything works; the metrics can be compared with nothing"
    )
