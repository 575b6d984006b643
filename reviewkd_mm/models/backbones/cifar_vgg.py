"""VGG with BN for 32x32 images."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from reviewkd_mm.errors import ConfigError
from reviewkd_mm.models.backbones.staged_backbone import KAIMING_INIT, StagedBackbone
from reviewkd_mm.registry import MODELS

# Channels of the convolutions in block0 to block4, by depth.
CHANNELS = {
    8: ((64,), (128,), (256,), (512,), (512,)),
    11: ((64,), (128,), (256, 256), (512, 512), (512, 512)),
    13: ((64, 64), (128, 128), (256, 256), (512, 512), (512, 512)),
}
# Only images of this height are pooled between block3 and block4.
TALL = 64


@MODELS.register_module()
class CIFARVGG(StagedBackbone):
    """VGG of five blocks with BN for 32x32 images, without hidden linear layers.

    From "Very Deep Convolutional Networks for Large-Scale Image Recognition" (ICLR 2015),
    configurations A (depth 11) and B (13), and one with a convolution a block (8). Parameters have
    the names that RepDistiller's checkpoints use. ``block0`` is the stem, ``block1`` to ``block4``
    are the stages. Max-pooling halves the size before each of ``block1`` to ``block3``, so that
    the stages have strides 2, 4, 8, 8, and before ``block4`` only if the images are 64 pixels
    high, as in RepDistiller. The classifier starts there from normal weights of standard deviation
    0.01 and zero bias: ``init_cfg=dict(type='Normal', layer='Linear', std=0.01)`` of the head.

    ===================================  ===============================
    feature                              tap
    ===================================  ===============================
    output of block k, after ReLU        output of ``relu{k}``
    the same before its last ReLU        output of ``block{k}``
    ===================================  ===============================

    Args:
        depth (int): Depth: 8, 11 or 13.
        out_indices (Sequence[int]): Stages that are returned, from 0 (``relu1``) to 3
            (``relu4``). Defaults to (3,).
        frozen_stages (int): Frozen stages: 0 is the stem, k the stem and the first k stages.
            Defaults to -1, none.
        norm_eval (bool): Whether every BN keeps its running statistics in training.
            Defaults to False.
        init_cfg (dict | list[dict], optional): Initialisation. Defaults to normal weights with
            the variance of Kaiming initialisation (fan-out), zero biases and identity BN.

    Raises:
        ValueError: If an argument is out of range.

    Examples:
        >>> model = CIFARVGG(depth=8)
        >>> [tuple(x.shape) for x in model(torch.rand(2, 3, 32, 32))]
        [(2, 512, 4, 4)]
    """

    stem_names = ('block0',)
    stage_names = ('block1', 'block2', 'block3', 'block4')

    def __init__(
        self,
        depth: int,
        out_indices: Sequence[int] = (3,),
        frozen_stages: int = -1,
        norm_eval: bool = False,
        init_cfg: dict | list[dict] | None = KAIMING_INIT,
    ) -> None:
        super().__init__(out_indices, frozen_stages, norm_eval, init_cfg)
        if depth not in [*CHANNELS]:
            raise ConfigError(f'depth={depth!r}: expected 8, 11 or 13')
        self.depth = depth
        in_channels = 3
        for index, channels in enumerate(CHANNELS[depth]):
            self.add_module(f'block{index}', _make_block(in_channels, channels))
            self.add_module(f'relu{index}', nn.ReLU())
            in_channels = channels[-1]
        self.pool = nn.MaxPool2d(2)
        self.freeze_stages()

    def stem(self, x: Tensor) -> Tensor:
        """Map the images to the input of the first pooling."""
        return self.relu0(self.block0(x))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Compute the feature maps of the stages in ``out_indices``.

        Args:
            x (Tensor): Images, (N, 3, H, W).

        Returns:
            tuple[Tensor, ...]: Feature maps, shallow to deep, (N, C_i, H / s_i, W / s_i) rounded
            down, with strides s_i of 2, 4, 8, 8, or 2, 4, 8, 16 if H is 64.
        """
        pooled_stages = range(4 if x.shape[2] == TALL else 3)
        x = self.stem(x)
        outputs = []
        for index, relu in enumerate((self.relu1, self.relu2, self.relu3, self.relu4)):
            x = self.pool(x) if index in pooled_stages else x
            x = relu(self.get_submodule(self.stage_names[index])(x))
            if index in self.out_indices:
                outputs.append(x)
        return tuple(outputs)


def _make_block(in_channels: int, channels: Sequence[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for out_channels in channels:
        conv = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        layers += [conv, nn.BatchNorm2d(out_channels), nn.ReLU()]
        in_channels = out_channels
    # The last ReLU is a module of the network, so that its input and its output can be tapped.
    return nn.Sequential(*layers[:-1])
