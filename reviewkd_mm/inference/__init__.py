"""Predict on image files with a student, by the inferencers of the package that it is from."""

from reviewkd_mm.inference.build import build_predictor
from reviewkd_mm.inference.predictor import Prediction, Predictor

__all__ = ['Prediction', 'Predictor', 'build_predictor']
