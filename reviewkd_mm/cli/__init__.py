"""What the command-line tools share."""

from reviewkd_mm.cli.arguments import parse_runner_args
from reviewkd_mm.cli.config import load_config
from reviewkd_mm.cli.config_check import check_config, find_configs
from reviewkd_mm.cli.config_report import (
    checks_as_records,
    render_check,
    status_of,
    summarise_checks,
)
from reviewkd_mm.cli.errors import readable_errors
from reviewkd_mm.cli.images import find_images, name_drawings
from reviewkd_mm.cli.training_options import (
    add_hooks,
    disable_validation,
    enable_amp,
    enable_auto_scale_lr,
    set_dataloaders,
    set_launcher,
    set_resume,
    set_work_dir,
)

__all__ = [
    'add_hooks',
    'check_config',
    'checks_as_records',
    'disable_validation',
    'enable_amp',
    'enable_auto_scale_lr',
    'find_configs',
    'find_images',
    'load_config',
    'name_drawings',
    'parse_runner_args',
    'readable_errors',
    'render_check',
    'set_dataloaders',
    'set_launcher',
    'set_resume',
    'set_work_dir',
    'status_of',
    'summarise_checks',
]
