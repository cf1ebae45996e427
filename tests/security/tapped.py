"""Runs a server with the tap on it: ``python -m tests.security.tapped examples/guide/app.py``.

Takes what ``python`` takes (a script, ``-m`` or ``-c``). What the tap has found is written to the
file that ``TIDINGS_TAP`` names, as JSON, when the server ends or is told to.
"""

from __future__ import annotations

import json
import os
import runpy
import signal
import sys
from pathlib import Path
from types import CodeType

from tests.security.tap import Tap, tapped


class _Told(SystemExit):
    """The process has been told to end, and nothing in it has taken care of that."""


def _end(number: int, _frame: object) -> None:
    raise _Told(128 + number)


def _run(arguments: list[str]) -> None:
    first, *rest = arguments
    if first == "-c":
        sys.argv = ["-c", *rest[1:]]
        code: CodeType = compile(rest[0], "<string>", "exec")
        exec(code, {"__name__": "__main__"})
    elif first == "-m":
        sys.argv = rest
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    else:
        sys.argv = arguments
        sys.path[0] = str(Path(first).parent)
        runpy.run_path(first, run_name="__main__")


def _report(tap: Tap) -> None:
    found = {"frames": len(tap.frames), "written": len(tap.written), "leaks": tap.leaks()}
    # Whole or not at all, should the process be killed meanwhile.
    path = Path(os.environ["TIDINGS_TAP"])
    path.with_suffix(".part").write_text(json.dumps(found))
    path.with_suffix(".part").replace(path)


def main(arguments: list[str]) -> None:
    signal.signal(signal.SIGTERM, _end)
    try:
        with tapped() as tap:
            try:
                _run(arguments)
            finally:
                _report(tap)
    except _Told:
        # It ends as it would have ended.
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main(sys.argv[1:])
