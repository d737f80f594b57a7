"""torchreid, imported without its warning that its Cython ranking is not built, which is not used here."""

import contextlib
import io
import warnings

with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
    warnings.simplefilter("ignore")
    from torchreid.reid import models
    from torchreid.reid.data import datasets
    from torchreid.reid.models import osnet, osnet_ain

__all__ = ["datasets", "models", "osnet", "osnet_ain"]
