"""The queue of requests, and the thread that computes them, alone or joined."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

import anyio
import numpy as np

from .metrics import Metrics
from .protocol import JOINED, Job, Refused


def compute(jobs: list[Job]) -> list[dict[str, np.ndarray] | Exception]:
    """Compute jobs in one call. Returns each job's arrays by name, or its exception."""
    try:
        first = jobs[0]
        if len(jobs) == 1:
            return [first.signature(first.tensors)]
        tensors = {
            name: np.concatenate([job.tensors[name] for job in jobs]) if t.ndim else t
            for name, t in first.tensors.items()
        }
        ends = np.cumsum([job.rows for job in jobs])[:-1]
        parts = {k: np.split(v, ends) for k, v in first.signature(tensors).items()}
        return [{k: v[i] for k, v in parts.items()} for i in range(len(jobs))]
    except Exception as e:
        if len(jobs) > 1:  # one job may be the cause
            return [compute([job])[0] for job in jobs]
        return [refusal(e)]


def refusal(e: Exception) -> Exception:
    """The answer to TensorFlow's error: its first line; the rest is about the graph."""
    import tensorflow as tf

    message = (str(e).strip().splitlines() or [type(e).__name__])[0]
    if isinstance(e, tf.errors.InvalidArgumentError):
        return Refused(400, message)
    if isinstance(e, tf.errors.ResourceExhaustedError | MemoryError):
        return Refused(503, "out of memory: ask for fewer rows")
    return e


class Queue:
    """Jobs in the order of arrival; jobs that can join the first one run with it."""

    def __init__(
        self,
        limits: dict[str, float],
        batch_rows: int,
        delay: float,
        metrics: Metrics,
    ) -> None:
        self.limits, self.batch_rows, self.delay = limits, batch_rows, delay
        self.metrics, self.waiting, self.came = metrics, [], asyncio.Event()
        self.thread = ThreadPoolExecutor(1, "compute")
        metrics.queue.set_function(lambda: len(self.waiting))

    async def run(self, job: Job) -> dict[str, np.ndarray]:
        """Wait for the job's result: arrays by name.

        Raises:
          Refused: too many jobs wait already, or this one cannot be computed.
        """
        most = self.limits["max_queue"]
        if len(self.waiting) >= most:
            raise Refused(503, f"{most} requests wait already (--max_queue)")
        job.done = asyncio.get_running_loop().create_future()
        self.waiting.append(job)
        self.came.set()
        try:
            return await job.done
        finally:  # after a timeout, or when the client has disconnected
            if job in self.waiting:
                self.waiting.remove(job)

    def joined(self) -> tuple[list[Job], int]:
        """The first job and those that can be computed with it, and their rows."""
        jobs, rows = self.waiting[:1], self.waiting[0].rows
        for job in self.waiting[1:]:
            if rows + job.rows <= self.batch_rows and job.joins(jobs[0]):
                jobs.append(job)
                rows += job.rows
        return jobs, rows

    async def next(self) -> tuple[list[Job], int]:
        """Wait for a job, and up to `delay` seconds for others to join it."""
        while True:
            self.came.clear()
            if self.waiting:
                jobs, rows = self.joined()
                until = jobs[0].arrived + self.delay - time.monotonic()
                may_join = jobs[0].signature.name in JOINED and rows < self.batch_rows
                if not may_join or until <= 0:
                    self.waiting = [job for job in self.waiting if job not in jobs]
                    return jobs, rows
            with anyio.move_on_after(until if self.waiting else None):
                await self.came.wait()

    async def work(self) -> None:
        """Compute jobs until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            jobs, rows = await self.next()
            self.metrics.batch_rows.observe(rows)
            made = await loop.run_in_executor(self.thread, compute, jobs)
            for job, result in zip(jobs, made, strict=True):
                if job.done.done():
                    continue
                if isinstance(result, Exception):
                    job.done.set_exception(result)
                else:
                    job.done.set_result(result)
