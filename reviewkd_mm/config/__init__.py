"""Configs: reading them, their setting ``coco_data``, and saying what is wrong with them."""

from reviewkd_mm.config.coco_data import check_classes, resolve_coco_data
from reviewkd_mm.config.files import parse_config, read_config
from reviewkd_mm.config.parts import is_distiller

__all__ = ['check_classes', 'is_distiller', 'parse_config', 'read_config', 'resolve_coco_data']
