"""Measures one contender in this process: ``python -m tests.benchmarks.gpu.child NAME``."""

from __future__ import annotations

import argparse
import faulthandler
import os
import sys
from pathlib import Path

from tests.benchmarks.gpu.contenders import CONTENDERS
from tests.benchmarks.gpu.processes import serve

# What hangs writes its stacks to the log before it is ended.
STACKS_BEFORE_S = 5.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=CONTENDERS)
    parser.add_argument("--device", choices=("cuda", "cpu"), required=True)
    parser.add_argument("--folder", type=Path, required=True, help="shared by all contenders")
    parser.add_argument("--out", type=Path, required=True, help="receives the rows")
    parser.add_argument("--limit", type=float, required=True, help="seconds until it is ended")
    arguments = parser.parse_args()
    faulthandler.dump_traceback_later(max(1.0, arguments.limit - STACKS_BEFORE_S))
    rows = CONTENDERS[arguments.name].measure(arguments.device, arguments.folder)
    serve(rows, arguments.out)
    sys.stdout.flush()
    sys.stderr.flush()
    # Threads of an engine must not hang the end.
    os._exit(0)


if __name__ == "__main__":
    main()
