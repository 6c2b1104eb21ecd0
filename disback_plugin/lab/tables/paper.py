"""What the paper's tables say (Zhang et al., ICLR 2025), and what others reach today.

Every number of the paper was read in its text; where it contradicts itself, a footnote says so.
"""

from dataclasses import dataclass, field

Value = float | str


@dataclass(frozen=True, kw_only=True)
class Row:
    """kind: "paper", "today" (published by others since) or "ours", with cells by column.

    values: by column; a column that is absent was not measured. notes: numbers of footnotes by
    column.
    """

    name: str
    kind: str
    values: dict[str, Value] = field(default_factory=dict)
    cells: dict[str, str] = field(default_factory=dict)
    notes: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Table:
    """columns after the row's name; footnotes are counted from 1."""

    number: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    footnotes: tuple[str, ...] = ()


DATA = ("FFHQ 64", "AFHQv2 64", "ImageNet 64", "LSUN bedroom", "LSUN cat")
NAMES = ("ffhq64", "afhqv2", "imagenet64", "lsun-bedroom", "lsun-cat")
_IMAGENET = (
    "The paper gives 8.44 for ImageNet 64 with EDM in Table 1 and 8.14 in Table 2; the abstract of "
    "a later version speaks of 1.38"
)
_CHURCH = "Appendix B.1 names LSUN Church as the data set; the tables say LSUN cat"
_PROTOCOL = (
    "Measured here: FFHQ, AFHQv2 and EDM's rows by protocol edm (the smallest FID of three ranges "
    "of seeds), the CD rows of ImageNet and LSUN by protocol adm"
)


def _row(name: str, kind: str, *values: Value | None, **notes: int) -> Row:
    by_name = dict(zip(NAMES, DATA, strict=True))
    return Row(
        name=name,
        kind=kind,
        values={c: v for c, v in zip(("NFE", *DATA), values, strict=True) if v is not None},
        notes={by_name[key]: number for key, number in notes.items()},
    )


def _ours(name: str, row: str, *data: str) -> Row:
    by_name = dict(zip(NAMES, DATA, strict=True))
    return Row(
        name=name, kind="ours", values={"NFE": 1}, cells={by_name[d]: f"{row}/{d}" for d in data}
    )


_EDM, _CD = ("ffhq64", "imagenet64"), NAMES

TABLE_1 = Table(
    number="1",
    title="FID of one-step generators and their teachers",
    columns=("NFE", *DATA),
    rows=(
        _row("DDPM", "paper", 1000, 3.52, None, 3.77, 4.89, 17.10),
        _row("ADM", "paper", 1000, None, None, None, 1.90, 5.57),
        _row("NCSN++", "paper", 79, 25.95, 18.52, None, None, None),
        _row("DDPM++", "paper", 79, 3.39, 2.58, None, None, None),
        _row("EDM", "paper", 79, 2.39, 1.96, 2.44, 3.57, 6.69),
        _row("EDM", "paper", 15, 15.81, 13.67, 10.46, None, None),
        _row("PD", "paper", 1, None, None, 8.95, 16.92, 29.60),
        _row("CT", "paper", 1, None, None, 13.00, 16.00, 20.70),
        _row("CD", "paper", 1, 12.58, 10.75, 6.20, 7.80, 11.00),
        _row("DisBack (EDM)", "paper", 1, 10.88, None, 8.44, None, None, imagenet64=1),
        _row("DisBack (CD)", "paper", 1, 11.99, 9.97, 5.73, 6.99, 10.30, **{"lsun-cat": 2}),
        _ours("DisBack (EDM)", "edm", *_EDM),
        _ours("DisBack (CD)", "cd", *_CD),
        _row("SiD", "today", 1, 1.55, 1.63, None, None, None),
        _row("GDD", "today", 1, 0.85, 1.23, None, None, None),
        _row("DMD2, f-distill (FastGen)", "today", 1, None, None, "1.11-1.12", None, None),
        _row("Uni-Instruct", "today", 1, None, None, 1.02, None, None),
    ),
    footnotes=(_IMAGENET, _CHURCH, _PROTOCOL),
)
TABLE_2 = Table(
    number="2",
    title="FID with and without the convergence trajectory",
    columns=("NFE", *DATA),
    rows=(
        _row("DisBack (EDM)", "paper", 1, 10.88, None, 8.14, None, None, imagenet64=1),
        _row("without trajectory (EDM)", "paper", 1, 11.16, None, 8.47, None, None),
        _row("DisBack (CD)", "paper", 1, 11.99, 9.97, 5.73, 6.99, 10.30, **{"lsun-cat": 2}),
        _row("without trajectory (CD)", "paper", 1, 12.26, 10.29, 5.96, 7.43, 10.63),
        _ours("DisBack (EDM)", "edm", *_EDM),
        _ours("without trajectory (EDM)", "edm-fixed", *_EDM),
        _ours("DisBack (CD)", "cd", *_CD),
        _ours("without trajectory (CD)", "cd-fixed", *_CD),
    ),
    footnotes=(_IMAGENET, _CHURCH, _PROTOCOL),
)
_FID, _NFE, _LIKED = "FID", "NFE", "user preference"
TABLE_3 = Table(
    number="3",
    title="Text to image: SDXL on COCO 2014",
    columns=(_FID, _NFE, _LIKED),
    rows=(
        Row(name="SDXL", kind="paper", values={_FID: 19.36, _NFE: 100, _LIKED: "38.7 %"}),
        Row(name="DisBack", kind="paper", values={_FID: 18.96, _NFE: 1, _LIKED: "61.3 %"}),
        Row(name="SDXL", kind="ours", values={_NFE: 100}, cells={_FID: "sdxl-teacher/coco"}),
        Row(name="DisBack", kind="ours", values={_NFE: 1}, cells={_FID: "sdxl/coco"}),
    ),
    footnotes=(
        "The paper does not say how many prompts, which size and which network its FID is of; "
        "measured here by DMD2's protocol, coco-512",
        "User preference is of ten people on 128 pairs (Appendix B.3); no command measures it",
    ),
)
TABLE_4 = Table(
    number="4",
    title="LCM-LoRA on Stable Diffusion 1.5, COCO 2014 at 512 x 512",
    columns=(_FID,),
    rows=(
        Row(name="LCM-LoRA", kind="paper", values={_FID: 78.26}),
        Row(name="DisBack", kind="paper", values={_FID: 36.37}),
        Row(name="LCM-LoRA", kind="ours", cells={_FID: "lcm-lora/coco"}),
        Row(name="DisBack", kind="ours", cells={_FID: "lcm/coco"}),
    ),
    footnotes=(
        "30,000 generated images against 50,000 real ones; how they are resized is not said",
    ),
)
_RUNS = ("FFHQ 64 (EDM)", "ImageNet 64 (EDM)", "CIFAR-10 (DDIM)", "LCM-LoRA")
SPEED = Table(
    number="speed",
    title="Convergence: how many times faster than without the trajectory (Fig. 1, Fig. 6)",
    columns=_RUNS,
    rows=(
        Row(
            name="DisBack",
            kind="paper",
            values=dict(zip(_RUNS, ("2.46x", "2.57x", "13.09x", "1.5x"), strict=True)),
        ),
        Row(
            name="DisBack, in training steps",
            kind="ours",
            cells={
                column: f"speed/{data}"
                for column, data in zip(
                    _RUNS, ("ffhq64", "imagenet64", "cifar10", "lcm"), strict=True
                )
            },
        ),
    ),
    footnotes=(
        "The paper does not say which FID its factors are measured to; here it is what the run "
        "without trajectory ends at, unless --thresholds says otherwise, recording counted",
    ),
)
TABLES = {table.number: table for table in (TABLE_1, TABLE_2, TABLE_3, TABLE_4, SPEED)}
