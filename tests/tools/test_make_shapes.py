"""Tests of the tool that draws a data set of shapes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import mmcv

TOOL = Path(__file__).resolve().parents[2] / 'tools' / 'dataset_converters' / 'make_shapes.py'
SMALL = ('--num-train', '3', '--num-val', '2', '--image-size', '40', '56', '--seed', '7')


def start(folder: Path, *args: str) -> subprocess.CompletedProcess:
    """Run the tool as a user does, from another folder."""
    command = [sys.executable, str(TOOL), *args]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)


def test_a_data_set_from_the_command_line(tmp_path):
    done = start(tmp_path, 'data/shapes', *SMALL)

    assert done.returncode == 0, done.stderr
    assert 'data/shapes: 3 + 2 images of 40x56' in done.stdout
    folder = tmp_path / 'data' / 'shapes'
    for split, number in (('train', 3), ('val', 2)):
        content = json.loads((folder / 'annotations' / f'instances_{split}.json').read_text())
        assert len(content['images']) == number
        assert content['info']['settings']['seed'] == 7
        for image in content['images']:
            assert mmcv.imread(str(folder / split / image['file_name'])).shape == (40, 56, 3)


def test_a_refusal_is_one_line(tmp_path):
    done = start(tmp_path, 'shapes', *SMALL, '--num-val', '0')

    assert done.returncode == 1
    assert 'error: write_shapes: num_val=0: expected at least 1' in done.stderr
    assert 'Traceback' not in done.stderr
