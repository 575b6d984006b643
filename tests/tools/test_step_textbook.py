"""The textbook form of ABF and HCL computes what the package's own form does."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from reviewkd_mm.models.connectors import ReviewConnector
from reviewkd_mm.models.losses import HCLLoss
from tests.tools.step_benchmark import load

textbook = load('step_textbook')

CLASSIFIER = [(8, (8, 8)), (12, (4, 4)), (16, (2, 2)), (16, (1, 1))]
# Not square, and the teacher's maps are not of the student's sizes.
DETECTOR = [(8, (10, 7)), (8, (5, 4)), (8, (3, 2))]


def draw(shapes: list, seed: int, **kwargs: bool) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(3, c, *size, generator=generator).requires_grad_(**kwargs)
            for c, size in shapes]  # fmt: skip


@pytest.mark.parametrize('norm', ['BN', 'GN'])
@pytest.mark.parametrize(
    ('student', 'teacher'),
    [
        (CLASSIFIER, CLASSIFIER),
        (DETECTOR, [(4, (20, 14)), (8, (5, 4)), (12, (5, 4))]),
        (DETECTOR, [(4, (5, 4)), (4, (5, 4)), (8, (3, 2))]),
    ],
    ids=['classifier', 'larger teacher', 'smaller teacher'],
)
def test_values_and_gradients_are_those_of_the_package(student, teacher, norm):
    channels = [[c for c, _ in shapes] for shapes in (student, teacher)]
    norm_cfg = dict(type='GN', num_groups=4) if norm == 'GN' else None
    connector = ReviewConnector(*channels, mid_channels=8, norm_cfg=norm_cfg)
    form = textbook.TextbookReview(connector)
    sizes = [size for _, size in teacher]
    own_features, features = draw(student, 0), draw(student, 0)
    targets = draw(teacher, 1, requires_grad=False)

    expected = HCLLoss()(connector(own_features, sizes), targets)
    expected.backward()
    loss = textbook.textbook_hcl(form(features, sizes), targets)
    loss.backward()

    torch.testing.assert_close(loss, expected)
    for feature, own in zip(features, own_features, strict=True):
        torch.testing.assert_close(feature.grad, own.grad)
    for stage, abf in enumerate(connector.abfs):
        pairs = [(form.reduce[stage], abf.conv1), (form.expand[stage], abf.conv2)]
        for (conv, bn), module in pairs:
            torch.testing.assert_close(conv.weight.grad, module.conv.weight.grad)
            torch.testing.assert_close(bn.weight.grad, module.norm.weight.grad)
            torch.testing.assert_close(bn.bias.grad, module.norm.bias.grad)
    for conv, abf in zip(form.attend, connector.abfs, strict=False):
        torch.testing.assert_close(conv.weight.grad, abf.att_conv.weight.grad)
        torch.testing.assert_close(conv.bias.grad, abf.att_conv.bias.grad)


def test_levels_are_those_of_the_loss():
    student, teacher = draw(CLASSIFIER, 0), draw(CLASSIFIER, 1)
    expected = HCLLoss(levels=(2,))(student, teacher)
    torch.testing.assert_close(textbook.textbook_hcl(student, teacher, (2,)), expected)
    assert not torch.isclose(textbook.textbook_hcl(student, teacher), expected)


def test_the_weights_are_copies_in_the_default_layout():
    connector = ReviewConnector([4, 8], [4, 8]).to(memory_format=torch.channels_last)
    form = textbook.TextbookReview(connector)
    own = {parameter.data_ptr() for parameter in connector.parameters()}
    assert all(parameter.data_ptr() not in own for parameter in form.parameters())
    assert all(parameter.is_contiguous() for parameter in form.parameters())
    counts = [sum(p.numel() for p in module.parameters()) for module in (connector, form)]
    assert counts[0] == counts[1]
