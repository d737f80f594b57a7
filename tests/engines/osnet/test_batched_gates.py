"""Batched gates against torchreid's own blocks: outputs, gradients, names."""

import copy

import pytest
import torch

from watchme.engines.osnet.batched_gates import batch_gates
from watchme.engines.osnet.model import ReidNet


@pytest.mark.parametrize("name", ["osnet_x0_25", "osnet_ibn_x1_0", "osnet_ain_x1_0"])
def test_blocks_compute_what_torchreids_do(name: str) -> None:
    torch.manual_seed(0)
    # In float64, where another order of sums does not show.
    theirs = ReidNet(name, 5).double().train()
    ours = copy.deepcopy(theirs)
    batch_gates(ours)
    changed = [module for module in ours.modules() if type(module).__module__.endswith("batched_gates")]
    assert len(changed) == 6
    images, results = torch.rand(4, 3, 64, 32, dtype=torch.float64), []
    for model in (theirs, ours, copy.deepcopy(ours)):
        logits, embeddings, _ = model(images)
        torch.autograd.backward(logits.square().sum() + embeddings.sum())
        gradients = {name: value.grad for name, value in model.named_parameters()}
        results.append((logits, embeddings, gradients, model.state_dict()))
    for found in results[1:]:
        torch.testing.assert_close(found, results[0], rtol=1e-9, atol=1e-9)
