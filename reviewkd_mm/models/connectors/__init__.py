"""Connectors: trainable maps from the student's feature space into the teacher's."""

from reviewkd_mm.models.connectors.abf import ABF
from reviewkd_mm.models.connectors.conv_regressor import ConvRegressor
from reviewkd_mm.models.connectors.review_connector import ReviewConnector

__all__ = ['ABF', 'ConvRegressor', 'ReviewConnector']
