"""Locate a corpus: a file, a folder, or a data set on the Hub.

Downloads use the documented interface of the Hub's client (``hf_hub_download``,
``snapshot_download``). An offline copy in ``data.root`` has priority.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from common.corpora import tables
from common.errors import UserError

if TYPE_CHECKING:
    from common.corpora.settings import PublishedSettings

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def published(name: str, settings: PublishedSettings, root: Path | None) -> Path:
    """The file of a published data set: ``root/name/FILE`` (or ``.gz``), else the Hub's.

    Raises:
        UserError: ``root`` has no copy, or the download failed.
    """
    if root is not None:
        folder = root / name
        file = Path(settings.file).name
        for path in (folder / file, folder / f"{file}.gz"):
            # Not pathlib, which raises for a name that is too long.
            if os.path.isfile(path):
                return path
        there = sorted(path.name for path in folder.glob("*")) if os.path.isdir(folder) else []
        raise UserError(
            f"data.root: {folder} has no {file} or {file}.gz; it contains: "
            f"{', '.join(there) or 'nothing'}; set data.{name}.file (--file) to the copy's name"
        )
    from huggingface_hub import hf_hub_download

    def download() -> str:
        file: str = hf_hub_download(settings.hub, settings.file, repo_type="dataset")
        return file

    remedy = f"set data.root to a folder that contains {name}/{Path(settings.file).name}"
    return _from_hub(settings.hub, download, remedy)


def locate(spec: str) -> Path:
    """The file or folder of ``data.facts``: a path, or the snapshot of a Hub id.

    Raises:
        UserError: there is no such path and it is no Hub id, or the download failed.
    """
    path = Path(os.path.expanduser(spec))
    if os.path.exists(path):
        return path
    looks_like_a_path = spec.startswith((".", "/", "~", os.sep)) or tables.is_readable(path)
    if looks_like_a_path or not _HUB_ID.fullmatch(spec):
        raise UserError(f"data.facts: {path} cannot be read (No such file or directory)")
    from huggingface_hub import snapshot_download

    def download() -> str:
        patterns = ["*.jsonl", "*.json", "*.csv", "*.parquet"]
        folder: str = snapshot_download(spec, repo_type="dataset", allow_patterns=patterns)
        return folder

    return _from_hub(spec, download, "give a file, a folder or the id of a data set")


def train_files(path: Path) -> list[Path]:
    """The files of the training split: the path itself, or those of a folder.

    In a folder these are the files named ``train`` or ``train-…``, at its top or in ``data/``;
    without one, its only data file.

    Raises:
        UserError: there is no data file, or there are several and none is named train.
    """
    if not os.path.isdir(path):
        return [path]
    found = sorted(
        file
        for file in (*path.glob("*"), *path.glob("data/*"))
        if file.is_file() and tables.is_readable(file) and file.name != "card.json"
    )
    named = [file for file in found if re.match(r"train([-_.]|$)", file.name)]
    if named or len(found) == 1:
        return named or found
    names = ", ".join(str(file.relative_to(path)) for file in found) or "no data files"
    raise UserError(f"data.facts: {path} has no file of the split 'train' ({names})")


def _from_hub(what: str, download: Callable[[], str], remedy: str) -> Path:
    from huggingface_hub.errors import HFValidationError

    try:
        return Path(download())
    except (OSError, HFValidationError) as error:
        reason = str(error).strip().split("\n")[0]
        raise UserError(
            f"data set {what!r}: the download from the Hub failed ({reason}); {remedy}"
        ) from error
