"""The table of trainings beside published numbers."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path

import pytest

from reviewkd_mm.runs import read_run
from reviewkd_mm.runs.published import Listed, find_listed, read_metafiles
from reviewkd_mm.runs.table import make_rows, to_csv, to_markdown, to_records
from tests.runs.logs import config, epochs, train, val, write_run

METAFILE = """
Models:
  - Name: pair
    Config: configs/methods/pair.py
    Metadata:
      Teacher: Big
      Student: Small
      Metric: Top 1 Accuracy
      Published: 71.5
      Published Source: A paper (2020)
  - Name: plain
    Config: configs/methods/plain.py
    Metadata: {Student: Small, Metric: Top 1 Accuracy}
"""


@pytest.fixture
def listed(tmp_path) -> list[Listed]:
    """Write a folder of configs with a metafile, and read it."""
    folder = tmp_path / 'configs' / 'methods'
    folder.mkdir(parents=True)
    (folder / 'metafile.yml').write_text(METAFILE)
    for name in ('pair', 'plain'):
        (folder / f'{name}.py').write_text(config(seed=None))
    return read_metafiles([tmp_path / 'missing', tmp_path / 'configs'])


def rows_of(listed, *work_dirs: Path) -> list[dict]:
    return to_records(make_rows([read_run(folder) for folder in work_dirs], listed))


def test_a_complete_run_is_compared_with_its_published_number(tmp_path, listed):
    (row,) = rows_of(listed, write_run(tmp_path / 'x', epochs([60, 72, 70.5]), name='pair'))

    assert row == dict(
        config='pair',
        teacher='Big',
        student='Small',
        metric='Top 1 Accuracy',
        published=71.5,
        source='A paper (2020)',
        last=70.5,
        last_std=None,
        best=72.0,
        best_std=None,
        last_difference=-1.0,
        best_difference=0.5,
        done=3,
        total=3,
        unit='epoch',
        seeds='0',
        changed='',
        work_dirs=str(tmp_path / 'x'),
    )


def test_seeds_share_a_row_with_mean_and_deviation(tmp_path, listed):
    lasts, bests = {0: 70.0, 1: 71.0, 2: 75.0}, {0: 72.0, 1: 71.0, 2: 75.0}
    folders = [
        write_run(tmp_path / f's{seed}', epochs([1, bests[seed], last]), config(seed=seed), 'pair')
        for seed, last in lasts.items()
    ]
    (row,) = rows_of(listed, *folders)

    assert row['seeds'] == '0, 1, 2'
    assert row['last'] == pytest.approx(72.0)
    # Deviations from 72: -2, -1, 3; (4 + 1 + 9) / 2 = 7.
    assert row['last_std'] == pytest.approx(math.sqrt(7))
    assert row['best'] == pytest.approx(218 / 3)
    assert row['last_difference'] == pytest.approx(0.5)
    text = to_markdown(make_rows([read_run(folder) for folder in folders], listed))
    assert '| 72.00 ± 2.65 |' in text
    assert '71.50 [1]' in text
    assert '- [1] A paper (2020)' in text


def test_of_two_runs_of_a_seed_the_later_counts(tmp_path, listed):
    old, new = (
        write_run(tmp_path / name, epochs([1, 2, last])) for name, last in (('a', 3), ('b', 4))
    )
    for folder in (old, new):
        (folder / f'{folder.name}.py').rename(folder / 'pair.py')
    (new / '20260101_000000').rename(new / '20260101_000009')
    runs = [read_run(new), read_run(old)]
    (row,) = to_records(make_rows(runs, listed))

    assert (row['last'], row['last_std']) == (4.0, None)
    assert str(old) in runs[0].problems[-1]


@pytest.mark.parametrize(
    ('text', 'values', 'changed'),
    [
        (config(epochs=2), [60, 70], 'train_cfg.max_epochs'),
        (config(epochs=3), [60, 70], ''),
        (config(transfers=('other',)), [60, 70, 71], 'model.transfers'),
        (config(more='param_scheduler = dict(gamma=0.5)'), [60, 70, 71], 'param_scheduler.gamma'),
    ],
    ids=['shorter', 'not complete', 'another model', 'another schedule'],
)
def test_another_schedule_has_no_difference(tmp_path, listed, text, values, changed):
    (row,) = rows_of(listed, write_run(tmp_path / 'x', epochs(values), text, 'pair'))

    assert row['published'] == 71.5
    assert row['last'] == values[-1]
    assert row['last_difference'] is None
    assert row['best_difference'] is None
    assert row['changed'].startswith(changed)
    assert bool(row['changed']) is bool(changed)


def test_places_and_speed_do_not_matter(tmp_path, listed):
    more = "optim_wrapper = dict(type='reviewkd_mm.AmpOptimWrapper', loss_scale='dynamic')\n"
    more += "train_dataloader = dict(num_workers=8, dataset=dict(data_root='/elsewhere'))"
    (row,) = rows_of(
        listed, write_run(tmp_path / 'x', epochs([1, 2, 73]), config(more=more), 'pair')
    )

    assert row['last_difference'] == 1.5


def test_a_short_config_has_no_difference(tmp_path, listed):
    entry = Listed('pair_short', tmp_path / 'configs' / 'methods' / 'pair.py', 'Top 1 Accuracy')
    entry = Listed(**{**vars(entry), 'published': 71.5})
    work_dir = write_run(tmp_path / 'x', epochs([1, 2, 3]), name='pair_short')
    (entry.config.parent / 'pair_short.py').write_text(config())
    entry = Listed(**{**vars(entry), 'config': entry.config.parent / 'pair_short.py'})
    (row,) = rows_of([entry], work_dir)

    assert row['published'] == 71.5
    assert row['last_difference'] is None


def test_cells_are_empty_where_nothing_is_known(tmp_path, listed):
    running = write_run(tmp_path / 'a', [train(1, 10)], name='pair')
    plain = write_run(tmp_path / 'b', epochs([1, 2, 3]), name='plain')
    foreign = write_run(tmp_path / 'c', [train(1, 1), val(1, 0.7, 'r2')], name='own')
    pair, alone, own = rows_of(listed, running, plain, foreign)

    assert [pair[key] for key in ('last', 'best', 'last_difference', 'done')] == [None] * 3 + [0]
    assert [alone[key] for key in ('published', 'source', 'last_difference')] == [None] * 3
    assert alone['last'] == 3
    assert (own['metric'], own['last'], own['teacher']) == ('r2', 0.7, None)
    assert own['best'] is None, 'nobody knows which is the best of an unknown metric'


def test_a_run_without_a_config_is_nobodys(tmp_path, listed):
    work_dir = write_run(tmp_path / 'pair', epochs([1, 2, 3]), 'train_cfg = dict(', 'pair')
    (row,) = rows_of(listed, work_dir)

    assert (row['config'], row['last'], row['published'], row['total']) == ('pair', 3, None, None)


def test_box_ap_is_in_percent(tmp_path, listed):
    (row,) = rows_of(
        listed, write_run(tmp_path / 'd', [train(1, 1), val(1, 0.375, 'coco/bbox_mAP')])
    )

    assert (row['metric'], row['last']) == ('box AP', 37.5)


def test_configs_of_one_name_are_told_apart_by_their_models(tmp_path, listed):
    other = tmp_path / 'configs' / 'kd' / 'pair.py'
    other.parent.mkdir()
    other.write_text(config(transfers=('kd',)))
    both = [*listed, Listed('kd_pair', other, 'Top 1 Accuracy', published=70.0)]
    kd = read_run(write_run(tmp_path / 'a', [], config(transfers=('kd',)), 'pair'))
    review = read_run(write_run(tmp_path / 'b', [], config(epochs=9), 'pair'))
    neither = read_run(write_run(tmp_path / 'c', [], config(transfers=()), 'pair'))

    assert find_listed(kd, both).name == 'kd_pair'
    assert find_listed(review, both).name == 'pair'
    assert find_listed(neither, both) is None
    assert 'pair or kd_pair' in neither.problems[-1]


def test_csv_gives_back_what_was_written(tmp_path, listed):
    folder = write_run(tmp_path / 'a, "b" | c', epochs([1 / 3, 2, 70 / 3]), name='pair')
    rows = make_rows([read_run(folder)], listed)
    (read,) = csv.DictReader(io.StringIO(to_csv(rows)))
    (record,) = to_records(rows)

    assert read == {key: '' if value is None else str(value) for key, value in record.items()}
    assert float(read['last']) == 70 / 3
    assert read['work_dirs'] == str(folder)


def test_the_metafiles_of_the_package_can_be_read():
    listed = {entry.name: entry for entry in read_metafiles()}

    entry = listed['resnet56_resnet20_cifar100']
    assert entry.config.is_file()
    assert entry.published == 71.89  # LSKD, CVPR 2024, reprints it
    assert entry.source


def test_a_damaged_metafile_is_refused(tmp_path):
    (tmp_path / 'a').mkdir()
    (tmp_path / 'a' / 'metafile.yml').write_text('Models:\n  - Name: x\n')

    with pytest.raises(ValueError, match=r'metafile\.yml: expected a metafile'):
        read_metafiles([tmp_path])
