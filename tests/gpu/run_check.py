"""Runs one check of the GPU lane in this process: ``python -m tests.gpu.run_check NAME``.

    python -m tests.gpu.run_check decoder.tokens_at_0 --device cuda --set runner=V2 --out FILE

NAME is a module of ``tests/gpu/checks`` and a function in it. The figures are printed, and
written to the file of ``--out``.
"""

from __future__ import annotations

import argparse
import faulthandler
import importlib
import json
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Check = Callable[..., dict[str, Any]]
# A call that never returns to Python does not see the alarm.
GRACE_S = 30


def find(name: str) -> Check:
    """The function that ``name`` stands for."""
    module, _, function = name.partition(".")
    check: Check = getattr(importlib.import_module(f"tests.gpu.checks.{module}"), function)
    return check


def end_after(name: str, seconds: int) -> None:
    """Let this process fail after ``seconds``, with the stack of what hung."""

    def expire(*_: object) -> None:
        raise TimeoutError(f"{name} took longer than {seconds} s; --limit gives it more")

    signal.signal(signal.SIGALRM, expire)
    signal.alarm(seconds)
    faulthandler.dump_traceback_later(seconds + GRACE_S, exit=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("name", help="MODULE.FUNCTION in tests/gpu/checks")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", dest="settings")
    parser.add_argument("--out", type=Path, help="write the figures to this JSON file")
    parser.add_argument("--limit", type=int, default=300, help="seconds")
    arguments = parser.parse_args()
    end_after(arguments.name, arguments.limit)
    settings = dict(pair.split("=", 1) for pair in arguments.settings)
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="mixsd-gpu-") as folder:
        figures = find(arguments.name)(arguments.device, Path(folder), **settings)
    text = json.dumps({"figures": figures, "seconds": round(time.perf_counter() - began, 1)})
    if arguments.out is not None:
        arguments.out.write_text(text)
    print(text, flush=True)
    # What is left over (threads of an engine, of Gloo) must not hang the end.
    signal.alarm(0)
    faulthandler.dump_traceback_later(GRACE_S, exit=True)


if __name__ == "__main__":
    main()
