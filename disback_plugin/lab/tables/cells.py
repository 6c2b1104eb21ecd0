"""A cell that can be measured here: its name, by which protocol, and the command that fills it."""

from dataclasses import dataclass

from disback_plugin.config_base import nearest
from disback_plugin.errors import ConfigError

# the reference that each data set's authors publish, for the protocol that the paper's rows follow
EDM_REFERENCES = {
    "ffhq64": "ffhq-64x64.npz",
    "afhqv2": "afhqv2-64x64.npz",
    "imagenet64": "imagenet-64x64.npz",
    "cifar10": "cifar10-32x32.npz",
}
ADM_REFERENCES = {
    "imagenet64": "VIRTUAL_imagenet64_labeled.npz",
    "lsun-bedroom": "VIRTUAL_lsun_bedroom256.npz",
    "lsun-cat": "VIRTUAL_lsun_cat256.npz",
}


@dataclass(frozen=True, kw_only=True)
class Cell:
    """reference: the file's published name, or of one's own. run: measured on a run, by curves.

    prompts: whether those of a file are drawn for it.
    """

    name: str
    protocol: str
    reference: str
    run: bool = False
    prompts: bool = False

    @property
    def command(self) -> str:
        """What fills it."""
        what, more = ("RUN", " --every") if self.run else ("SAMPLES", "")
        more += " --prompts FILE" * self.prompts
        return (
            f"disback eval {what} --protocol {self.protocol} --reference {self.reference}"
            f"{more} --cell {self.name}"
        )


def _edm(row: str, data: str) -> Cell:
    return Cell(name=f"{row}/{data}", protocol="edm", reference=EDM_REFERENCES[data])


def _adm(row: str, data: str) -> Cell:
    return Cell(name=f"{row}/{data}", protocol="adm", reference=ADM_REFERENCES[data])


def _cells() -> list[Cell]:
    cells = [_edm(row, data) for row in ("edm", "edm-fixed") for data in ("ffhq64", "imagenet64")]
    for row in ("cd", "cd-fixed"):
        # the consistency models publish no batches of faces: EDM's statistics serve
        cells += [_edm(row, "ffhq64"), _edm(row, "afhqv2")]
        cells += [_adm(row, data) for data in ADM_REFERENCES]
    cells += [
        Cell(name=f"{row}/coco", protocol=protocol, reference=f"{protocol}.safetensors")
        for protocol, rows in (
            ("coco-512", ("sdxl", "sdxl-teacher")),
            ("coco-lcm", ("lcm", "lcm-lora")),
        )
        for row in rows
    ]
    cells += [
        Cell(name=f"speed/{data}", protocol="edm", reference=EDM_REFERENCES[data], run=True)
        for data in ("ffhq64", "imagenet64", "cifar10")
    ]
    reference = "coco-lcm.safetensors"
    lcm = Cell(name="speed/lcm", protocol="coco-lcm", reference=reference, run=True, prompts=True)
    return [*cells, lcm]


CELLS = {cell.name: cell for cell in _cells()}


def check_cell(name: str, protocol: str) -> str:
    """The name of a known cell, of that protocol; ConfigError otherwise."""
    if name not in CELLS:
        raise ConfigError(f"there is no cell {name!r}; {nearest(name, list(CELLS))}")
    if CELLS[name].protocol != protocol:
        raise ConfigError(
            f"cell {name} is measured by protocol {CELLS[name].protocol}, not by {protocol}"
        )
    return name
