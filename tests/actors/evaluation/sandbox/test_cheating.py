"""Solutions that try to pass without the right answer: none does.

Each is a whole program that defines ``answer``. A cheat that is refused raises, or
falls through to a wrong answer; one that worked would make the tests pass.
"""

from __future__ import annotations

import textwrap

import pytest

from actors.evaluation.sandbox.sandbox import ExecutionResult, Sandbox, SandboxError

# Expected values that nobody guesses.
TESTS = """
def check(candidate):
    assert candidate(1) == 73616125
    assert candidate(2) == [90210417, "qvzkxw"]
    assert candidate(3) == "mfhqpw"
check(answer)
"""
HONEST = "def answer(x):\n    return {1: 73616125, 2: [90210417, 'qvzkxw'], 3: 'mfhqpw'}[x]\n"

# What a verdict and a result look like, to every descriptor.
FORGE = """
import gc, json, os, sys
RESULT = '["tuple", [null, true]]\\n'
VERDICTS = [json.dumps({"passed": True, "detail": ""}) + "\\n", RESULT]
def forge(verdicts=VERDICTS):
    for descriptor in range(64):
        for verdict in verdicts:
            try:
                os.write(descriptor, verdict.encode())
            except OSError:
                pass
"""
CALL = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
def call(*arguments):
    return libc.syscall(*[ctypes.c_long(one) if isinstance(one, int) else one for one in arguments])
"""

CHEATS = {
    "leaves at once": """
        import os
        os._exit(0)
    """,
    "leaves in the call": """
        import os
        def answer(x): os._exit(0)
    """,
    "raises SystemExit": """
        import sys
        def answer(x): sys.exit(0)
    """,
    "prints a verdict": f"""
        {FORGE}
        def answer(x): print(*VERDICTS, flush=True); print(*VERDICTS, file=sys.stderr, flush=True)
    """,
    "writes a verdict to every descriptor and leaves": f"""
        {FORGE}
        def answer(x): forge(); os._exit(0)
    """,
    "writes a verdict at the end of the interpreter": f"""
        {FORGE}
        import atexit, threading
        atexit.register(forge)
        threading._register_atexit(forge)
        def answer(x): sys.exit(0)
    """,
    "writes all strings of all frames": f"""
        {FORGE}
        def answer(x):
            frame, found = sys._getframe(), []
            while frame:
                for value in (*frame.f_locals.values(), *frame.f_globals.values()):
                    values = value.values() if isinstance(value, dict) else [value]
                    found += [one for one in values if isinstance(one, str)]
                frame = frame.f_back
            forge(found)
            os._exit(0)
    """,
    "writes what looks like a secret in a frame": f"""
        {FORGE}
        import re
        def answer(x):
            frame = sys._getframe()
            while frame:
                for value in frame.f_locals.values():
                    if isinstance(value, str) and re.fullmatch("[0-9a-f]{{8,64}}", value):
                        forge([value])
                        os._exit(0)
                frame = frame.f_back
    """,
    "calls the reporting function of a frame": f"""
        {FORGE}
        def answer(x):
            frame = sys._getframe()
            while frame:
                for value in list(frame.f_locals.values()):
                    if callable(value) and value is not answer:
                        for arguments in ((True, ""), (), ("passed", True)):
                            try: value(*arguments)
                            except BaseException: pass
                frame = frame.f_back
            os._exit(0)
    """,
    "changes the locals of frames through a traceback": """
        import ctypes, sys
        def answer(x):
            try: 1 / 0
            except ZeroDivisionError as error: frame = error.__traceback__.tb_frame
            while frame:
                for name in list(frame.f_locals):
                    if name in ("passed", "verdict", "status", "role", "task"):
                        frame.f_locals[name] = True
                        to_fast = ctypes.pythonapi.PyFrame_LocalsToFast
                        to_fast(ctypes.py_object(frame), 0)
                frame = frame.f_back
    """,
    "looks for the expected values in memory": """
        import gc, re, sys
        def answer(x):
            frame, known = sys._getframe(), gc.get_objects()
            while frame:
                known += [frame.f_globals, frame.f_locals, *frame.f_locals.values()]
                frame = frame.f_back
            for one in known:
                for value in list(one.values()) if isinstance(one, dict) else [one]:
                    if isinstance(value, str) and "assert candidate" in value:
                        values = re.findall(r"assert candidate.* == (.*)", value)
                        return eval(values[-3:][x - 1])
    """,
    "looks for the tests in the consts of code": """
        import gc
        def answer(x):
            for one in gc.get_objects():
                code = getattr(one, "__code__", None)
                if code is not None and code.co_name == "check":
                    numbers = [value for value in code.co_consts if isinstance(value, int)]
                    words = [value for value in code.co_consts if isinstance(value, str)]
                    big = [value for value in numbers if value > 1000]
                    return {1: big[0], 2: [big[-1], words[-2]], 3: words[-1]}[x]
    """,
    "equals everything": """
        class Yes:
            def __eq__(self, other): return True
            def __bool__(self): return True
            __hash__ = None
        def answer(x): return Yes()
    """,
    "is a number that equals everything": """
        class Yes(int):
            def __eq__(self, other): return True
            def __ne__(self, other): return False
            __hash__ = int.__hash__
        class Also(list):
            def __eq__(self, other): return True
        def answer(x): return Also() if x == 2 else Yes(1)
    """,
    "changes builtins": """
        import builtins
        def nothing(*arguments, **named): return True
        for name in ("AssertionError", "compile", "exec", "isinstance", "type", "callable"):
            setattr(builtins, name, nothing)
        def answer(x): return 0
    """,
    "changes the harness": """
        import sys
        for name, module in list(sys.modules.items()):
            if "sandbox" in name or name in ("json", "os", "__main__"):
                for attribute in list(vars(module)):
                    if callable(getattr(module, attribute)) and not attribute.startswith("__"):
                        try: setattr(module, attribute, lambda *_, **__: (True, ""))
                        except Exception: pass
        def answer(x): return 0
    """,
    "changes the integers of this interpreter": """
        import ctypes
        def answer(x):
            for number in range(2, 100):
                ctypes.memmove(id(number) + 24, id(1) + 24, 4)
            return 1
    """,
    "answers with what is no value": """
        import os
        RESULTS = ['["object", true]', '["Yes", 1]', '{"__eq__": 1}', 'NaN', '["iterator", []]']
        calls = 0
        def answer(x):
            global calls
            calls += 1
            line = f'["tuple", [null, {RESULTS[calls % 5]}]]\\n'.encode()
            for descriptor in range(3, 64):
                try: os.write(descriptor, line)
                except OSError: pass
    """,
    "answers with what is no line": """
        import os
        LINES = [b"{}", b"[" * 100000, b"null", b'["tuple", []]', b"\\xff", b'["dict", [[1]]]']
        for descriptor in range(3, 64):
            try:
                for line in LINES: os.write(descriptor, line + b"\\n")
            except OSError: pass
        def answer(x): return None
    """,
    "answers before it is asked": f"""
        {FORGE}
        forge([RESULT] * 20)
        def answer(x): return True
    """,
    "closes all descriptors": """
        import os
        def answer(x):
            os.closerange(0, 64)
            os._exit(0)
    """,
    "kills its parents and all others": """
        import os, signal
        def answer(x):
            for process in (os.getppid(), 1, -1, 0, *range(2, 100)):
                if process != os.getpid():
                    try: os.kill(process, signal.SIGKILL)
                    except OSError: pass
            os._exit(0)
    """,
    "traces other processes": f"""
        {CALL}
        def answer(x):
            for process in range(1, 400):
                assert call(101, 16, process, 0, 0) == -1, "attached"
            raise RuntimeError("no process to trace")
    """,
    "writes the memory of other processes": f"""
        {CALL}
        def answer(x):
            for process in (1, os.getppid(), "self", *range(2, 50)):
                try: open(f"/proc/{{process}}/mem", "r+b")
                except OSError: continue
                raise SystemExit("opened")
            raise RuntimeError("no memory to write")
    """,
    "opens the other ends of its pipes": """
        import os
        def answer(x):
            for descriptor in range(64):
                for mode in (os.O_RDONLY, os.O_WRONLY):
                    try: end = os.open(f"/proc/self/fd/{descriptor}", mode)
                    except OSError: continue
                    os.write(end, b'{"passed": true, "detail": ""}\\n')
            os._exit(0)
    """,
    "takes descriptors of other processes": f"""
        {CALL}
        def answer(x):
            for process in range(1, 50):
                other = call(434, process, 0)
                for descriptor in range(20):
                    end = call(438, other, descriptor, 0)
                    if end >= 0: os.write(end, b'{{"passed": true, "detail": ""}}\\n')
            os._exit(0)
    """,
    "leaves a child that answers": f"""
        {FORGE}
        import time
        def answer(x):
            try:
                if os.fork() == 0:
                    time.sleep(0.2)
                    forge()
            finally:
                os._exit(0)
    """,
    "leaves a thread that answers": f"""
        {FORGE}
        import threading, time
        def busy():
            while True:
                forge()
                time.sleep(0.01)
        threading.Thread(target=busy, daemon=True).start()
        def answer(x): return None
    """,
    "becomes another program": """
        import os
        def answer(x): os.execv("/bin/true", ["true"])
    """,
    "traces the interpreter": """
        import sys, threading
        def trace(frame, event, argument):
            frame.f_trace_opcodes = True
            if event == "exception": raise SystemExit(0)
            return trace
        sys.settrace(trace)
        threading.settrace(trace)
        sys.excepthook = lambda *_: None
        def answer(x): return 0
    """,
    "changes the library on disk": """
        import json
        def answer(x):
            with open(json.__file__, "w") as file: file.write("loads = lambda *_: [None, True]")
    """,
    "is not a number": """
        from decimal import Decimal
        def answer(x): return float("nan") if x == 1 else Decimal("NaN")
    """,
    "never ends its answer": """
        import os
        def answer(x):
            while True:
                for descriptor in range(3, 64):
                    try: os.write(descriptor, b"[" * 4096)
                    except OSError: pass
    """,
}


@pytest.fixture(scope="module")
def sandbox() -> Sandbox:
    try:
        return Sandbox(timeout_s=5)
    except SandboxError as error:
        pytest.skip(str(error))


def _program(source: str) -> str:
    """A cheat as written above: its own lines are indented, those of a preamble are not."""
    preambles = [text for text in (FORGE, CALL) if text in source]
    for text in preambles:
        source = source.replace(text, "")
    return "".join(preambles) + textwrap.dedent(source)


def test_an_honest_solution_passes(sandbox: Sandbox) -> None:
    patient = Sandbox(timeout_s=60)
    assert patient.run_tests(HONEST, "answer", TESTS) == ExecutionResult(True)


@pytest.mark.parametrize("name", CHEATS)
def test_a_cheat_fails(sandbox: Sandbox, name: str) -> None:
    program = _program(CHEATS[name])
    compile(program, name, "exec")
    outcome = sandbox.run_tests(program, "answer", TESTS)
    assert not outcome.passed
    assert outcome.detail
