"""A damaged file of any kind is loaded and usable, or refused with a message; nothing else."""

from __future__ import annotations

import pytest

from common import files
from tests.mutations.loaders import Loader, all_loaders
from tests.mutations.mutator import mutant
from tests.mutations.survey import survey

# Of each loader: in the gate, and with all the time in the world.
FEW, MANY = 60, 3_500


@pytest.fixture(scope="module")
def loaders(tmp_path_factory: pytest.TempPathFactory) -> list[Loader]:
    return all_loaders(tmp_path_factory.mktemp("corpora"))


@pytest.fixture(autouse=True)
def small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    # What expands to more shall not take long to be refused.
    monkeypatch.setattr(files, "MAX_BYTES", 2**24)


def check(loaders, root, capfd, numbers):
    for index, loader in enumerate(loaders):
        (folder := root / str(index)).mkdir()
        counts = survey(loader, numbers, folder)
        # Else the mutants are too timid or too wild to say anything.
        assert counts.loaded, loader.name
        assert counts.refused, loader.name
    assert capfd.readouterr() == ("", "")


def test_every_loader_takes_its_seeds(loaders, tmp_path):
    for index, loader in enumerate(loaders):
        for seed in loader.seeds:
            root = tmp_path / str(index)
            for name, content in (*loader.others.items(), (loader.file, loader.pack(seed, 0))):
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                (root / name).write_bytes(content)
            loader.load(root)


def test_a_mutant_is_made_again_by_its_number():
    seeds = [b'{"a": 1}\n{"b": [2]}', b"a: b\n"]
    first = [mutant(seeds, number) for number in range(200)]
    assert first == [mutant(seeds, number) for number in range(200)]
    assert len(set(first)) > 150


def test_a_few_mutants_are_loaded_or_refused(loaders, tmp_path, capfd):
    check(loaders, tmp_path, capfd, range(FEW))


@pytest.mark.thorough
def test_many_mutants_are_loaded_or_refused(loaders, tmp_path, capfd):
    assert len(loaders) * MANY >= 100_000
    check(loaders, tmp_path, capfd, range(FEW, FEW + MANY))
