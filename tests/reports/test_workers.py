import math
import multiprocessing
import time

import pytest
from bitwright.reports.workers import hand_over, workers


def test_a_worker_returns_what_the_work_returns() -> None:
    with workers(1) as pool:
        assert hand_over(pool, math.hypot, 3.0, 4.0).result() == 5.0


def test_a_block_that_fails_leaves_no_process_behind_and_no_task_is_begun() -> None:
    with pytest.raises(KeyError), workers(1) as pool:
        asleep = [hand_over(pool, time.sleep, 600) for _ in range(3)]
        while not asleep[0].running():
            time.sleep(0.05)
        raise KeyError
    for child in multiprocessing.active_children():
        child.join(60)
    assert multiprocessing.active_children() == []
