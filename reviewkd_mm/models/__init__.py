"""Distillers, recorders, connectors, losses and backbones."""

from reviewkd_mm.models.backbones import *  # noqa: F403
from reviewkd_mm.models.connectors import *  # noqa: F403
from reviewkd_mm.models.distillers import *  # noqa: F403
from reviewkd_mm.models.losses import *  # noqa: F403
from reviewkd_mm.models.recorders import *  # noqa: F403
