"""Whether the channels of a tap's maps are on the axis that its layout says."""

from __future__ import annotations

from torch import Size

from reviewkd_mm.errors import ConfigError
from reviewkd_mm.models.recorders import BaseTap

# The axes of the sides, height and width, where a map of the other layout is read in this one.
MISREAD = dict(NCHW=(1, 2), NHWC=(1, 3))


def may_be_misread(tap: BaseTap) -> bool:
    """Tell whether the channels may be on another axis: the maps of a square image are square.

    Args:
        tap (BaseTap): A tap that holds the features of a square image.
    """
    one, other = MISREAD[tap.layout]
    return any(feature.shape[one] == feature.shape[other] for feature in _maps(tap))


def check_channel_axis(tap: BaseTap, twin: BaseTap) -> None:
    """Check that a tap's channels do not change with the image, as the sides of a map do.

    Args:
        tap (BaseTap): A tap that holds the features of a square image.
        twin (BaseTap): A copy of it that holds those of an image with other sides, or nothing
            where the model takes none.

    Raises:
        ValueError: If the channels are on another axis.
    """
    shapes = [feature.shape for feature in _maps(tap)]
    others = [feature.shape for feature in _maps(twin)] if twin.recorded else []
    if len(others) != len(shapes):
        others = shapes  # It tells nothing of them.
    for shape, other in zip(shapes, others, strict=True):
        if _sides(shape, other) == MISREAD[tap.layout]:
            raise ConfigError(_describe(tap, shape))


def _maps(tap: BaseTap) -> list:
    return [feature for feature in tap.features() if feature.dim() == 4]


def _sides(shape: Size, other: Size) -> tuple[int, ...]:
    """Return the axes that change with the image, or those of the same length if none does."""
    changed = tuple(axis for axis in (1, 2, 3) if shape[axis] != other[axis])
    lengths = list(shape[1:])
    same = (axis for axis in (1, 2, 3) if lengths.count(shape[axis]) == 2 and shape[axis] > 1)
    return changed or tuple(same)


def _describe(tap: BaseTap, shape: Size) -> str:
    if tap.layout == 'NHWC':
        batch, height, channels, width = shape
        return (
            f"layout='NHWC', but tap '{tap.source}' gives maps of the shape "
            f'{(batch, channels, width, height)}, channels first: leave it out'
        )
    return (
        f"tap '{tap.source}' gives maps of the shape {tuple(shape)}, channels last: expected "
        f"(N, C, H, W), or layout='NHWC', as in dict(type='{type(tap).__name__}', "
        f"source='{tap.source}', layout='NHWC')"
    )
