"""Samples over training, a strip an arm: for the page to scrub, and five of each as a figure."""

from collections.abc import Sequence
from dataclasses import dataclass

from disback_plugin.lab.report.chart import alone, text
from disback_plugin.lab.report.curves import style_of
from disback_plugin.lab.report.formatting import number
from disback_plugin.lab.report.samples import (
    BOX,
    Picture,
    Samples,
    Window,
    drawable,
    load_samples,
    picture,
    reference_samples,
    sample_files,
    steps_shown,
    window_of,
)
from disback_plugin.lab.results.run_summary import arm_order
from disback_plugin.lab.results.runs import Run

# shares of the training at which a figure shows samples: more of the start, where arms differ most
SHOWN_AT = (0.0, 0.12, 0.25, 0.5, 1.0)
BYTES = 800_000  # of all pictures of a page
MOST_FRAMES = 48
MARGIN, HEAD, SPACE = 84, 26, 10  # of a figure: arm's name, step's, between pictures


@dataclass(frozen=True, kw_only=True)
class Frame:
    """What a strip shows at one step; `title` names it, `note` adds a number."""

    step: int
    title: str
    note: str
    picture: Picture

    def html(self, strip: str) -> str:
        """The picture for a page."""
        return self.picture.html(f"samples of {strip}, {self.title}".removesuffix(", "))


@dataclass(frozen=True, kw_only=True)
class Strip:
    """Frames in order of steps, of one arm; or one frame, of the data or the teacher."""

    name: str
    style: str
    frames: Sequence[Frame]


@dataclass(frozen=True, kw_only=True)
class Gallery:
    """references: data and teacher. arms: strips of one seed, which `about` tells."""

    about: str
    references: Sequence[Strip]
    arms: Sequence[Strip]

    @property
    def strips(self) -> list[Strip]:
        """The arms', then data and teacher."""
        return [*self.arms, *self.references]

    @property
    def steps(self) -> list[int]:
        """All steps that any arm has a frame of."""
        return sorted({frame.step for strip in self.arms for frame in strip.frames})


def gallery_of(runs: Sequence[Run], budget: int = BYTES) -> Gallery | None:
    """Of the seed that most arms have; as many steps as `budget` bytes take, at least five.

    None where there are no samples that can be drawn.
    """
    reference = {
        name: samples
        for name, samples in reference_samples(runs[0].out).items()
        if drawable(samples)
    }
    data = reference.get("data")
    shown = {run.arm: run for run in _one_run_an_arm(runs)}
    last = {}
    for arm, run in shown.items():
        files = sample_files(run)
        if files and drawable(samples := load_samples(files[max(files)])):
            last[arm] = samples
    if not last and not reference:
        return None
    firsts = [load_samples(next(iter(sample_files(shown[arm]).values()))) for arm in last]
    window = window_of([*reference.values(), *firsts, *last.values()], data)
    cost = sum(picture(samples, window, data).bytes for samples in last.values())
    most = min(max(budget // max(cost, 1), len(SHOWN_AT)), MOST_FRAMES)
    seed = next((shown[arm].seed for arm in last), None)
    return Gallery(
        about="" if seed is None else f"Samples of seed {seed}, the same noise at every step.",
        references=[
            Strip(name=title, style=style, frames=[_still(reference[name], window)])
            for name, title, style in (
                ("data", "real data", "of-data"),
                ("samples", "teacher, many steps", "of-teacher"),
            )
            if name in reference
        ],
        arms=[
            Strip(name=arm, style=style_of(arm), frames=_frames(shown[arm], most, window, data))
            for arm in last
        ],
    )


def training_figure(gallery: Gallery) -> str | None:
    """An SVG file: a row an arm, a column a step; None where no arm has samples."""
    rows = [(strip.name, strip.style, _five(strip)) for strip in gallery.arms]
    return _table(rows, "samples over training") if rows else None


def reference_figure(gallery: Gallery) -> str | None:
    """An SVG file: data beside the teacher's samples; None where there are none."""
    frames = [
        Frame(step=0, title=strip.name, note="", picture=strip.frames[0].picture)
        for strip in gallery.references
    ]
    return _table([("", "", frames)], "data and teacher") if frames else None


def _frames(run: Run, most: int, window: Window, data: Samples | None) -> list[Frame]:
    files = sample_files(run)
    shares = [(index / (most - 1)) ** 1.5 for index in range(most)]
    steps = list(files) if len(files) <= most else steps_shown(files, shares)
    values = {point.step: point.value for point in run.curve(run.primary).points}
    return [
        _frame(step, _value(run.primary, values.get(step)), load_samples(files[step]), window, data)
        for step in steps
    ]


def _value(metric: str, value: float | None) -> str:
    return "" if value is None else f"{metric} {number(value)}"


def _still(samples: Samples, window: Window) -> Frame:
    return Frame(step=0, title="", note="", picture=picture(samples, window))


def _frame(step: int, note: str, samples: Samples, window: Window, data: Samples | None) -> Frame:
    drawn = picture(samples, window, data)
    outside = getattr(drawn, "outside", 0.0)
    if outside > 0.005:
        note = f"{note}, {outside:.0%} outside".removeprefix(", ")
    title = "initial student" if step == 0 else f"step {step:,}"
    return Frame(step=step, title=title, note=note, picture=drawn)


def _five(strip: Strip) -> list[Frame]:
    steps = steps_shown([frame.step for frame in strip.frames], SHOWN_AT)
    return [frame for frame in strip.frames if frame.step in steps]


def _table(rows: Sequence[tuple[str, str, Sequence[Frame]]], label: str) -> str:
    margin = MARGIN if any(name for name, _, _ in rows) else SPACE
    side = BOX / 2
    parts = []
    for row, (name, style, frames) in enumerate(rows):
        top = row * (side + HEAD + SPACE)
        parts.append(f'<g class="{style}">')
        parts.append(text(margin - SPACE, top + HEAD + side / 2, name, "end", "arm-name"))
        for column, frame in enumerate(frames):
            left = margin + column * (side + SPACE)
            parts.append(text(left + side / 2, top + HEAD - 8, frame.title, "middle"))
            parts.append(
                f'<svg x="{left}" y="{top + HEAD}" width="{side}" height="{side}" '
                f'viewBox="0 0 {BOX} {BOX}">{frame.picture.svg()}</svg>'
            )
        parts.append("</g>")
    width = margin + max(len(frames) for _, _, frames in rows) * (side + SPACE)
    return alone("".join(parts), width, len(rows) * (side + HEAD + SPACE), label)


def _one_run_an_arm(runs: Sequence[Run]) -> list[Run]:
    """One run an arm: the seed that most arms have, the smallest of these."""
    seeds = [run.seed for run in runs]
    seed = min(seeds, key=lambda one: (-seeds.count(one), one))
    chosen = {run.arm: run for run in runs if run.seed == seed}
    return [chosen[arm] for arm in arm_order(set(chosen))]
