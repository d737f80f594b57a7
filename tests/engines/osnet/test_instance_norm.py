"""Instance normalisation in channels-last against torch's own, which contiguous images get."""

import functools

import pytest
import torch
from torch import Tensor, nn

from watchme.engines.osnet.instance_norm import keep_channels_last
from watchme.engines.osnet.model import ReidNet

LAST = torch.channels_last


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", ["osnet_ibn_x1_0", "osnet_ain_x1_0"])
def test_models_compute_what_torch_does(name: str, training: bool) -> None:
    torch.manual_seed(0)
    # In float64, where another order of sums does not show.
    model = ReidNet(name, 5).double().train(training)
    images, results = torch.rand(4, 3, 64, 32, dtype=torch.float64), []
    state = {key: value.clone() for key, value in model.state_dict().items()}
    for layout in (torch.contiguous_format, LAST):
        model.load_state_dict(state)
        model.zero_grad()
        model.to(memory_format=layout)
        embeddings = model.embed(images.contiguous(memory_format=layout))
        torch.autograd.backward(embeddings.square().sum())
        gradients = {key: value.grad for key, value in model.named_parameters()}
        results.append((embeddings, gradients, {key: value.clone() for key, value in model.state_dict().items()}))
    torch.testing.assert_close(results[1], results[0], rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("size", [1, 3])
def test_values_and_gradients_stay_in_channels_last(size: int) -> None:
    layer = nn.InstanceNorm2d(8, affine=True)
    keep_channels_last(layer)
    images = torch.rand(size, 8, 6, 5).contiguous(memory_format=LAST).requires_grad_()
    seen: list[Tensor] = []
    images.register_hook(seen.append)  # type: ignore[no-untyped-call]
    found = layer(images)
    found.backward(torch.rand(size, 8, 6, 5).contiguous(memory_format=LAST))
    assert found.is_contiguous(memory_format=LAST)
    assert seen[0].is_contiguous(memory_format=LAST)


def test_every_gradient_of_a_model_has_its_values_layout() -> None:
    """Else the operations before the instance normalisation are many times as slow."""
    model = ReidNet("osnet_ibn_x1_0", 5).train().to(memory_format=LAST)
    wrong: list[str] = []

    def note(name: str, gradient: Tensor) -> None:
        if not gradient.is_contiguous(memory_format=LAST):
            wrong.append(name)

    for name, layer in model.named_modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.register_forward_hook(
                lambda layer, given, found, name=name: found.register_hook(functools.partial(note, name)) and None
            )
    images = torch.rand(4, 3, 64, 32).contiguous(memory_format=LAST)
    torch.autograd.backward(model.embed(images).sum())
    assert wrong == []
