"""Trainings as their work dirs tell of them: tables, pictures, and queues that go on."""

from reviewkd_mm.runs.jobs import Job, plan_jobs
from reviewkd_mm.runs.queue import Queue
from reviewkd_mm.runs.reading import find_runs, read_run
from reviewkd_mm.runs.reports import write_curves, write_results
from reviewkd_mm.runs.run import Run

__all__ = [
    'Job',
    'Queue',
    'Run',
    'find_runs',
    'plan_jobs',
    'read_run',
    'write_curves',
    'write_results',
]
