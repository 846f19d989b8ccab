import os
import signal
import subprocess
import sys

import pytest
from bitwright.reports.stopping import Terminated, terminable

COMMAND = [sys.executable, "-m", "bitwright.reports.cli"]


def test_sigterm_runs_the_clean_up_and_the_handler_is_put_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    cleaned = False
    with pytest.raises(Terminated), terminable():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            signal.pause()
        finally:
            cleaned = True
    assert cleaned
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_reader_that_left_is_code_141_without_a_traceback() -> None:
    process = subprocess.Popen([*COMMAND, "machines"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    faults = process.stderr.read()
    process.stderr.close()
    assert (process.wait(), faults) == (141, b"")


def test_a_closed_stdout_is_no_fault() -> None:
    done = subprocess.run(
        ["sh", "-c", '"$@" >&-', "sh", *COMMAND, "--version"], capture_output=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")
