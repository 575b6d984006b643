"""Running trainings one after another, each in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from reviewkd_mm.runs.jobs import Job

OUTPUT = 'output.log'
POLL_SECONDS = 0.1
WAIT_SECONDS = 1.0
GRACE_SECONDS = 20.0
TAIL = 15
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Queue:
    """Run trainings one after another; one that fails does not keep the others from running.

    A finished training is not repeated, an interrupted one goes on. One that another queue runs
    is waited for, after all others.

    Args:
        jobs (Sequence[Job]): The trainings, in their order.
        script (Path): The script that trains, tools/train.py.
        report (Callable[[], object]): Called after each training and at the end.
    """

    def __init__(self, jobs: Sequence[Job], script: Path, report: Callable[[], object]) -> None:
        self.jobs = list(jobs)
        self.script = script
        self.report = report
        self.failed: list[Job] = []
        self._signal: int | None = None
        self._is_urgent = False

    def run(self) -> int:
        """Run them all.

        Returns:
            int: The exit status: 0, 1 if a training failed, or 128 and the signal's number if
            one ended the queue.
        """
        with self._catching_signals():
            self._run_all()
            self.report()
        if self._signal is not None:
            self._say(f'stopped by {signal.Signals(self._signal).name}; start again to go on')
            return 128 + self._signal
        if self.failed:
            self._say(f'failed: {", ".join(job.name for job in self.failed)}')
        return int(bool(self.failed))

    def _run_all(self) -> None:
        pending, told = self.jobs, set()
        while pending:
            busy = []
            for job in pending:
                if self._signal is not None:
                    return
                if not self._take(job):
                    busy.append(job)
            if busy == pending:
                time.sleep(WAIT_SECONDS)
            for job in busy:
                if job not in told:
                    self._say(f'{job.name}: another process runs it; waiting for it at the end')
                    told.add(job)
            pending = busy

    def _take(self, job: Job) -> bool:
        """Run a training unless it is finished; return whether it was free to be run."""
        with job.locked() as lock:
            if lock is None:
                return False
            try:
                job.claim()
            except ValueError as error:
                self._fail(job, str(error))
                return True
            run = job.read()
            if run is not None and run.is_finished:
                self._say(f'{job.name}: finished already')
                return True
            arguments = job.arguments(run)
            self._say(f'{job.name}: {"goes on" if "--resume" in arguments else "starts"}')
            self._train(job, arguments, lock)
        self.report()
        return True

    def _train(self, job: Job, arguments: list[str], lock: int) -> None:
        started = time.monotonic()
        output = job.work_dir / OUTPUT
        with output.open('ab') as stream:
            process = subprocess.Popen(
                [sys.executable, str(self.script), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                # The terminal's Ctrl-C reaches this process alone, which stops the training.
                start_new_session=True,
                # Should this process be killed, the lock stays until the training ends.
                pass_fds=(lock,),
            )
            while process.poll() is None and self._signal is None:
                time.sleep(POLL_SECONDS)
            if process.poll() is None:
                self._stop(process)
                self._say(f'{job.name}: interrupted')
                return
        run = job.read()
        if process.returncode:
            end = _describe_end(process.returncode)
            self._fail(job, f'{end}; the end of {output}:\n{_tail(output)}')
        elif run is None or not run.is_finished:
            self._fail(
                job,
                'it ended without the checkpoint or the validation of its last epoch; the '
                f'end of {output}:\n{_tail(output)}',
            )
        else:
            self._say(f'{job.name}: finished in {time.monotonic() - started:.0f} s')

    def _stop(self, process: subprocess.Popen) -> None:
        """Let a training clean up after itself; kill it and its workers if it takes long."""
        process.send_signal(signal.SIGINT)
        deadline = time.monotonic() + GRACE_SECONDS
        while process.poll() is None:
            if self._is_urgent or time.monotonic() > deadline:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                return
            time.sleep(POLL_SECONDS)

    def _fail(self, job: Job, reason: str) -> None:
        self.failed.append(job)
        print(f'{job.name}: failed: {reason}', file=sys.stderr, flush=True)

    def _say(self, text: str) -> None:
        print(text, flush=True)

    @contextmanager
    def _catching_signals(self) -> Iterator[None]:
        """Note signals; a second one is in a hurry. What the caller ignores stays ignored."""

        def note(number: int, frame: FrameType | None) -> None:
            self._is_urgent = self._signal is not None
            self._signal = number

        before = {number: signal.getsignal(number) for number in SIGNALS}
        for number, handler in before.items():
            # nohup ignores SIGHUP. A shell's background jobs ignore SIGINT, and would pass that
            # on to the training, which is stopped by it.
            if number != signal.SIGHUP or handler != signal.SIG_IGN:
                signal.signal(number, note)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _describe_end(status: int) -> str:
    return f'exit status {status}' if status > 0 else f'ended by signal {-status}'


def _tail(file: Path) -> str:
    lines = file.read_bytes().decode(errors='replace').splitlines()
    return '\n'.join(f'    {line}' for line in lines[-TAIL:])
