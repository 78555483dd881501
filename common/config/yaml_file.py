"""YAML from users: any file gives either a value or an error that names the cause."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from common.errors import UserError

MAX_FILE_BYTES = 2**18
# The parser's time grows with the square of the depth.
MAX_DEPTH = 40

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
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    if len(data) > MAX_FILE_BYTES:
        raise UserError(f"{path}: over {MAX_FILE_BYTES} bytes, too large for a configuration")
    try:
        return parse(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text (byte {error.start})") from error
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not YAML: {error}") from error


def parse(text: str) -> Any:
    """Parse YAML without aliases: they can expand to more than memory holds, or to themselves.

    Raises:
        yaml.YAMLError: the text is malformed, too deep or uses aliases.
    """
    try:
        depth = 0
        for token in yaml.scan(text, Loader=yaml.SafeLoader):
            depth += isinstance(token, _OPENING) - isinstance(token, _CLOSING)
            if depth > MAX_DEPTH:
                raise yaml.YAMLError(f"more than {MAX_DEPTH} levels")
            if isinstance(token, yaml.AliasToken):
                raise yaml.YAMLError("aliases (*name) are not supported")
        return yaml.safe_load(text)
    except (ValueError, TypeError, ArithmeticError, LookupError) as error:
        # Values that look like dates or numbers but are not.
        raise yaml.YAMLError(str(error) or type(error).__name__) from error
