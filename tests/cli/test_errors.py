"""Tests of readable errors: refusals become one message, bugs keep their traceback."""

from __future__ import annotations

import pytest
import torch

from reviewkd_mm.cli import readable_errors
from reviewkd_mm.datasets import CIFAR100
from reviewkd_mm.engine.optimizers import AmpOptimWrapper
from reviewkd_mm.utils import config_key


def message_of(caught: pytest.ExceptionInfo) -> str:
    assert isinstance(caught.value.code, str), 'a text makes Python print it and exit with 1'
    return caught.value.code


def test_a_refusal_of_the_package_is_one_message(tmp_path):
    with pytest.raises(SystemExit) as caught, readable_errors():
        CIFAR100(data_root=str(tmp_path / 'nowhere'))

    assert message_of(caught).startswith('error: CIFAR100: data_root=')


def test_a_refusal_that_a_library_wrapped(tmp_path):
    def build() -> None:
        try:
            CIFAR100(data_root=str(tmp_path))
        except Exception as error:
            raise type(error)(f'class `CIFAR100`: {error}')  # noqa: B904  (as MMEngine does)

    with pytest.raises(SystemExit) as caught, readable_errors():
        build()

    assert message_of(caught).startswith('error: CIFAR100: data_root=')


def test_a_refusal_with_a_config_key_before_it(tmp_path):
    net = torch.nn.Linear(1, 1)

    with pytest.raises(SystemExit) as caught, readable_errors(), config_key('optim_wrapper'):
        AmpOptimWrapper(optimizer=torch.optim.SGD(net.parameters(), lr=1), dtype='int8')

    assert message_of(caught).startswith("error: optim_wrapper: optim_wrapper.dtype='int8'")


def test_a_bug_with_a_config_key_before_it_keeps_its_traceback():
    with (
        pytest.raises(RuntimeError, match='transfers'),
        readable_errors(),
        config_key('transfers'),
    ):
        torch.ones(2) @ torch.ones(3)


def test_an_error_of_a_library_keeps_its_traceback():
    with pytest.raises(ValueError, match='invalid literal'), readable_errors():
        int('one')
    with pytest.raises(RuntimeError), readable_errors():
        torch.ones(2) @ torch.ones(3)


def test_an_operation_that_fails_inside_the_package_keeps_its_traceback():
    """The last frame is the package's own, but no ``raise`` stands there."""
    with pytest.raises(ImportError, match='no_such_module'), readable_errors():
        CIFAR100_import_error()


def CIFAR100_import_error() -> None:  # noqa: N802
    namespace: dict = {}
    filename = AmpOptimWrapper.__init__.__code__.co_filename
    code = compile('import no_such_module', filename, 'exec')
    exec(code, namespace)


def test_a_bug_in_the_callers_own_code_keeps_its_traceback():
    with pytest.raises(ValueError, match='mine'), readable_errors():
        raise ValueError('mine')


def test_nothing_happens_without_an_error():
    with readable_errors():
        pass
