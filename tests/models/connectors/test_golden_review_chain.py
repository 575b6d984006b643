"""ReviewConnector and HCLLoss against golden tensors: outputs, loss and every gradient."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from reviewkd_mm.models.connectors import ReviewConnector
from reviewkd_mm.models.losses import HCLLoss
from tests.models.connectors.textbook import GOLDEN, review, state_dict_name
from tests.models.losses.textbook import hcl
from tests.numbers import assert_close64, assert_within_rounding

# Chains from the authors' code lie beside a checkout where they are at hand.
AUTHORS = Path(__file__).resolve().parents[4] / 'shared' / 'fixtures'
CHAINS = [GOLDEN, AUTHORS / 'review_chain_cifar.npz', AUTHORS / 'review_chain_fpn.npz']


Golden = Mapping[str, np.ndarray]
Results = dict[str, Tensor]


def is_weight(name: str) -> bool:
    return name.startswith('stage')


def tensors(golden: Golden, start: str, dtype: torch.dtype) -> Results:
    return {n: torch.tensor(golden[n], dtype=dtype) for n in golden if n.startswith(start)}


def differentiate(leaves: Results, outputs: Sequence[Tensor], loss: Tensor) -> list[Results]:
    """Return the outputs with the loss, and the gradients, under their names in the file."""
    loss.backward()
    results = {'loss': loss} | {f'output{i}': x for i, x in enumerate(outputs)}
    return [results, {f'grad.{name}': leaf.grad for name, leaf in leaves.items()}]


def by_the_package(golden: Golden, dtype: torch.dtype) -> list[Results]:
    connector = ReviewConnector(
        golden['in_channels'].tolist(),
        golden['out_channels'].tolist(),
        mid_channels=int(golden['mid_channels']),
    ).to(dtype)
    parameters = dict(connector.named_parameters())
    weights = {name: parameters.pop(state_dict_name(name)) for name in filter(is_weight, golden)}
    assert not parameters
    for name, parameter in weights.items():
        assert parameter.shape == golden[name].shape
        parameter.data.copy_(torch.from_numpy(golden[name]))
    student, teacher = (tensors(golden, side, dtype) for side in ('student', 'teacher'))
    features = [x.requires_grad_() for x in student.values()]
    outputs = connector(features, out_sizes=[tuple(t.shape[2:]) for t in teacher.values()])
    loss = HCLLoss()(outputs, [*teacher.values()])
    assert loss.dtype == dtype
    return differentiate(weights | student, outputs, loss)


def by_the_textbook(golden: Golden, dtype: torch.dtype) -> list[Results]:
    weights, student, teacher = (
        tensors(golden, start, dtype) for start in ('stage', 'student', 'teacher')
    )
    leaves = {name: x.requires_grad_() for name, x in (weights | student).items()}
    sizes = [tuple(t.shape[2:]) for t in teacher.values()]
    outputs = review([*student.values()], sizes, weights)
    return differentiate(leaves, outputs, hcl(outputs, [*teacher.values()]))


@pytest.mark.parametrize('path', CHAINS, ids=lambda path: path.stem)
@pytest.mark.parametrize('dtype', [torch.float64, torch.float32])
def test_golden_chain(path, dtype):
    if not path.is_file():
        pytest.skip(f'there is no {path}')
    golden = np.load(path)

    found = by_the_package(golden, dtype)

    assert found[1].keys() == {name for name in golden if name.startswith('grad.')}
    expected = [{name: torch.from_numpy(golden[name]).double() for name in r} for r in found]
    if dtype == torch.float64:
        assert_close64(found, expected)
        return
    for triple in zip(found, by_the_textbook(golden, dtype), expected, strict=True):
        assert_within_rounding(*triple)
