"""Prompts: presets of templates, their rendering for a tokenizer, and checks of a corpus."""

from common.prompts.checks import check_answers, check_lengths, check_tokens, tokens_needed
from common.prompts.presets import PRESETS, Preset, PresetName, preset
from common.prompts.render import Prompts, Tokenizer

__all__ = [
    "PRESETS",
    "Preset",
    "PresetName",
    "Prompts",
    "Tokenizer",
    "check_answers",
    "check_lengths",
    "check_tokens",
    "preset",
    "tokens_needed",
]
