"""What the machine is, in general terms, and whether it computes in bf16."""

from __future__ import annotations

import os
import platform
from functools import cache
from pathlib import Path

import torch

CPU_INFO = Path('/proc/cpuinfo')
FLAG_KEYS = ('flags', 'Features')  # On x86 and on Arm.
BF16_FLAGS = ('avx512_bf16', 'amx_bf16', 'bf16')
# What decides the speed of the operations here, by the flag that tells of it.
NOTABLE = {
    'avx2': 'AVX2',
    'avx512f': 'AVX-512',
    'avx512_bf16': 'AVX-512 bf16',
    'amx_bf16': 'AMX bf16',
    'asimd': 'NEON',
    'sve': 'SVE',
    'bf16': 'bf16',
}


@cache
def cpu_flags() -> frozenset[str]:
    """Return the flags of the CPU as Linux names them; none on another system."""
    if not CPU_INFO.is_file():
        return frozenset()
    for line in CPU_INFO.read_text().splitlines():
        key, _, value = line.partition(':')
        if key.strip() in FLAG_KEYS:
            return frozenset(value.split())
    return frozenset()


def has_bf16(device: str) -> bool:
    """Return whether rows in bf16 are measured: on every GPU, and on a CPU with instructions.

    Args:
        device (str): ``'cpu'`` or ``'cuda'``.
    """
    return device == 'cuda' or not cpu_flags().isdisjoint(BF16_FLAGS)


def describe_machine(device: str) -> dict[str, str | int]:
    """Describe the machine so that another one can be compared with it.

    Args:
        device (str): ``'cpu'`` or ``'cuda'``.

    Returns:
        dict: Processor, cores, threads, torch, and on CUDA the GPU.
    """
    flags = cpu_flags()
    names = [platform.machine().replace('_', '-'), *(n for f, n in NOTABLE.items() if f in flags)]
    machine = dict(
        processor=', '.join(names),
        cores=os.cpu_count(),
        threads=torch.get_num_threads(),
        torch=torch.__version__,
    )
    if device == 'cuda':
        machine['gpu'] = torch.cuda.get_device_name()
    return machine
