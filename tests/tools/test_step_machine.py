"""What the benchmark says of the machine."""

from __future__ import annotations

import os
import platform

import pytest
import torch

from tests.tools.step_benchmark import load

machine = load('step_machine')


@pytest.fixture
def cpu(monkeypatch, tmp_path):
    """Pretend that the CPU has given flags."""

    def pretend(line: str) -> None:
        file = tmp_path / 'cpuinfo'
        file.write_text(f'processor\t: 0\nmodel name\t: some CPU\n{line}\nbogomips\t: 1\n')
        monkeypatch.setattr(machine, 'CPU_INFO', file)
        machine.cpu_flags.cache_clear()

    yield pretend
    machine.cpu_flags.cache_clear()


@pytest.mark.parametrize(
    ('line', 'expected'),
    [
        ('flags\t\t: fpu avx2 avx512f avx512_bf16', True),
        ('flags\t\t: fpu avx2 amx_bf16 amx_tile', True),
        ('flags\t\t: fpu avx2 avx512f', False),
        ('Features\t: fp asimd bf16', True),
        ('Features\t: fp asimd', False),
    ],
)
def test_bf16_is_told_by_the_flags(cpu, line, expected):
    cpu(line)
    assert machine.has_bf16('cpu') is expected
    assert machine.has_bf16('cuda')


def test_a_system_without_flags_has_no_bf16(cpu, monkeypatch, tmp_path):
    cpu('flags : avx512_bf16')
    monkeypatch.setattr(machine, 'CPU_INFO', tmp_path / 'missing')
    assert not machine.has_bf16('cpu')


def test_the_machine_in_general_terms(cpu, monkeypatch):
    monkeypatch.setattr(platform, 'machine', lambda: 'x86_64')
    cpu('flags\t\t: fpu avx2 avx512f amx_bf16 hypervisor')
    assert machine.describe_machine('cpu') == dict(
        processor='x86-64, AVX2, AVX-512, AMX bf16',
        cores=os.cpu_count(),
        threads=torch.get_num_threads(),
        torch=torch.__version__,
    )


def test_a_gpu_is_named(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'get_device_name', lambda: 'a GPU')
    assert machine.describe_machine('cuda')['gpu'] == 'a GPU'
