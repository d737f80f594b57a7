"""mode=evaluate of an OSNet: query against gallery of each target."""

from watchme.core.interfaces import Job, Result
from watchme.engines.osnet.train import ReidRun


def evaluate(job: Job) -> Result:
    """Evaluate `checkpoint`, of watchme or of torchreid, on query against gallery."""
    return ReidRun(job).evaluate()
