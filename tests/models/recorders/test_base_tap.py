"""What taps share: in-place ops, replaced modules, copies, checkpointing, gradients."""

from __future__ import annotations

import copy
import weakref

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint, set_checkpoint_early_stop

from reviewkd_mm.models.recorders import ModuleOutputs, Recorder
from tests.models.recorders.toys import Block, Classifier, Twice, images
from tests.numbers import assert_close64


def record(recorder: Recorder, model: nn.Module, x: Tensor) -> list[Tensor]:
    with recorder.recording(model):
        model(x)
    return recorder.features()


def keep_output(module: nn.Module) -> list[Tensor]:
    kept = []
    module.register_forward_hook(lambda module, args, output: kept.append(output))
    return kept


def test_without_in_place_ops_the_output_itself_is_recorded():
    model, recorder = Classifier(), Recorder('backbone.layer1')
    kept = keep_output(model.backbone.layer1)
    for _ in range(3):
        (feature,) = record(recorder, model, images())
        assert feature is kept[-1]


def test_gradients_of_the_first_forward_are_those_of_the_next():
    """With three users of a tensor the order in which their gradients are summed shows."""
    torch.manual_seed(0)
    model, recorder = Classifier(), Recorder('backbone.layer1')
    first, second = [], []
    for gradients in (first, second):
        model.zero_grad()
        (feature,) = record(recorder, model, images())
        loss = model(images()).square().sum() + sum(feature.sin().exp().sum() for _ in range(3))
        loss.backward()
        gradients += [p.grad.clone() for p in model.parameters()]
    assert all(map(torch.equal, first, second))


@pytest.mark.parametrize('training', [True, False])
def test_the_value_before_an_in_place_relu_is_kept(training):
    model = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.ReLU(inplace=True))
    model.train(training)
    recorder, kept = Recorder('1'), keep_output(model[1])
    for _ in range(3):
        (feature,) = record(recorder, model, images())
        assert feature.min() < 0
        assert kept[-1].min() == 0
        assert_close64(feature.relu(), kept[-1])


@pytest.mark.parametrize('call', ['all', 0])
def test_a_value_that_one_call_of_several_overwrites_is_kept(call):
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(4, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(self.conv(x).sin().relu_()) + self.conv(x).relu_()

    model, recorder = Shared(), Recorder(ModuleOutputs('conv', call=call))
    x = images()
    expected = [model.conv(x), model.conv(model.conv(x).sin().relu_()), model.conv(x)]
    for _ in range(3):
        assert_close64(record(recorder, model, x), expected if call == 'all' else expected[:1])


def test_modes_are_learned_apart():
    """In-place dropout acts in training only, whichever mode comes first."""
    model = nn.Sequential(nn.Conv2d(4, 4, 1), nn.Dropout(0.9, inplace=True))
    recorder, kept = Recorder('0'), keep_output(model[0])
    expected = model[0](images())
    for training in (False, True, False, True):
        model.train(training)
        (feature,) = record(recorder, model, images())
        assert_close64(feature, expected)
    assert record(recorder, model.eval(), images())[0] is kept[-1]


def test_an_in_place_op_that_acts_later_is_an_error():
    class Late(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(4, 4, 1)
            self.acts = False

        def forward(self, x: Tensor) -> Tensor:
            x = self.conv(x)
            return x.mul_(2) if self.acts else x

    model, recorder = Late(), Recorder('conv')
    record(recorder, model, images())
    model.acts = True
    with pytest.raises(RuntimeError, match="tap 'conv' was overwritten by an in-place op"):
        record(recorder, model, images())


def test_gradients_flow_through_what_is_recorded():
    model = Classifier(inplace=True)
    taps = ['backbone.layer1.0.bn', 'backbone.layer2']
    recorder = Recorder(taps)
    for _ in range(2):
        model.zero_grad()
        x = images().requires_grad_()
        for feature in record(recorder, model, x):
            feature.square().sum().backward(retain_graph=True)
        assert x.grad.any()
        assert all(p.grad is not None for p in model.backbone.parameters())


def test_a_replaced_module_is_hooked_and_the_old_one_no_more():
    model, recorder = Classifier().eval(), Recorder('backbone.layer1')
    record(recorder, model, images())
    old, model.backbone.layer1 = model.backbone.layer1, nn.Conv2d(4, 4, 1)
    (feature,) = record(recorder, model, images())
    assert_close64(feature, model.backbone.layer1(images()))
    assert not old._forward_hooks


def test_conversion_to_sync_bn_is_followed():
    model, recorder = Classifier().eval(), Recorder('backbone.layer1.-1.bn')
    (before,) = record(recorder, model, images())
    model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    assert isinstance(model.backbone.layer1[1].bn, nn.SyncBatchNorm)
    (after,) = record(recorder, model, images())
    assert_close64(after, before)


def test_another_module_is_learned_afresh():
    class Chain(nn.Module):
        def __init__(self, inplace: bool) -> None:
            super().__init__()
            self.conv, self.relu = nn.Conv2d(4, 4, 1), nn.ReLU(inplace)

        def forward(self, x: Tensor) -> Tensor:
            return self.relu(self.conv(x))

    recorder = Recorder('conv')
    record(recorder, Chain(inplace=False), images())
    (feature,) = record(recorder, Chain(inplace=True), images())
    assert feature.min() < 0


def test_a_copy_of_model_and_recorder_does_not_disturb_the_original():
    model, recorder = Classifier().eval(), Recorder('backbone.layer1')
    (original,) = record(recorder, model, images())
    recorder.attach(model)
    twin, twin_recorder = copy.deepcopy((model, recorder))
    assert not twin_recorder.recorded
    recorder.clear()
    twin(images(seed=1))
    assert not recorder.recorded
    (copied,) = record(twin_recorder, twin, images(seed=1))
    assert not recorder.recorded
    model(images())
    assert_close64(recorder.features(), [original])
    assert_close64(copied, twin.backbone.layer1(images(seed=1)))


def test_a_copy_records_all_calls_of_its_own_model():
    model, recorder = Twice(nn.Conv2d(4, 4, 1)), Recorder(ModuleOutputs('module', call='all'))
    recorder.attach(model)
    twin, twin_recorder = copy.deepcopy((model, recorder))
    assert len(record(twin_recorder, twin, images())) == 2
    assert not recorder.recorded


def test_a_copy_records_every_call_once():
    model, recorder = Classifier(), Recorder(ModuleOutputs('backbone.layer1', call=1))
    recorder.attach(model)
    twin, twin_recorder = copy.deepcopy((model, recorder))
    with pytest.raises(RuntimeError, match='called 1 times'):
        record(twin_recorder, twin, images())


@pytest.mark.parametrize('use_reentrant', [False, True])
@pytest.mark.parametrize('tap', ['stage', 'stage.conv'])
def test_recomputation_under_activation_checkpointing_is_ignored(tap, use_reentrant):
    class Checkpointed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.stage = nn.Conv2d(4, 4, 1), Block()

        def forward(self, x: Tensor) -> Tensor:
            return checkpoint(self.stage, self.stem(x), use_reentrant=use_reentrant)

    model, recorder = Checkpointed(), Recorder(tap)
    runs = keep_output(model.get_submodule(tap))
    with recorder.recording(model), set_checkpoint_early_stop(False):
        loss = model(images()).square().sum()
    (before,) = recorder.features()
    loss.backward()
    assert len(runs) == 2
    (after,) = recorder.features()
    assert after is before


def test_gradients_flow_through_non_reentrant_checkpointing():
    block, recorder = Block(), Recorder('relu')
    grads = []
    for run in (block, lambda x: checkpoint(block, x, use_reentrant=False)):
        block.zero_grad()
        with recorder.recording(block):
            run(images().requires_grad_())
        recorder.features()[0].square().sum().backward()
        grads.append([p.grad for p in block.parameters()])
    assert_close64(grads[1], grads[0])


@pytest.mark.parametrize(('call', 'held'), [(-1, 1), (-2, 2), (0, 1), (3, 1)])
@torch.no_grad()
def test_calls_that_are_not_asked_for_are_released(call, held):
    model, outputs = Twice(nn.Conv2d(4, 4, 1), calls=5), []
    model.module.register_forward_hook(lambda _, __, output: outputs.append(weakref.ref(output)))
    recorder = Recorder(ModuleOutputs('module', call=call))
    for _ in range(2):
        outputs.clear()
        record(recorder, model, images())
        assert sum(output() is not None for output in outputs) == held


@pytest.mark.parametrize(
    ('tap', 'frozen', 'expected'),
    [
        ('backbone.layer1', '', True),
        ('backbone.layer1.-1.relu', '', True),
        ('backbone.layer1', 'backbone.layer1', False),
        ('backbone.layer1.-1.relu', 'backbone.layer1.1', False),
        ('backbone.layer2.-1.relu', 'backbone.layer1', True),
    ],
)
def test_trainable_asks_the_nearest_module_with_parameters(tap, frozen, expected):
    model = Classifier()
    if frozen:
        model.get_submodule(frozen).requires_grad_(False)
    assert ModuleOutputs(tap).trainable(model) is expected


def test_a_model_without_parameters_does_not_train():
    assert ModuleOutputs('0').trainable(nn.Sequential(nn.ReLU())) is False
