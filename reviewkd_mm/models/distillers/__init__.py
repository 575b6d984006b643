"""The distiller, the transfer and the frozen teacher."""

from reviewkd_mm.models.distillers.distiller import Distiller
from reviewkd_mm.models.distillers.teacher import FrozenTeacher
from reviewkd_mm.models.distillers.teacher_options import TeacherOptions
from reviewkd_mm.models.distillers.transfer import Transfer

__all__ = ['Distiller', 'FrozenTeacher', 'TeacherOptions', 'Transfer']
