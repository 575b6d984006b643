"""Recorders: read features out of a running model, by module path, through hooks."""

from reviewkd_mm.models.recorders.base_tap import BaseTap
from reviewkd_mm.models.recorders.module_inputs import ModuleInputs
from reviewkd_mm.models.recorders.module_outputs import ModuleOutputs
from reviewkd_mm.models.recorders.module_path import find_module
from reviewkd_mm.models.recorders.recorder import Recorder

__all__ = ['BaseTap', 'ModuleInputs', 'ModuleOutputs', 'Recorder', 'find_module']
