"""The `bitwright` command, and the one place where errors become exit codes.

Exit 0 is fine, 1 a check that failed, 2 bad input (one line on stderr), 130 an interrupt, 141 a reader
of stdout that left, 143 SIGTERM. Numbers go to stdout, progress to stderr.
"""

from __future__ import annotations

import contextlib
import os
import sys

import typer

from .verbs import CheckError, app

__all__ = ["app", "main"]


def _complain(message: str) -> int:
    line = "".join(c if c.isprintable() else "?" for c in " ".join(message.split()))
    sys.stderr.write(f"bitwright: {line}\n")
    return 2


def main(arguments: list[str] | None = None) -> int:
    """The exit code of one command line; `arguments` are the process's own by default."""
    from .progress import show_compilation
    from .stopping import Terminated, terminable

    show_compilation()
    os.environ.setdefault("BITWRIGHT_NO_BLAS", "1")  # see models/jit.py
    given = sys.argv[1:] if arguments is None else arguments
    with contextlib.ExitStack() as stack:
        for name in ("stdout", "stderr"):  # closed by whoever started us
            if getattr(sys, name) is None:
                setattr(sys, name, stack.enter_context(open(os.devnull, "w", encoding="utf-8")))
                stack.callback(setattr, sys, name, None)
        try:
            with terminable():
                code = _run(given or ["--help"])
        except Terminated:
            sys.stderr.write("bitwright: terminated\n")
            return 143
        if code == 130:
            sys.stderr.write("bitwright: interrupted\n")
        return code


def _run(arguments: list[str]) -> int:
    try:
        code = app(args=arguments, prog_name="bitwright", standalone_mode=False)
        sys.stdout.flush()
    except CheckError:
        return 1
    except (KeyboardInterrupt, typer.Abort):
        return 130
    except (BrokenPipeError, SystemExit):  # typer and rich exit where stdout's reader is gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.__stdout__.fileno() if sys.__stdout__ else 1)
        return 141  # as a program that SIGPIPE ends; not 0, since a check may have failed
    except OSError as fault:
        name = fault.filename if fault.filename is not None else "input or output"
        return _complain(f"{name}: {fault.strerror or fault}")
    except MemoryError:
        return _complain("out of memory: use a smaller network or fewer images")
    except (ValueError, RuntimeError) as fault:
        if os.environ.get("BITWRIGHT_TRACEBACK"):
            raise
        return _complain(str(fault))
    except Exception as fault:
        describe = getattr(fault, "format_message", None)  # a usage error of the parser
        if describe is None:
            raise
        context = getattr(fault, "ctx", None)
        hint = f" See `{context.command_path} --help`." if context is not None else ""
        return _complain(f"{describe()}{hint}") if describe() else 2
    return code if isinstance(code, int) else 0


if __name__ == "__main__":
    sys.exit(main())
