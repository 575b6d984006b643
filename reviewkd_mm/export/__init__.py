"""The student as an ordinary model: checkpoint with config, or ONNX file."""

from reviewkd_mm.export.export_student_hook import ExportStudentHook
from reviewkd_mm.export.student import export_student, student_config

__all__ = ['ExportStudentHook', 'export_student', 'student_config']
