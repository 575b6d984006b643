"""ReviewConnector and HCLLoss against golden tensors: outputs, loss and every gradient."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from reviewkd_mm.models.connectors import ReviewConnector
from reviewkd_mm.models.losses import HCLLoss
from tests.models.connectors.textbook import GOLDEN, state_dict_name

# Chains from the authors' code lie beside a checkout where they are at hand.
AUTHORS = Path(__file__).resolve().parents[4] / 'shared' / 'fixtures'
CHAINS = [GOLDEN, AUTHORS / 'review_chain_cifar.npz', AUTHORS / 'review_chain_fpn.npz']


def relative_error(value: Tensor, expected: np.ndarray) -> float:
    expected = torch.as_tensor(expected, dtype=torch.float64)
    return float((value.detach().double() - expected).norm() / expected.norm())


def is_weight(name: str) -> bool:
    return name.startswith('stage')


@pytest.mark.parametrize('path', CHAINS, ids=lambda path: path.stem)
@pytest.mark.parametrize(
    ('dtype', 'tolerance', 'grad_tolerance'),
    [(torch.float64, 1e-9, 1e-9), (torch.float32, 1e-5, 1e-4)],
    ids=['float64', 'float32'],
)
def test_golden_chain(path, dtype, tolerance, grad_tolerance):
    if not path.is_file():
        pytest.skip(f'there is no {path}')
    golden = np.load(path)
    stages = range(int(golden['n_stages']))
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

    student = [torch.tensor(golden[f'student{i}'], dtype=dtype) for i in stages]
    teacher = [torch.tensor(golden[f'teacher{i}'], dtype=dtype) for i in stages]
    leaves = weights | {f'student{i}': x.requires_grad_() for i, x in enumerate(student)}
    outputs = connector(student, out_sizes=[tuple(t.shape[2:]) for t in teacher])
    loss = HCLLoss()(outputs, teacher)
    loss.backward()

    assert loss.dtype == dtype
    results = {'loss': loss} | {f'output{i}': x for i, x in enumerate(outputs)}
    errors = {name: relative_error(value, golden[name]) for name, value in results.items()}
    assert {k: e for k, e in errors.items() if not e <= tolerance} == {}

    grads = {f'grad.{name}': leaf.grad for name, leaf in leaves.items()}
    assert grads.keys() == {name for name in golden if name.startswith('grad.')}
    errors = {name: relative_error(grad, golden[name]) for name, grad in grads.items()}
    assert {k: e for k, e in errors.items() if not e <= grad_tolerance} == {}
