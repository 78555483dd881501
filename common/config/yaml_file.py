"""YAML from users: any text gives either a value or an error that names the cause.

A value has only what a configuration can mean: no aliases, which can expand to more than memory
holds; no repeated keys, of which all but the last would be lost; no numbers without end.
"""

from __future__ import annotations

import math
import reprlib
from pathlib import Path
from typing import Any

import yaml

from common import files
from common.errors import UserError, first_line, shown

MAX_FILE_BYTES = 2**18
# The parser's time grows with the square of the depth.
MAX_DEPTH = 40
# Beyond 64 bits in any notation. Python cannot print integers of over 4,300 digits.
MAX_DIGITS = 70

_OPENING = (
    yaml.BlockMappingStartToken,
    yaml.BlockSequenceStartToken,
    yaml.FlowMappingStartToken,
    yaml.FlowSequenceStartToken,
)
_CLOSING = (yaml.BlockEndToken, yaml.FlowMappingEndToken, yaml.FlowSequenceEndToken)


def read(path: Path) -> Any:
    """Read a YAML file.

    Raises:
        UserError: the file is unreadable, too large, not UTF-8 or not YAML.
    """
    return parse(files.read_text(path, MAX_FILE_BYTES), str(path))


def parse(text: str, source: str) -> Any:
    """Parse YAML; ``source`` names the text in errors.

    Raises:
        UserError: the text is malformed or too deep, or uses what the module's head excludes.
    """
    try:
        depth = 0
        for token in yaml.scan(text, Loader=_Loader):
            depth += isinstance(token, _OPENING) - isinstance(token, _CLOSING)
            if depth > MAX_DEPTH:
                raise yaml.YAMLError(f"more than {MAX_DEPTH} levels")
            if isinstance(token, yaml.AliasToken):
                raise yaml.YAMLError("aliases (*name) are not supported")
            if isinstance(token, yaml.ScalarToken):
                _check_text(token.value)
        return yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, ValueError, TypeError, ArithmeticError, LookupError) as error:
        # All but the first: values that look like dates or numbers but are not.
        raise UserError(f"{source}: not YAML: {_reason(error)}") from error


class _Loader(yaml.SafeLoader):
    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: dict[tuple[str, Any], int] = {}
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if isinstance(key, yaml.ScalarNode):
                if (name := (key.tag, key.value)) in seen:
                    raise _problem(
                        f"key {reprlib.repr(key.value)} is in line {seen[name]} already", key
                    )
                seen[name] = key.start_mark.line + 1
        return super().construct_mapping(node, deep)

    def construct_integer(self, node: yaml.ScalarNode) -> int:
        if len(node.value) > MAX_DIGITS:
            raise _problem(f"an integer of over {MAX_DIGITS} digits", node)
        value: int = self.construct_yaml_int(node)
        return value

    def construct_finite(self, node: yaml.ScalarNode) -> float:
        value: float = self.construct_yaml_float(node)
        if not math.isfinite(value):
            raise _problem(f"{shown(node.value)} is not a finite number", node)
        return value


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_integer)
_Loader.add_constructor("tag:yaml.org,2002:float", _Loader.construct_finite)


def _check_text(value: str) -> None:
    """Escapes can spell half a character, which nothing can encode, and NUL."""
    value.encode()
    if "\0" in value:
        raise yaml.YAMLError("a NUL character in a value")


def _problem(text: str, node: yaml.Node) -> yaml.YAMLError:
    return yaml.constructor.ConstructorError(problem=text, problem_mark=node.start_mark)


def _reason(error: Exception) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return f"line {error.problem_mark.line + 1}: {shown(str(error.problem))}"
    return shown(first_line(error))
