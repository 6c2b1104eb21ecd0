"""A classifier whose features carry a distance: its weights and accuracy in one file."""

from pathlib import Path
from typing import TypeVar

from torch import nn

from disback_plugin.errors import RunError
from disback_plugin.files import read_tensors, write_tensors

AnyClassifier = TypeVar("AnyClassifier", bound="Classifier")


class Classifier(nn.Module):
    """Images -> logits; `accuracy` is on images that it never saw."""

    accuracy = 0.0

    def save(self, file: Path) -> None:
        """As safetensors, which `load` reads."""
        file.parent.mkdir(parents=True, exist_ok=True)
        write_tensors(file, self.state_dict(), {"accuracy": repr(self.accuracy)})

    def load(self: AnyClassifier, file: Path, complaint: str, remedy: str) -> AnyClassifier:
        """Itself with what `file` holds, frozen; RunError where that is not whole or not its own.

        The error says `complaint`, then why, then `remedy`.
        """
        try:
            tensors, metadata = read_tensors(file, RunError)
            self.accuracy = float(metadata["accuracy"])
            self.load_state_dict(tensors, strict=True, assign=True)
        except (RuntimeError, KeyError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise RunError(f"{complaint} ({reason}); {remedy}") from None
        return self.eval().requires_grad_(False)
