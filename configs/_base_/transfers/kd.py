"""Logit distillation at temperature 4."""

kd = dict(student='head', teacher='head', loss=dict(type='KLDivergence', tau=4.0))
