"""MMCV's compiled ops without a compiler: a stand-in for ``mmcv._ext`` on torchvision.

Importing this module puts the stand-in in place where MMCV was installed without its compiled
ops, or with ops that were built for another torch; working compiled ops are left alone. It must
be imported before anything that imports ``mmcv.ops``, such as ``mmdet.models``; in a config:

    custom_imports = dict(imports=['reviewkd_mm.mmcv_ops'])

The stand-in has what RetinaNet, Faster R-CNN and Mask R-CNN need: nms, roi_align (average
pooling) and sigmoid_focal_loss, on every device that torchvision has its ops for. Any other op
can be imported from ``mmcv.ops`` and raises an error when it is called. The functions take the
arguments of the compiled ops and, like them, write into tensors that the caller allocates.
"""

from __future__ import annotations

import sys
import warnings
from functools import partial, reduce
from importlib import import_module
from importlib.abc import Loader
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import NoReturn

import mmcv
import torch
import torchvision  # noqa: F401  registers torch.ops.torchvision
from torch import Tensor
from torch.nn import functional as F

from reviewkd_mm.errors import RunError

EXT_NAME = 'mmcv._ext'
HOW_TO_COMPILE = (
    'To get all of them, compile MMCV for this torch: pip install --no-deps --no-cache-dir '
    '--no-build-isolation --force-reinstall onedl-mmcv (this takes a C++17 compiler, nvcc for '
    'CUDA, and a torch older than 2.13)'
)
MAX_POOLING = 0  # mmcv.ops.roi_align's number for pool_mode='max'


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """Greedy non-maximum suppression.

    Args:
        boxes (Tensor): (N, 4), as (x1, y1, x2, y2) in pixels.
        scores (Tensor): (N,).
        iou_threshold (float): A box goes if its IoU with a better one is above this.
        offset (int): 0 or 1; a box is (x2 - x1 + offset) wide.

    Returns:
        Tensor: int64, the indices of the boxes that stay, best score first.
    """
    dtype = _working_dtype(boxes, scores)
    if offset:
        # Moving the far corner by the offset adds it to every width, that of the overlap too.
        boxes = boxes + boxes.new_tensor([0, 0, offset, offset])
    return torch.ops.torchvision.nms(boxes.to(dtype), scores.to(dtype), iou_threshold)


def roi_align_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """RoIAlign, from "Mask R-CNN" (He et al., ICCV 2017), with average pooling.

    Args:
        input (Tensor): (N, C, H, W).
        rois (Tensor): (K, 5), as (image index, x1, y1, x2, y2) in pixels of the image.
        output (Tensor): (K, C, aligned_height, aligned_width), written.
        argmax_y (Tensor): Unused; max pooling's.
        argmax_x (Tensor): Unused; max pooling's.
        aligned_height (int): Bins along y.
        aligned_width (int): Bins along x.
        spatial_scale (float): Feature pixels per image pixel.
        sampling_ratio (int): Samples per bin along each axis; 0 for as many as the bin has
            feature pixels, rounded up.
        pool_mode (int): 1, average.
        aligned (bool): Whether a pixel's value is at its centre, half a pixel from its corner.

    Raises:
        RuntimeError: For ``pool_mode`` 0, max.
    """
    _refuse_max_pooling(pool_mode)
    dtype = _working_dtype(input)
    bins = torch.ops.torchvision.roi_align(
        input.to(dtype),
        rois.to(dtype),
        spatial_scale,
        aligned_height,
        aligned_width,
        sampling_ratio,
        aligned,
    )
    output.copy_(bins)


def roi_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    grad_input: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Gradient of RoIAlign with respect to its input.

    Args:
        grad_output (Tensor): (K, C, aligned_height, aligned_width).
        rois (Tensor): (K, 5), as in :func:`roi_align_forward`.
        argmax_y (Tensor): Unused; max pooling's.
        argmax_x (Tensor): Unused; max pooling's.
        grad_input (Tensor): (N, C, H, W), added to.
        aligned_height (int): Bins along y.
        aligned_width (int): Bins along x.
        spatial_scale (float): Feature pixels per image pixel.
        sampling_ratio (int): As in :func:`roi_align_forward`.
        pool_mode (int): 1, average.
        aligned (bool): As in :func:`roi_align_forward`.

    Raises:
        RuntimeError: For ``pool_mode`` 0, max.
    """
    _refuse_max_pooling(pool_mode)
    dtype = _working_dtype(grad_output)
    grad = torch.ops.torchvision._roi_align_backward(
        grad_output.to(dtype),
        rois.to(dtype),
        spatial_scale,
        aligned_height,
        aligned_width,
        *grad_input.shape,
        sampling_ratio,
        aligned,
    )
    grad_input.add_(grad)


def sigmoid_focal_loss_forward(
    input: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float, alpha: float
) -> None:
    """Focal loss of sigmoid logits, "Focal Loss for Dense Object Detection" (ICCV 2017), eq. 5.

    Args:
        input (Tensor): Logits, (N, C).
        target (Tensor): int64 class indices, (N,); any number outside 0 ... C - 1, such as C,
            is background.
        weight (Tensor): One weight per class, (C,), that multiplies the rows of that class
            (background rows count 1); empty for none.
        output (Tensor): (N, C), written.
        gamma (float): Focusing parameter.
        alpha (float): Weight of the positive terms; the negative ones have 1 - alpha.
    """
    logits, _, factor = _focal_terms(input, target, weight, alpha)
    output.copy_(-factor * torch.sigmoid(-logits).pow(gamma) * F.logsigmoid(logits))


def sigmoid_focal_loss_backward(
    input: Tensor, target: Tensor, weight: Tensor, grad_input: Tensor, gamma: float, alpha: float
) -> None:
    """Derivative of :func:`sigmoid_focal_loss_forward`'s output by its own logit.

    Args:
        input (Tensor): Logits, (N, C).
        target (Tensor): int64 class indices, (N,).
        weight (Tensor): One weight per class, (C,), or empty.
        grad_input (Tensor): (N, C), written.
        gamma (float): Focusing parameter.
        alpha (float): Weight of the positive terms.
    """
    logits, sign, factor = _focal_terms(input, target, weight, alpha)
    miss = torch.sigmoid(-logits)
    slope = miss - gamma * torch.sigmoid(logits) * F.logsigmoid(logits)
    grad_input.copy_(-sign * factor * miss.pow(gamma) * slope)


def get_compiler_version() -> str:
    """Return what environment reports show as MMCV's compiler."""
    return 'not compiled'


def get_compiling_cuda_version() -> str:
    """Return what environment reports show as the CUDA version that MMCV was compiled with."""
    return 'not compiled'


class StandIn(ModuleType):
    """The module that takes the place of ``mmcv._ext``.

    Every name is an op, since ``mmcv.ops`` asks for all of its ops on import; those that are not
    provided raise a RuntimeError when they are called.
    """

    def __init__(self) -> None:
        super().__init__(EXT_NAME, 'MMCV ops on torchvision.')
        # MMEngine looks for the extension with importlib.util.find_spec, which needs a spec, or
        # before 0.10.9 with pkgutil.find_loader, which needs the loader in it.
        self.__spec__ = ModuleSpec(EXT_NAME, loader=Loader(), origin=__name__)
        for op in PROVIDED_OPS:
            setattr(self, op.__name__, op)

    def __getattr__(self, name: str) -> partial[NoReturn]:
        # The import system probes for names such as __path__, which must stay absent.
        if name.startswith('_'):
            raise AttributeError(f'module {EXT_NAME!r} has no attribute {name!r}')
        return partial(_raise_not_provided, name)


def install() -> ModuleType:
    """Put the stand-in in place of ``mmcv._ext`` unless working compiled ops are there.

    Calling it again changes nothing. The check runs nms on the CPU.

    Returns:
        ModuleType: The ``mmcv._ext`` in use, compiled or stand-in.
    """
    error = _probe()
    if error is None:
        return sys.modules[EXT_NAME]
    if not (isinstance(error, ModuleNotFoundError) and error.name == EXT_NAME):
        warnings.warn(
            f"MMCV's compiled ops do not work with torch {torch.__version__} "
            f"({type(error).__name__}: {error}); torchvision's nms and roi_align stand in for "
            f'them. {HOW_TO_COMPILE}',
            stacklevel=2,
        )
    stand_in = StandIn()
    sys.modules[EXT_NAME] = mmcv._ext = stand_in
    _rebind_importers(stand_in)
    return stand_in


PROVIDED_OPS = (
    nms,
    roi_align_forward,
    roi_align_backward,
    sigmoid_focal_loss_forward,
    sigmoid_focal_loss_backward,
    get_compiler_version,
    get_compiling_cuda_version,
)


def _probe() -> Exception | None:
    """Return why ``mmcv._ext`` cannot be used, or None if nms works."""
    boxes = torch.tensor([[0.0, 0.0, 4.0, 4.0], [0.0, 0.0, 4.0, 4.0]])
    try:
        ext = import_module(EXT_NAME)
        kept = ext.nms(boxes, torch.tensor([0.9, 0.8]), iou_threshold=0.5, offset=0).tolist()
    except Exception as error:  # an extension built for another torch fails in many ways
        return error
    return None if kept == [0] else RuntimeError(f'nms kept {kept} of two equal boxes')


def _rebind_importers(ext: ModuleType) -> None:
    """Give ``ext`` to modules that were imported before it was in place.

    Modules of ``mmcv.ops`` keep the extension that they found, and MMDetection's data modules,
    which can be imported without any ops, keep functions that only raise. Without this it would
    matter whether a script imports MMDetection or reviewkd_mm first.
    """
    modules = list(sys.modules.items())
    for name, module in modules:
        if name.startswith('mmcv.ops.') and hasattr(module, 'ext_module'):
            module.ext_module = ext
    for name, module in modules:
        if not name.startswith('mmdet.'):
            continue
        for op in ('roi_align', 'batched_nms'):
            is_stub = getattr(getattr(module, op, None), '__module__', None) == name
            if is_stub:
                setattr(module, op, getattr(import_module('mmcv.ops'), op))


def _working_dtype(*tensors: Tensor) -> torch.dtype:
    """Return float64 if a tensor has it, else float32: half precision lacks kernels on a CPU."""
    return reduce(torch.promote_types, (tensor.dtype for tensor in tensors), torch.float32)


def _refuse_max_pooling(pool_mode: int) -> None:
    if pool_mode == MAX_POOLING:
        raise RunError(
            "MMCV op 'roi_align' with pool_mode='max' is one of MMCV's compiled ops, which are "
            f"missing here; pool_mode='avg' works without them. {HOW_TO_COMPILE}"
        )


def _raise_not_provided(name: str, *args: object, **kwargs: object) -> NoReturn:
    raise RunError(
        f"MMCV op '{name}' is one of MMCV's compiled ops, which are missing or were built for "
        f'another torch; here only nms, roi_align and sigmoid_focal_loss work. {HOW_TO_COMPILE}'
    )


def _focal_terms(
    logits: Tensor, target: Tensor, weight: Tensor, alpha: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the logits of being right, their sign against the given ones, and alpha_t * weight.

    The negative terms of the loss are the positive ones of the negated logit, so one formula
    serves both: -alpha_t * (1 - p_t)^gamma * log(p_t) with p_t = sigmoid(sign * logit).
    """
    logits = logits.to(_working_dtype(logits))
    num_classes = logits.size(1)
    classes = torch.arange(num_classes, device=logits.device)
    positive = (target[:, None] == classes).to(logits)
    sign = 2 * positive - 1
    factor = alpha * positive + (1 - alpha) * (1 - positive)
    if weight.numel():
        is_class = (target >= 0) & (target < num_classes)
        row_weight = torch.where(is_class, weight.to(logits)[target.clamp(0, num_classes - 1)], 1)
        factor = factor * row_weight[:, None]
    return sign * logits, sign, factor


install()
