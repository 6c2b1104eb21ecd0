"""The report as a reader sees it: in Chromium, at two widths, light and dark.

Skipped where Chromium or playwright is not installed. Nothing may be asked of a network: every
request but the file's own fails the test.
"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from disback_plugin.lab.report import build_report
from tests.lab.report.test_page import filled

playwright = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium"),
]
SIZES = {"desktop": (1280, 900), "phone": (390, 844), "small phone": (320, 568)}
LOOKS = Path(__file__).with_name("looks.js").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def files(make_experiment, tmp_path_factory) -> dict[str, Path]:
    """Reports of images, of points, and of two experiments side by side."""
    images, points = filled(make_experiment()), make_experiment(data_shape=(2,), name="points")
    for arm in ("disback", "fixed", "warm"):
        for seed in range(3):
            curve = {step: 60.0 / (1 + step * (1 + seed)) for step in range(0, 900, 60)}
            points.add(arm, seed, curve)
    apart = make_experiment(name="apart")
    for seed in range(2):
        apart.add("disback", seed, {5 * seed: 9.0, 7 + seed: 5.0})
    out = tmp_path_factory.mktemp("pages")
    folders = {"images": [images.out], "points": [points.out], "both": [images.out, points.out]}
    folders["apart"] = [apart.out]
    for name, runs in folders.items():
        build_report(runs, out / name)
    return {name: out / name / "report.html" for name in folders}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield opened
        opened.close()


@pytest.fixture
def show(browser, files) -> Iterator[Any]:
    """show(report, size, scheme): its page; at the end nothing was said and nothing was loaded."""
    said: list[str] = []
    contexts = []

    def opened(name: str, size: str = "desktop", scheme: str = "light", **more: Any) -> Any:
        width, height = SIZES[size]
        viewport = {"width": width, "height": height}
        context = browser.new_context(viewport=viewport, color_scheme=scheme, **more)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: requested(request.url))
        page.goto(files[name].as_uri())
        return page

    def requested(url: str) -> None:
        if not url.startswith(("data:", "file:")):
            said.append(f"asked for {url}")

    yield opened
    for context in contexts:
        context.close()
    assert said == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", ["images", "points", "both"])
def test_nothing_overflows_collides_or_is_hard_to_read(show, name, size, scheme) -> None:
    page = show(name, size, scheme)
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true })")
    assert page.evaluate("document.documentElement.scrollWidth") <= SIZES[size][0]
    assert page.evaluate(f"{LOOKS}; overflowing()") == []
    assert page.evaluate(f"{LOOKS}; colliding()") == []
    contrast = page.evaluate(f"{LOOKS}; contrast()")
    assert contrast["number"] > 100
    assert contrast["found"] == []
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor") != "rgb(255, 255, 255)"
    assert dark == (scheme == "dark")


def test_a_chart_of_seeds_without_a_common_step_has_no_values_to_tell(show) -> None:
    page = show("apart")
    chart_of(page).hover()
    assert page.locator(".tip:visible").count() == 0


def test_experiments_stand_beside_one_another_on_a_wide_page_only(show) -> None:
    for size, beside in (("desktop", True), ("phone", False)):
        page = show("both", size)
        charts = page.locator(".rows > .side:first-child svg.chart:visible")
        left, right = (chart.bounding_box() for chart in charts.all())
        assert (left["y"] == right["y"]) == beside
        assert left["width"] == pytest.approx(right["width"], abs=1)
        assert right["width"] <= 560


def chart_of(page: Any) -> Any:
    return page.locator("svg.chart:visible").first


@pytest.mark.parametrize("size", ["desktop", "phone"])
def test_a_chart_tells_its_values_to_a_pointer(show, size) -> None:
    page = show("images", size)
    chart, tip = chart_of(page), page.locator(".tip").first
    chart.scroll_into_view_if_needed()
    box = chart.bounding_box()
    for share, place in (
        (0.12, "passes 0, recording"),
        (0.52, "passes 160, node 1"),
        (0.92, "passes 320, teacher"),
    ):
        chart.hover(position={"x": share * box["width"], "y": box["height"] / 2})
        assert tip.locator("b").text_content() == place
        inside, plot = tip.bounding_box(), page.locator(".plot").first.bounding_box()
        assert plot["x"] - 1 <= inside["x"]
        assert inside["x"] + inside["width"] <= plot["x"] + plot["width"] + 1
    lines = tip.locator("div").all_text_contents()
    assert lines[1:] == ["disback 4.5 (4 to 5)", "fixed 8.5 (8 to 9)", "warm 45"]
    page.mouse.move(1, 1)
    assert not tip.is_visible()


def test_a_tap_shows_values_until_something_else_is_tapped(show) -> None:
    page = show("images", "phone", has_touch=True)
    tip, chart = page.locator(".tip").first, chart_of(page)
    chart.scroll_into_view_if_needed()
    chart.tap()
    assert tip.locator("b").text_content() == "passes 160, node 1"
    page.locator("h2#curves").tap()
    assert not tip.is_visible()


def test_a_chart_is_read_by_the_keyboard_and_aloud(show) -> None:
    page = show("images")
    chart, said = chart_of(page), page.locator("[aria-live]").first
    chart.focus()
    for key, place in (
        ("ArrowRight", "0, recording"),
        ("ArrowRight", "80, recording"),
        ("End", "320, teacher"),
        ("ArrowLeft", "240, teacher"),
        ("Home", "0, recording"),
    ):
        page.keyboard.press(key)
        assert said.text_content().startswith(f"passes {place}; disback ")
    page.keyboard.press("Escape")
    assert not page.locator(".tip").first.is_visible()


def test_units_axes_and_arms_are_chosen_for_all_charts(show) -> None:
    page = show("images")
    shown = page.locator("svg.chart:visible")
    assert "passes linear" in shown.first.get_attribute("class")
    page.locator("#unit-seconds").check(force=True)
    page.locator("#kind-early").check(force=True)
    assert shown.count() == 1  # the other metric is folded away
    assert "seconds early" in shown.first.get_attribute("class")
    fixed = shown.first.locator(".arm-fixed .middle")
    assert fixed.is_visible()
    page.locator("#show-arm-fixed").uncheck(force=True)
    assert not fixed.is_visible()
    shown.first.focus()
    page.keyboard.press("End")
    assert "fixed" not in page.locator("[aria-live]").first.text_content()


def test_the_slider_scrubs_all_arms_through_training(show) -> None:
    page = show("images", "phone")
    slider, told = page.locator("input[type=range]"), page.locator("output")
    notes = page.locator(".strip:has(.frame:nth-child(2)) .frame.on p")
    assert told.text_content() == "step 40"
    assert notes.all_text_contents()[:2] == ["step 40, fd_pixel 4", "step 40, fd_pixel 8"]
    slider.focus()
    page.keyboard.press("Home")
    assert told.text_content() == "step 0"
    page.keyboard.press("ArrowRight")
    assert notes.all_text_contents()[:2] == ["step 10, fd_pixel 60", "step 10, fd_pixel 40"]
    page.locator("button").click()
    page.wait_for_function("document.querySelector('output').textContent === 'step 40'")
    assert page.locator("button").text_content() == "Play"


def test_a_table_is_downloaded_from_the_page(show, tmp_path) -> None:
    page = show("images", accept_downloads=True)
    with page.expect_download() as waiting:
        page.get_by_role("link", name="finals.csv").click()
    assert waiting.value.suggested_filename == "toy-finals.csv"
    waiting.value.save_as(tmp_path / "finals.csv")
    assert "fd_pixel,disback,1,5.0,5.0\n" in (tmp_path / "finals.csv").read_text()


def test_without_script_the_page_is_whole(show) -> None:
    page = show("images", "phone", java_script_enabled=False)
    assert chart_of(page).is_visible()
    assert not page.locator(".player").is_visible()
    frames = page.locator(".strip.arm-disback .frame")
    assert frames.count() == 5
    assert all(frame.is_visible() for frame in frames.all())
    page.locator("#unit-steps").check(force=True)
    assert "steps linear" in chart_of(page).get_attribute("class")
