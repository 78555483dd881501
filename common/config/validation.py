"""Readable messages for pydantic errors: key, value, bound, and the nearest known key."""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Iterator, Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from common.errors import invalid_value, shown
from common.methods import METHODS

# Union sections: pydantic puts the name of the variant into the location, but the file has no
# such key.
_VARIANTS: dict[object, Sequence[str]] = {
    "method": tuple(METHODS),
    "prompts": ("preset", "templates"),
}


def explain(error: ValidationError, root: type[BaseModel], within: Sequence[str] = ()) -> list[str]:
    """One line per error; ``within`` is where the validated part is in the model ``root``."""
    return [line for _, line in explain_keys(error, root, within)]


def explain_keys(
    error: ValidationError, root: type[BaseModel], within: Sequence[str] = ()
) -> list[tuple[list[object], str]]:
    """The key of each error, from the top, and its line; see :func:`explain`."""
    found: list[dict[str, Any]] = [
        {**item, "loc": (*within, *item["loc"])} for item in error.errors()
    ]
    return [(_key(item["loc"]), _line(item, root)) for item in found]


def _key(location: Sequence[Any]) -> list[object]:
    """Where the file has it."""
    return [
        part
        for index, part in enumerate(location)
        if not (index == 1 and part in _VARIANTS.get(location[0], ()))
    ]


def _line(error: dict[str, Any], root: type[BaseModel]) -> str:
    location = _key(error["loc"])
    key = shown(".".join(str(part) for part in location))
    if error["type"] == "extra_forbidden":
        known = _known_keys(root, location[:-1], error["loc"][1:2])
        near = difflib.get_close_matches(str(location[-1]), known, 1, 0.5)
        if near:
            hint = f"did you mean {'.'.join([*map(str, location[:-1]), near[0]])}?"
        elif known:
            of = f"of {error['loc'][1]}" if len(location) < len(error["loc"]) else "here"
            hint = f"those {of} are {', '.join(known)}"
        else:
            hint = "remove it"
        return f"{key}: no such setting; {hint}"
    if error["type"] == "union_tag_invalid":
        return f"{key}.name: {reprlib.repr(error['ctx']['tag'])} is not one of {', '.join(METHODS)}"
    if error["type"] == "missing":
        return f"{key}: this setting is required"
    if error["type"] == "value_error" and key in error["msg"]:
        key = ""
    return invalid_value({**error, "loc": (key,) if key else ()})


def _known_keys(
    root: type[BaseModel], location: Sequence[object], variant: Sequence[object]
) -> list[str]:
    """Keys at ``location``; of a method only those that the one of that name has."""
    models = [root]
    for part in location:
        models = [
            found
            for model in models
            if str(part) in model.model_fields
            for found in _models_in(model.model_fields[str(part)].annotation)
        ]
    if list(location) == ["method"]:
        models = [model for model in models if model.model_fields["name"].default in variant]
    return [name for model in models for name in model.model_fields]


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models_in(argument)
