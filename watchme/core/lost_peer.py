"""Errors of torch.distributed that follow from the end of another process."""

import torch.distributed as dist


def is_lost_peer(error: BaseException) -> bool:
    """Whether an error is that another process is gone, rather than one of this process's own work."""
    return isinstance(error, dist.DistError) or (
        isinstance(error, RuntimeError) and any(word in str(error) for word in ("gloo", "NCCL", "Connection"))
    )
