"""The review mechanism: ReviewConnector in training, then HCLLoss and its gradients."""

from __future__ import annotations

from torch import Tensor

from reviewkd_mm.models.connectors import ReviewConnector
from reviewkd_mm.models.losses import HCLLoss
from tests.golden.run import Golden

# Modules of an ABF by their names in its state dict.
MODULES = {
    'conv1.conv': 'conv1',
    'conv1.bn': 'bn1',
    'conv2.conv': 'conv2',
    'conv2.bn': 'bn2',
    'att_conv': 'att',
}


def golden_key(parameter: str) -> str:
    """Translate ``'abfs.0.conv1.bn.weight'`` into ``'stage0.bn1.weight'``."""
    _, stage, *module, kind = parameter.split('.')
    return f'stage{stage}.{MODULES[".".join(module)]}.{kind}'


def results(golden: Golden) -> dict[str, Tensor]:
    """Return outputs, loss and gradients of a chain of any length and any sizes."""
    stages = range(int(golden['n_stages']))
    connector = ReviewConnector(
        golden['in_channels'].tolist(),
        golden['out_channels'].tolist(),
        mid_channels=int(golden['mid_channels']),
    ).double()
    parameters = {golden_key(name): p for name, p in connector.named_parameters()}
    weights = {name: golden.tensor(golden_key(name)) for name, _ in connector.named_parameters()}
    connector.load_state_dict(connector.state_dict() | weights)

    student = {f'student{i}': golden.tensor(f'student{i}').requires_grad_() for i in stages}
    teacher = [golden.tensor(f'teacher{i}') for i in stages]
    outputs = connector([*student.values()], out_sizes=[t.shape[2:] for t in teacher])
    loss = HCLLoss()(outputs, teacher)
    loss.backward()
    grads = {f'grad.{key}': leaf.grad for key, leaf in (parameters | student).items()}
    return {'loss': loss, **{f'output{i}': x for i, x in enumerate(outputs)}, **grads}
