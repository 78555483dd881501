"""Reading a model's tokenizer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from common import models
from common.errors import UserError


def test_code_in_a_models_folder_is_not_run_whatever_the_terminal_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = tmp_path / "ran"
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "own.py").write_text(f"open({str(ran)!r}, 'w')\nclass Own: pass\n")
    config = {"tokenizer_class": "Own", "auto_map": {"AutoTokenizer": ["own.Own", None]}}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "config.json").write_text(json.dumps({"model_type": "own"}))
    monkeypatch.setattr("builtins.input", lambda text: "y")
    with pytest.raises(UserError, match="its tokenizer cannot be read"):
        models.load(folder)
    assert not ran.exists()
