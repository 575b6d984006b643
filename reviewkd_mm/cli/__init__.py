"""What the command-line tools share."""

from reviewkd_mm.checks.before_training import check_before_training, name_lost_data
from reviewkd_mm.cli.arguments import add_trust_argument, parse_runner_args
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
    adapt_optim_wrapper,
    build_optim_wrapper,
    check_teacher,
    disable_validation,
    enable_amp,
    enable_auto_scale_lr,
    set_dataloaders,
    set_launcher,
    set_resume,
    set_work_dir,
)
from reviewkd_mm.cli.tta import enable_tta
from reviewkd_mm.files.safe_loading import guard_loading

__all__ = [
    'adapt_optim_wrapper',
    'add_trust_argument',
    'build_optim_wrapper',
    'check_before_training',
    'check_config',
    'check_teacher',
    'checks_as_records',
    'disable_validation',
    'enable_amp',
    'enable_auto_scale_lr',
    'enable_tta',
    'find_configs',
    'find_images',
    'guard_loading',
    'load_config',
    'name_drawings',
    'name_lost_data',
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
