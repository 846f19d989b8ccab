"""Processes that work beside this one and end with it, whatever stops it."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

from .stopping import Terminated, terminable

__all__ = ["hand_over", "workers"]

T = TypeVar("T")
GRACE_S = 10.0
"""Seconds that a process has to clear up after SIGTERM."""


@contextmanager
def workers(count: int) -> Iterator[ProcessPoolExecutor]:
    """A pool of `count` processes for its block; they are terminated if the block ends by an exception."""
    with ProcessPoolExecutor(count, mp_context=multiprocessing.get_context("spawn")) as pool:
        try:
            yield pool
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            children = multiprocessing.active_children()
            for child in children:
                child.terminate()
            for child in children:
                child.join(GRACE_S)
                if child.is_alive():  # where SIGTERM came within a callback, whose exceptions Python drops
                    child.kill()
            raise


def hand_over(pool: ProcessPoolExecutor, work: Callable[..., T], *args: Any) -> Future[T]:
    """What `work` will return, done by a process of the pool; the process ends when it is terminated."""
    return pool.submit(_work, work, args)


def _work(work: Callable[..., T], args: tuple[Any, ...]) -> T:
    try:
        with terminable():
            return work(*args)
    except Terminated:
        os._exit(143)  # a pool would go on with its next task
