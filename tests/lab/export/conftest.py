"""Published files to export from, made once."""

from pathlib import Path

import pytest

from tests.lab.trainer.checkpoint_cases import write_files


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """edm.pkl, cd_tiny.pt, ddpm/, sd/, sdxl/, lmdb/, prompts.txt."""
    folder = tmp_path_factory.mktemp("files")
    write_files(folder)
    return folder
