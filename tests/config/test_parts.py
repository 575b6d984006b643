"""Parts of a config that several readers look for."""

from __future__ import annotations

from reviewkd_mm.config.parts import innermost_datasets


def test_datasets_inside_of_wrappers():
    one, two = dict(type='A', ann_file='a'), dict(type='B', ann_file='b')
    repeated = dict(type='RepeatDataset', times=2, dataset=one)
    both = dict(type='ConcatDataset', datasets=[repeated, two])

    assert dict(innermost_datasets(both)) == {
        'dataset.datasets.0.dataset': one,
        'dataset.datasets.1': two,
    }
