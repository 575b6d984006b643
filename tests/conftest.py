"""Keep what runners leave behind in MMEngine's globals out of the next test."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from mmengine.logging import MessageHub
from mmengine.registry import DefaultScope

import reviewkd_mm  # noqa: F401  before a test file's import of mmdet, which needs MMCV's ops


@pytest.fixture(scope='session', autouse=True)
def _collect_no_imports() -> None:
    """A data set collects garbage as it is built, which what was imported is not."""
    gc.freeze()


@contextmanager
def _clean_mmengine() -> Iterator[None]:
    """Hide the default scopes and message hubs that earlier runners left, and forget new ones."""
    kept = [(kind, dict(kind._instance_dict)) for kind in (DefaultScope, MessageHub)]
    for kind, _ in kept:
        kind._instance_dict.clear()
    yield
    for kind, instances in kept:
        kind._instance_dict.clear()
        kind._instance_dict.update(instances)


@pytest.fixture(scope='module', autouse=True)
def _clean_mmengine_for_a_module() -> Iterator[None]:
    """Do so for the fixtures of a module, which come before those of a test."""
    with _clean_mmengine():
        yield


@pytest.fixture(autouse=True)
def _clean_mmengine_for_a_test() -> Iterator[None]:
    with _clean_mmengine():
        yield


@pytest.fixture
def in_float64() -> Iterator[None]:
    """Make tensors and modules in double precision, where a test compares results."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)
