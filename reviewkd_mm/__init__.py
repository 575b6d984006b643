"""reviewkd_mm: knowledge distillation by knowledge review on MMEngine."""

from reviewkd_mm.version import __version__
from reviewkd_mm.version_check import check_environment

check_environment()  # before anything that an unsupported version would break

from mmengine.config.utils import MODULE2PACKAGE  # noqa: E402

from reviewkd_mm import mmcv_ops  # noqa: E402, F401  before any import of mmdet.models

# MMEngine resolves `_base_ = 'reviewkd_mm::...'` only for the packages that it has in this table.
MODULE2PACKAGE.setdefault('reviewkd_mm', 'reviewkd_mm')
# MMEngine looks for MMSegmentation under the name that OpenMMLab's distribution has; the module's
# name finds onedl-mmsegmentation as well.
MODULE2PACKAGE['mmseg'] = 'mmseg'

__all__ = ['__version__']
