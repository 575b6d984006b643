"""The pairs that the benchmark knows by name, and what one table measures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
CONFIGS = HERE.parents[1] / 'configs' / 'reviewkd'


@dataclass(frozen=True)
class Pair:
    """A distiller's config with the sizes at which it is measured.

    Args:
        name (str): What it is called.
        config (Path): The config file.
        image_size (int): Height and width of an image in pixels.
        batch_size (int): Images of a step.
    """

    name: str
    config: Path
    image_size: int
    batch_size: int


@dataclass(frozen=True)
class Job:
    """What one table measures.

    Args:
        pair (str): Name of the pair.
        config (str): Path of the distiller's config.
        image_size (int): Height and width of an image in pixels.
        batch_size (int): Images of a step, in each process.
        device (str): ``'cpu'`` or ``'cuda'``. Defaults to ``'cpu'``.
        threads (int, optional): Threads of torch in each process. Defaults to None, which means
            torch's choice.
        rounds (int): Rounds that count. Defaults to 5.
    """

    pair: str
    config: str
    image_size: int
    batch_size: int
    device: str = 'cpu'
    threads: int | None = None
    rounds: int = 5


PAIRS = {
    pair.name: pair
    for pair in (
        Pair('resnet56_resnet20', CONFIGS / 'resnet56_resnet20_cifar100.py', 32, 64),
        Pair('resnet32x4_resnet8x4', CONFIGS / 'resnet32x4_resnet8x4_cifar100.py', 32, 64),
        Pair('wrn40-2_wrn16-2', CONFIGS / 'wrn40-2_wrn16-2_cifar100.py', 32, 64),
        Pair('resnet34_resnet18', HERE / 'resnet34_resnet18.py', 224, 8),
        Pair('retinanet_r101_r50', CONFIGS / 'retinanet_r101_r50_coco.py', 416, 2),
        Pair('mask-rcnn_r101_r50', CONFIGS / 'mask-rcnn_r101_r50_coco.py', 416, 2),
    )
}


def own_pair(config: str) -> Pair:
    """Return the pair of a config that is none of :data:`PAIRS`.

    Args:
        config (str): Path of a distiller's config.
    """
    return Pair(Path(config).stem, Path(config), image_size=416, batch_size=2)
