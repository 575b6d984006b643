"""The fusion in one pass: equal to the textbook form, in half precision too, and with less."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import gradcheck
from torch.utils._python_dispatch import TorchDispatchMode

from reviewkd_mm.models.connectors import ABF
from reviewkd_mm.models.connectors.attention_fusion import attention_fusion
from tests.models.connectors.textbook import nearest_resize
from tests.numbers import assert_close64, assert_within_rounding

Fusion = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]

# (H, W) of the feature and of the residual.
SIZES = {
    'equal': ((6, 4), (6, 4)),
    'twice': ((6, 4), (3, 2)),
    'eight times': ((8, 8), (1, 1)),
    'other factors': ((6, 8), (3, 2)),
    'width alone': ((5, 6), (5, 2)),
    'uneven': ((5, 9), (3, 4)),
    'even in height alone': ((6, 9), (3, 4)),
    'larger residual': ((3, 4), (6, 8)),
    'higher and narrower residual': ((4, 6), (8, 3)),
    'one pixel': ((1, 1), (1, 1)),
}
FORMATS = (torch.contiguous_format, torch.channels_last)
HALF = (torch.bfloat16, torch.float16)


def composite(x: Tensor, residual: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """The textbook form."""
    residual = nearest_resize(residual, x.shape[-2:])
    maps = torch.sigmoid(F.conv2d(torch.cat([x, residual], dim=1), weight, bias))
    return x * maps[:, 0:1] + residual * maps[:, 1:2]


FUSIONS = (attention_fusion, composite)


def arguments(
    sizes: tuple[tuple[int, int], tuple[int, int]] = SIZES['twice'],
    channels: int = 4,
    dtype: torch.dtype = torch.float64,
    scale: float = 1.0,
    formats: tuple[torch.memory_format, torch.memory_format] = (FORMATS[1], FORMATS[1]),
) -> list[Tensor]:
    """Draw feature, residual, weight and bias, with logits of about 1 whatever the scale."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    maps = [
        (scale * draw(2, channels, *size)).to(dtype, memory_format=memory_format)
        for size, memory_format in zip(sizes, formats, strict=True)
    ]
    weight = draw(2, 2 * channels, 1, 1) / (2 * channels) ** 0.5 / scale
    tensors = [*maps, weight.to(dtype), draw(2).to(dtype)]
    return [tensor.requires_grad_() for tensor in tensors]


def upstream(output: Tensor, scale: float = 1.0) -> Tensor:
    """Draw a gradient of the output in its format."""
    generator = torch.Generator().manual_seed(1)
    gradient = torch.randn(output.shape, generator=generator, dtype=torch.float64)
    return torch.empty_like(output).copy_(scale * gradient)


def doubled(inputs: list[Tensor]) -> list[Tensor]:
    return [tensor.detach().double().requires_grad_() for tensor in inputs]


def run(fusion: Fusion, inputs: list[Tensor], scale: float = 1.0) -> list[Tensor]:
    """Return the output and the gradients of all inputs."""
    output = fusion(*inputs)
    gradients = torch.autograd.grad(output, inputs, upstream(output, scale))
    return [output.detach(), *gradients]


@pytest.mark.parametrize('sizes', SIZES.values(), ids=SIZES)
@pytest.mark.parametrize('of_x', FORMATS)
@pytest.mark.parametrize('of_residual', FORMATS)
def test_values_gradients_and_memory_formats_are_those_of_the_textbook(sizes, of_x, of_residual):
    inputs = arguments(sizes, formats=(of_x, of_residual))

    output, of_feature, *others = run(attention_fusion, inputs)

    assert_close64([output, of_feature, *others], run(composite, inputs), tolerance=1e-12)
    for tensor in (output, of_feature):
        assert tensor.is_contiguous(memory_format=of_x)


@pytest.mark.parametrize('sizes', SIZES.values(), ids=SIZES)
def test_single_precision_rounds_no_worse_than_the_textbook(sizes):
    inputs = arguments(sizes, dtype=torch.float32)

    actual, plain = (run(fusion, inputs) for fusion in FUSIONS)

    assert_within_rounding(actual, plain, run(composite, doubled(inputs)))


@pytest.mark.parametrize('sizes', [SIZES[name] for name in ('equal', 'twice', 'uneven')])
def test_a_gradient_that_is_one_number_for_all_pixels(sizes):
    inputs = arguments(sizes)
    gradients = [torch.autograd.grad(f(*inputs).sum(), inputs) for f in FUSIONS]

    assert_close64(*gradients, tolerance=1e-12)


@pytest.mark.parametrize('channels', [1, 3])
def test_other_numbers_of_channels(channels):
    inputs = arguments(channels=channels)

    assert_close64(*(run(f, inputs) for f in FUSIONS), tolerance=1e-12)


@pytest.mark.parametrize('size', [(4, 2), (3, 3), (5, 4)])
@pytest.mark.parametrize('residual_size', [(2, 1), (3, 3)])
def test_gradcheck(size, residual_size):
    assert gradcheck(attention_fusion, arguments((size, residual_size), channels=2))


@pytest.mark.parametrize('memory_format', FORMATS)
def test_the_gradient_of_the_weight_has_its_strides(memory_format):
    """DistributedDataParallel warns of others, even where only a dimension of size 1 differs."""
    x, residual, weight, bias = arguments()
    weight = weight.detach().to(memory_format=memory_format).requires_grad_()

    _, _, _, gradient, _ = run(attention_fusion, [x, residual, weight, bias])

    assert gradient.stride() == weight.stride()


@pytest.mark.parametrize('dtype', [torch.float64, torch.float32, *HALF])
@pytest.mark.parametrize('of_residual', [torch.float64, torch.float16])
def test_the_feature_says_in_which_dtype_is_fused(dtype, of_residual):
    x, residual, weight, bias = arguments()
    inputs = [x.detach().to(dtype), residual.detach().to(of_residual), weight, bias]
    inputs = [tensor.detach().requires_grad_() for tensor in inputs]

    output, *gradients = run(attention_fusion, inputs)

    assert output.dtype == dtype
    assert [g.dtype for g in gradients] == [t.dtype for t in inputs]


def run_under_autocast(
    fusion: Fusion, inputs: list[Tensor], dtype: torch.dtype, scale: float = 1.0
) -> list[Tensor]:
    """Do as ``run``, with the forward under autocast, as in a training."""
    with torch.autocast('cpu', dtype=dtype):
        output = fusion(*inputs)
    gradients = torch.autograd.grad(output, inputs, upstream(output, scale))
    return [output.detach(), *gradients]


UNDER_AUTOCAST = ('twice', 'eight times', 'uneven', 'larger residual')


@pytest.mark.parametrize('dtype', HALF)
@pytest.mark.parametrize('sizes', [SIZES[name] for name in UNDER_AUTOCAST], ids=UNDER_AUTOCAST)
def test_features_in_half_precision_under_autocast(dtype, sizes):
    """BatchNorm hands on half or single precision, depending on the device."""
    inputs = arguments(sizes, dtype=torch.float32)
    inputs[:2] = [tensor.detach().to(dtype).requires_grad_() for tensor in inputs[:2]]

    actual, plain = (run_under_autocast(fusion, inputs, dtype) for fusion in FUSIONS)

    assert [tensor.dtype for tensor in actual] == [dtype, *(x.dtype for x in inputs)]
    assert_within_rounding(actual, plain, run(composite, doubled(inputs)))


@pytest.mark.parametrize('autocast', HALF)
@pytest.mark.parametrize('sizes', [SIZES[name] for name in UNDER_AUTOCAST], ids=UNDER_AUTOCAST)
def test_large_features_in_single_precision_stay_so_under_autocast(autocast, sizes):
    """1e4 times a gradient of 10 is more than fp16 holds, and so is a sum over tiles."""
    inputs = arguments(sizes, channels=32, dtype=torch.float32, scale=1e4)

    actual = run_under_autocast(attention_fusion, inputs, autocast, scale=10.0)

    plain, exact = (run(composite, x, scale=10.0) for x in (inputs, doubled(inputs)))
    assert {tensor.dtype for tensor in actual} == {torch.float32}
    assert_within_rounding(actual, plain, exact)


def test_a_sum_over_channels_may_be_larger_than_fp16_holds():
    """Of 64 channels it is 1e5 here; what is kept of it, at most a quarter, fits again."""
    x, residual = torch.full((1, 64, 1, 1), 0.5), torch.full((1, 64, 1, 1), -0.5)
    inputs = [x.half(), residual.half(), torch.zeros(2, 128, 1, 1), torch.zeros(2)]
    inputs = [tensor.requires_grad_() for tensor in inputs]
    output = attention_fusion(*inputs)

    gradients = torch.autograd.grad(output, inputs, torch.full_like(output, 3124.0))

    assert all(gradient.isfinite().all() for gradient in gradients)
    assert gradients[3].tolist() == [64 * 0.5 * 3124 / 4, -64 * 0.5 * 3124 / 4]


@pytest.mark.parametrize('autocast', HALF)
def test_a_block_that_is_given_large_features_in_half_precision(autocast):
    """Its normalisation makes small ones of them, so that nothing changes.

    The loss is scaled, as it is in a training: of 1e-7 fp16 keeps a bit or two.
    """
    torch.manual_seed(0)
    abf = ABF(8, 6, 4)
    twin = copy.deepcopy(abf).double()
    x, residual = torch.randn(4, 8, 6, 6), torch.randn(4, 6, 3, 3)

    def gradients_of(block: ABF, feature: Tensor, residual: Tensor) -> Tensor:
        output, fused = block(feature, residual)
        loss = (output.to(residual) - 1).square().mean() + fused.to(residual).square().mean()
        gradients = torch.autograd.grad(2**12 * loss, [*block.parameters()])
        return torch.cat([gradient.flatten() for gradient in gradients])

    with torch.autocast('cpu', dtype=autocast):
        actual, plain = (gradients_of(abf, (f * x).to(autocast), residual) for f in (2**13, 1))

    assert_within_rounding(actual, plain, gradients_of(twin, x.double(), residual.double()))


@pytest.mark.parametrize('sizes', SIZES.values(), ids=SIZES)
def test_nothing_is_overwritten_and_a_second_backward_gives_the_same(sizes):
    inputs = arguments(sizes)
    copies = [tensor.detach().clone() for tensor in inputs]
    output = attention_fusion(*inputs)
    fused = output.detach().clone()
    gradient = upstream(output)

    first = torch.autograd.grad(output, inputs, gradient, retain_graph=True)
    kept = [tensor.clone() for tensor in first]
    second = torch.autograd.grad(output, inputs, gradient)

    assert torch.equal(gradient, upstream(output))
    assert torch.equal(output, fused)
    assert all(torch.equal(t, copy) for t, copy in zip(inputs, copies, strict=True))
    assert not any(tensor._version for tensor in inputs)
    for tensors in (first, second):
        assert all(torch.equal(a, b) for a, b in zip(tensors, kept, strict=True))


@pytest.mark.parametrize('frozen', [(1,), (0,), (2, 3), (0, 1)])
def test_parts_may_be_frozen(frozen):
    inputs = arguments()
    expected = run(attention_fusion, inputs)[1:]
    for index in frozen:
        inputs[index].requires_grad_(False)

    output = attention_fusion(*inputs)
    output.backward(upstream(output))

    for index, tensor in enumerate(inputs):
        if index in frozen:
            assert tensor.grad is None
        else:
            assert_close64(tensor.grad, expected[index])


def test_a_gradient_of_a_gradient_is_refused_and_not_wrong():
    inputs = arguments()
    (gradient,) = torch.autograd.grad(
        attention_fusion(*inputs).square().sum(), inputs[0], create_graph=True
    )

    with pytest.raises(RuntimeError, match='once_differentiable'):
        gradient.sum().backward()


class Made(TorchDispatchMode):
    """Keep what every operation makes: names, shapes and new memory."""

    def __init__(self, known: list[Tensor]) -> None:
        super().__init__()
        self.names: list[str] = []
        self.shapes: list[tuple[int, ...]] = []
        self._known = {t.untyped_storage().data_ptr() for t in known}
        # Kept alive, so that no memory is handed out twice.
        self.new: list[Tensor] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        self.names.append(str(func))
        for tensor in result if isinstance(result, (tuple, list)) else [result]:
            if not isinstance(tensor, Tensor):
                continue
            self.shapes.append(tuple(tensor.shape))
            memory = tensor.untyped_storage().data_ptr()
            if memory not in self._known:
                self._known.add(memory)
                self.new.append(tensor)
        return result

    def large(self, numel: int) -> int:
        """Count the new tensors of at least so many elements."""
        return sum(tensor.untyped_storage().nbytes() // 8 >= numel for tensor in self.new)


@pytest.mark.parametrize('sizes', [SIZES[n] for n in SIZES if n != 'one pixel'])
@pytest.mark.parametrize('memory_format', FORMATS)
def test_nothing_is_concatenated(sizes, memory_format):
    channels = 16
    inputs = arguments(sizes, channels, formats=(memory_format, memory_format))
    x = inputs[0]
    gradient = upstream(x)

    with Made([*inputs, gradient]) as made:
        torch.autograd.grad(attention_fusion(*inputs), inputs, gradient)

    full = tuple(x.shape[2:])
    assert (2, 2 * channels, *full) not in made.shapes
    assert made.large(2 * max(x.numel(), inputs[1].numel())) == 0


@pytest.mark.parametrize('name', ['twice', 'eight times', 'other factors', 'width alone'])
def test_one_tensor_of_the_features_size_each_way_where_tiles_are_even(name):
    inputs = arguments(SIZES[name], channels=16)
    gradient = upstream(inputs[0])

    with Made(inputs) as forward:
        output = attention_fusion(*inputs)
    with Made([*inputs, output, gradient]) as backward:
        torch.autograd.grad(output, inputs, gradient)

    # The result, and the one buffer in which the gradient is made.
    assert (forward.large(output.numel()), backward.large(output.numel())) == (1, 1)
    assert not any('upsample' in op or 'aten.cat' in op for op in forward.names)


def test_the_textbook_form_would_be_noticed():
    inputs = arguments(SIZES['twice'], channels=16)

    with Made(inputs) as made:
        composite(*inputs)

    assert (2, 32, 6, 4) in made.shapes
    assert made.large(inputs[0].numel()) > 1
