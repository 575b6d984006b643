"""What is read of samples, and what is said when it is not there."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.dataset import BaseDataset
from mmpretrain.datasets.transforms import PackInputs
from mmpretrain.models.utils import ClsDataPreprocessor
from mmpretrain.structures import DataSample

from reviewkd_mm.models.losses.samples import OneLabelCheck, class_labels, sample_indices
from tests.models.losses.drawing import samples


def test_labels_and_indices_of_samples():
    given = samples([3, 1, 2], [7, 0, np.int64(5)])
    x = torch.zeros(3, 4)

    assert class_labels(given, x).tolist() == [3, 1, 2]
    assert sample_indices(given, x, 8).tolist() == [7, 0, 5]


def test_both_come_out_of_the_libraries_data_sets_and_preprocessor():
    class Images(BaseDataset):
        def load_data_list(self) -> list[dict]:
            return [dict(img=np.zeros((4, 4, 3), np.uint8), gt_label=i % 2) for i in range(6)]

    dataset = Images(pipeline=[PackInputs()], serialize_data=False)
    picked = [dataset[index] for index in (4, 1, 5)]
    batch = dict(
        inputs=[item['inputs'] for item in picked],
        data_samples=[item['data_samples'] for item in picked],
    )
    batch = ClsDataPreprocessor()(batch, training=True)

    assert class_labels(batch['data_samples'], batch['inputs']).tolist() == [0, 1, 1]
    assert sample_indices(batch['data_samples'], batch['inputs'], 6).tolist() == [4, 1, 5]


@pytest.mark.parametrize('given', [None, samples([0])])
def test_there_is_a_sample_of_each_image(given):
    x = torch.zeros(2, 4)
    with pytest.raises(ValueError, match='a data sample of each of 2 images, got'):
        class_labels(given, x)
    with pytest.raises(ValueError, match='a data sample of each of 2 images, got'):
        sample_indices(given, x, 8)


@pytest.mark.parametrize('sample', [DataSample(), DataSample().set_gt_label([0, 1])])
def test_a_label_that_is_missing_or_not_one(sample):
    with pytest.raises(ValueError, match=r'gt_label=.*expected one class an image'):
        class_labels([sample], torch.zeros(1, 4))


def test_mixed_labels_are_refused():
    batch = dict(inputs=list(torch.zeros(2, 3, 4, 4)), data_samples=samples([0, 1]))
    mixing = ClsDataPreprocessor(
        num_classes=2, batch_augments=dict(augments=[dict(type='Mixup', alpha=0.8)])
    )
    mixed = mixing(batch, training=True)['data_samples']
    with pytest.raises(ValueError, match='gt_score'):
        class_labels(mixed, torch.zeros(2, 4))


def test_an_index_that_is_missing():
    with pytest.raises(ValueError, match=r"sample_idx=None.*'sample_idx' to the meta_keys"):
        sample_indices(samples([0]), torch.zeros(1, 4), 8)


@pytest.mark.parametrize('index', [8, -1])
def test_an_index_beyond_the_data_set(index):
    with pytest.raises(ValueError, match=f'sample_idx={index}, but num_samples=8'):
        sample_indices(samples([0], [index]), torch.zeros(1, 4), 8)


def multi_hot(*classes: int) -> torch.Tensor:
    return torch.nn.functional.one_hot(torch.tensor(classes), 4).sum(0).float()


@pytest.mark.parametrize('labels', [[], [0, 2]])
def test_an_image_of_several_labels_or_none_is_found_in_any_step(labels):
    check = OneLabelCheck()
    check(samples([0, 1]))
    with pytest.raises(ValueError, match=f'an image has {len(labels)} labels'):
        check([*samples([0, 1]), DataSample().set_gt_label(torch.tensor(labels).long())])


def test_labels_that_are_scores_alone_are_read_once():
    good, bad = (DataSample().set_gt_score(multi_hot(*classes)) for classes in ([1], [0, 2]))
    with pytest.raises(ValueError, match=r'an image has 2\.0 labels'):
        OneLabelCheck()([good, bad])
    check = OneLabelCheck()
    check([good])
    check([bad])  # To read it a GPU would have to be waited for.


def test_mixed_labels_are_those_of_one_image():
    data = dict(inputs=list(torch.zeros(2, 3, 4, 4)), data_samples=samples([0, 1]))
    mixing = ClsDataPreprocessor(
        num_classes=2, batch_augments=dict(augments=[dict(type='Mixup', alpha=0.8)])
    )
    OneLabelCheck()(mixing(data, training=True)['data_samples'])
    OneLabelCheck()([DataSample().set_gt_score(torch.tensor([0.3, 0.7]))])


@pytest.mark.parametrize(
    'given',
    [None, torch.zeros(2), [torch.zeros(2)], [DataSample()], [DetDataSample()]],
    ids=['none', 'tensor', 'tensors', 'classification', 'detection'],
)
def test_samples_without_labels_of_images_pass(given):
    OneLabelCheck()(given)
