"""torchreid's OSNet with an optional BNNeck, and its three outputs."""

import torch
from torch import Tensor, nn

from watchme.engines.osnet.instance_norm import keep_channels_last
from watchme.engines.osnet.quiet_torchreid import models

CLASSIFIER = "classifier."
# Images that a CPU embeds at once: what 8 of 256x128 need stays in its cache, and 32 take half as long again each.
_CPU_BATCH = 8


class ReidNet(nn.Module):
    """An OSNet of torchreid, with a BNNeck if asked for.

    `backbone.state_dict()` has exactly torchreid's keys, so that what is saved loads into torchreid's model and into
    the WatchMe backend, which builds it with loss='triplet' and drops the classifier. The BNNeck is batch normalisation
    (without bias) between embedding and classifier (Luo et al., Bag of Tricks, CVPRW 2019); the embedding that is
    compared, and that the backend uses, is the one before it.
    """

    def __init__(self, name: str, num_classes: int, *, bnneck: bool = False) -> None:
        super().__init__()
        self.backbone = models.build_model(name, num_classes, loss="triplet", pretrained=False)
        keep_channels_last(self.backbone)
        self.feature_dim: int = self.backbone.feature_dim
        self.neck: nn.BatchNorm1d | None = None
        if bnneck:
            self.neck = nn.BatchNorm1d(self.feature_dim)
            self.neck.bias.requires_grad_(False)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, 3, H, W) images to (B, classes) logits, (B, D) embeddings, and (B, D) inputs of the classifier."""
        embeddings = self.embed(images)
        neck = self.neck(embeddings) if self.neck is not None else embeddings
        return self.backbone.classifier(neck), embeddings, neck

    def embed(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) images to (B, D) embeddings."""
        maps = self.backbone.featuremaps(images)
        pooled = torch.flatten(self.backbone.global_avgpool(maps), 1)
        return pooled if self.backbone.fc is None else self.backbone.fc(pooled)

    def embed_in_parts(self, images: Tensor) -> Tensor:
        """`embed`, a few images at once on a CPU; in evaluation mode, where they do not depend on each other."""
        parts = torch.split(images, _CPU_BATCH if images.device.type == "cpu" else len(images))
        return torch.cat([self.embed(part) for part in parts])
