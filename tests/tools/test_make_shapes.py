"""Tests of the tool that draws a data set of shapes."""

from __future__ import annotations

import json

import mmcv
import pytest

from tests.tools.in_process import run_tool

TOOL = 'dataset_converters/make_shapes.py'
SMALL = ('--num-train', '3', '--num-val', '2', '--image-size', '40', '56', '--seed', '7')


def test_a_data_set_from_the_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run_tool(TOOL, 'data/shapes', *SMALL)

    assert 'data/shapes: 3 + 2 images of 40x56' in capsys.readouterr().out
    folder = tmp_path / 'data' / 'shapes'
    for split, number in (('train', 3), ('val', 2)):
        content = json.loads((folder / 'annotations' / f'instances_{split}.json').read_text())
        assert len(content['images']) == number
        assert content['info']['settings']['seed'] == 7
        for image in content['images']:
            assert mmcv.imread(str(folder / split / image['file_name'])).shape == (40, 56, 3)


def test_a_refusal_is_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as caught:
        run_tool(TOOL, 'shapes', *SMALL, '--num-val', '0')

    assert str(caught.value).startswith('error: write_shapes: num_val=0: expected at least 1')
    assert '\n' not in str(caught.value)
