"""Samples over training: which steps, what is drawn of them, and how much a page holds."""

import base64
import io
import json
import re

import numpy as np
import pytest
from PIL import Image

from disback_plugin.lab.report import build_report
from disback_plugin.lab.report.gallery import gallery_of, training_figure
from disback_plugin.lab.report.samples import image_grid, picture, steps_shown, window_of
from disback_plugin.lab.results.runs import read_runs

LIMIT = 3_000_000  # bytes of a page


def test_every_step_is_there_where_they_fit_and_else_the_first_and_the_last(
    make_experiment,
) -> None:
    built = make_experiment()
    built.add("fixed", 0, dict.fromkeys(range(0, 101, 10), 1.0))
    runs = read_runs([built.out])
    (strip,) = gallery_of(runs).arms
    assert [frame.step for frame in strip.frames] == list(range(0, 101, 10))
    assert strip.frames[0].title == "initial student"
    assert strip.frames[3].note == "fd_pixel 1"
    (strip,) = gallery_of(runs, budget=1).arms
    steps = [frame.step for frame in strip.frames]
    assert (len(steps), steps[0], steps[-1]) == (5, 0, 100)
    assert steps[1] < 25  # more of the start


def test_steps_shown_are_those_nearest_to_the_shares() -> None:
    assert steps_shown(range(0, 101, 10), (0.0, 0.12, 0.25, 0.5, 1.0)) == [0, 10, 20, 50, 100]


def test_the_figure_has_five_steps_an_arm(make_experiment) -> None:
    built = make_experiment()
    for arm in ("disback", "fixed"):
        built.add(arm, 0, dict.fromkeys(range(0, 101, 10), 1.0))
    figure = training_figure(gallery_of(read_runs([built.out])))
    assert figure.count("<image ") == 2 * 5
    assert re.findall(r"step \d+|initial student", figure)[:5] == [
        "initial student", "step 10", "step 20", "step 50", "step 100",
    ]  # fmt: skip


def test_image_grid_places_each_image_in_reading_order() -> None:
    images = np.stack([np.full((1, 2, 2), value) for value in (-1.0, 0.0, 1.0, 3.0, np.nan)])
    grid = image_grid(images)
    assert grid.shape == (8, 8)
    assert [grid[0, 0], grid[0, 3], grid[0, 6], grid[3, 0], grid[3, 3]] == [0.0, 0.5, 1.0, 1.0, 0.0]
    assert image_grid(np.zeros((4, 3, 2, 2))).shape == (5, 5, 3)


def opened(grid) -> Image.Image:
    head, text = grid.uri.split(",")
    assert head in ("data:image/png;base64", "data:image/jpeg;base64")
    return Image.open(io.BytesIO(base64.b64decode(text)))


def test_small_images_are_exact_and_the_page_shines_through_between_them() -> None:
    samples = np.linspace(-1, 1, 4 * 3 * 8 * 8).reshape(4, 3, 8, 8).astype(np.float32)
    grid = picture(samples, window_of([samples], None))
    drawn = np.asarray(opened(grid))
    assert drawn.shape == (17, 17, 4)
    expected = np.round((samples[0].transpose(1, 2, 0) + 1) / 2 * 255)
    assert np.array_equal(drawn[:8, :8, :3], expected)
    assert (drawn[8, :, 3] == 0).all()
    assert (drawn[:8, :8, 3] == 255).all()


@pytest.mark.parametrize("side", [64, 128])
def test_large_images_are_made_small(side: int) -> None:
    samples = np.random.default_rng(0).uniform(-1, 1, (36, 3, side, side)).astype(np.float32)
    grid = picture(samples, window_of([samples], None))
    assert max(opened(grid).size) <= 320
    assert grid.bytes < 120_000


def test_points_are_drawn_over_the_data_within_one_window() -> None:
    data = np.array([[0.0, 0.0], [1.0, 1.0]], dtype=np.float32)
    samples = np.array([[0.5, 0.5], [0.0, 1.0], [9.0, 9.0], [0.5, np.nan]], dtype=np.float32)
    window = np.zeros(2), np.ones(2)
    cloud = picture(samples, window, data)
    ways = dict(cloud.ways)
    assert ways == {"data": "M0 300h0M300 0h0", "": "M150 150h0M0 0h0"}
    assert cloud.outside == 0.5


@pytest.mark.parametrize("data_shape", [(2,), (3, 8, 8), (5,)])
def test_points_and_colour_images_are_drawn_and_other_shapes_are_not(make_experiment, data_shape):
    built = make_experiment(data_shape=data_shape)
    built.add("disback", 0, {0: 90, 10: 60})
    build_report([built.out], built.out)
    drawn = (built.out / "figures" / "samples_training.svg").exists()
    assert drawn == (data_shape != (5,))
    page = (built.out / "report.html").read_text()
    steps = re.findall(r"data-steps=\"(.*?)\"", page)
    assert [json.loads(text) for text in steps] == ([[0, 10]] if drawn else [])


@pytest.mark.thorough
def test_a_page_of_large_images_and_many_steps_stays_small(make_experiment) -> None:
    """Noise does not compress: nothing is larger; three arms, two seeds, 300 evaluations."""
    built = make_experiment(data_shape=(3, 64, 64))
    rng = np.random.default_rng(0)
    for arm in ("disback", "fixed", "warm"):
        for seed in range(2):
            curve = {step: float(value) for step, value in enumerate(rng.uniform(1, 100, 300))}
            built.add(arm, seed, curve, others={"fd_feature": 3.0})
    build_report([built.out], built.out)
    assert (built.out / "report.html").stat().st_size < LIMIT
