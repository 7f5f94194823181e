"""The page to look at, in a real browser: numbers by hand, pixels that move, names that stay text, no network."""

import json
import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import pytest
import scored

from microevo.benchmark.competitors import Truth, persistence
from microevo.benchmark.evaluation import Evaluation, Scores
from microevo.benchmark.long_table import FINITE, Block, Key
from microevo.benchmark.protocol import Protocol
from microevo.benchmark.report import build, write_report
from microevo.benchmark.report.html import page as page_of
from microevo.benchmark.results import Results
from microevo.metrics import squared_error

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine")

PIXELS, SHOWN = 8, [1, 2, 4]
HOSTILE = '<img src=x onerror="window.hacked=1">'
QUANTITY = {"name": "fraction", "title": "share of pixels, exactly", "error_title": "share of pixels, exactly"}
SPECTRUM = {
    "name": "spectrum",
    "title": "structure factor",
    "error_title": "structure factor, log ratio",
    "bins": {"title": "wave number", "unit": "rad/px", "middles": [0.1, 0.2, 0.3]},
    "fit": {"name": "growth_exponent", "unit": "1"},
}
SAME = {"unit": "px^2", "error_unit": "1", "values": True}


def made(
    folder: Path,
    *,
    protocols: dict[str, dict[str, Any]],
    rmse: dict[str, float],
    trajectories: int = 12,
    shape: tuple[int, int] = (PIXELS, PIXELS),
    quantities: bool = False,
) -> Results:
    """Results in which the RMSE of a model is its given number times the lead time, a little different per trajectory.

    The truth is a square of ones that grows with the lead time; each model adds its RMSE to it.
    """
    labels = {name: (name, None) for name in ("Truth", *rmse)}
    windows = [(i, 0) for i in range(trajectories)]
    results = Results(folder)
    settings = {
        name: {
            "horizon": options.get("horizon", 4),
            "note": options.get("note", ""),
            "windows": windows,
            "gallery_leads": SHOWN,
            "image_shape": list(shape),
            "quantities": [SAME | QUANTITY, SAME | SPECTRUM] if quantities else [],
        }
        for name, options in protocols.items()
    }
    for protocol, options in protocols.items():
        leads = np.arange(1, options.get("horizon", 4) + 1)
        spread = np.linspace(0.9, 1.1, trajectories)[:, None] ** 0.5
        truth = np.zeros((3, len(SHOWN), 1, *shape), np.float16)
        for i, lead in enumerate(SHOWN):
            truth[:, i, :, : lead + 1, : lead + 1] = 1
        for name in labels:
            error = options.get("scale", 1.0) * rmse.get(name, 0.0)
            root = np.float64(error * leads) * spread
            blocks = {FINITE: Block(np.ones((trajectories, len(leads))), leads)}
            if name != "Truth":
                blocks |= {Key("metric", "mse"): Block(root**2, leads), Key("metric", "ssim"): Block(1 - root, leads)}
            if quantities:
                blocks[Key("quantity", "fraction")] = Block(0.5 + root, leads)
                for k in range(3):
                    spectrum = Block(np.full((trajectories, 2), k + error), np.array([1, 4]))
                    blocks[Key("quantity", "spectrum", k)] = spectrum
                blocks[Key("fit", "growth_exponent")] = Block(np.full((trajectories, 1), 0.33))
            if quantities and name != "Truth":
                for of in ("fraction", "spectrum"):
                    blocks[Key("quantity_error", of)] = Block(np.full_like(root, error), leads)
            scored.add(results, protocol, name, name, None, blocks, windows)
            frames = results.table.frames_path(protocol, name)
            frames.parent.mkdir(parents=True, exist_ok=True)
            np.save(frames, truth + np.float16(error))
    (folder / "benchmark.json").write_text(json.dumps(scored.record(settings, labels)))
    return results


def write_page(results: Results, leads: list[int]) -> Path:
    """The page alone."""
    path = results.folder / "report.html"
    path.write_text(page_of(build(results, leads)), encoding="utf-8")
    return path


def spoil(results: Results, protocol: str, model: str, forecasts: int, lead: int) -> None:
    """Make the first forecasts of a model NaN from a lead time on."""
    path = results.table.part(protocol, model, 0)
    table = pd.read_parquet(path)
    lost = (table["trajectory"] < forecasts) & (table["lead"] >= lead)
    table.loc[lost, "value"] = np.nan
    table.loc[lost & (table["kind"] == "finite"), "value"] = 0.0
    table.to_parquet(path)
    frames = np.load(results.table.frames_path(protocol, model))
    frames[:forecasts, [shown >= lead for shown in SHOWN]] = np.nan
    np.save(results.table.frames_path(protocol, model), frames)


MODELS = {"FCN": 0.02, "ConvLSTM": 0.03, "Persistence": 0.1, "Reference solver": 0.002}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def look(browser: Any) -> Iterator[Any]:
    """Open a page; afterwards no error was logged and nothing was requested but the file."""
    messages: list[str] = []
    requests: list[str] = []
    contexts = []

    def look(path: Path, **options: Any) -> Any:
        context = browser.new_context(**({"viewport": {"width": 1280, "height": 800}} | options))
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)  # of a page that never loads; a busy machine may take many seconds
        page.on("console", lambda message: messages.append(message.text))
        page.on("pageerror", lambda error: messages.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(path.as_uri())
        return page

    yield look
    for context in contexts:
        context.close()
    assert not messages
    assert len(requests) == len(contexts)
    assert all(url.startswith("file:") and url.endswith("/report.html") for url in requests)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two protocols, physical quantities and a cost table."""
    folder = tmp_path_factory.mktemp("plain")
    protocols = {"10->4": {"note": "Fitted to published samples."}, "10->8": {"horizon": 8, "scale": 2.0}}
    results = made(folder, protocols=protocols, rmse=MODELS, quantities=True)
    cost = {"competitor": [*MODELS], "parameters": [2e7, 1e7, 0, math.nan], "seconds": [0.01, 0.02, 1e-5, 0.5]}
    results.write_cost(pd.DataFrame(cost).assign(device="a machine", protocol="10->4"))
    return write_page(results, [1, 4, 50])


def rows(page: Any, table: str = "board") -> list[list[str]]:
    """Cells of a table, first lines only: means without their intervals."""
    body = page.locator(f"#{table} tbody tr")
    return [
        [cell.split("\n")[0] for cell in body.nth(i).locator("th, td").all_inner_texts()] for i in range(body.count())
    ]


def pixels(page: Any, canvas: str) -> list[int]:
    script = """canvas => {
        const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext('2d', { willReadFrequently: true });
        copy.drawImage(canvas, 0, 0);
        return [...copy.getImageData(0, 0, canvas.width, canvas.height).data];
    }"""
    return page.locator(canvas).evaluate(script)


def settle(page: Any) -> None:
    """Wait for the frames that belong to the controls as they are."""
    page.evaluate("show()")


def until(page: Any, element: str, text: str) -> None:
    """Wait for a text; the page's own policy forbids what `wait_for_function` does."""
    sync_api.expect(page.locator(element)).to_contain_text(text)


def test_the_answer_is_in_the_first_screen(plain, look):
    page = look(plain)
    facts = page.locator("#facts")
    text = facts.inner_text()
    assert facts.bounding_box()["y"] + facts.bounding_box()["height"] < 800
    # RMSE grows with the lead: the mean over four leads is 2.5 times that at lead 1.
    assert "FCN" in text
    assert "mean RMSE 0.05 " in text
    assert "33 % below ConvLSTM" in text
    assert "80 % below Persistence" in text
    assert "Yes" in text  # every trajectory says so
    assert "0.8" in text.split("\n")  # 1 - 0.02 / 0.1
    assert "10 ms per forecast" in text
    assert "50 times faster than the reference solver, in 10→4, on a machine" in text
    assert "Fitted to published samples." in page.locator("#note").inner_text()


def test_leaderboard_by_hand(plain, look):
    page = look(plain)
    head = page.locator("#board thead th").all_inner_texts()
    assert head[2:] == [
        "RMSE, mean",
        "Skill score",
        "at lead 1",
        "at lead 4",
        "SSIM, mean",
    ]  # lead 50 is beyond the horizon
    table = {row[0]: row[2:] for row in rows(page)}
    assert list(table) == ["Reference solver", "FCN", "ConvLSTM", "Persistence"]
    assert table["FCN"] == ["0.0500", "0.800", "0.0200", "0.0800", "0.950"]
    assert table["Persistence"][1] == ""  # the baseline itself
    bold = page.locator("#board .best").all_inner_texts()
    assert [cell.split("\n")[0] for cell in bold] == [
        "0.0500",
        "0.0200",
        "0.0800",
        "0.950",
    ]  # the reference solver aside
    assert "baseline" in page.locator("#board tr", has_text="Persistence").inner_text()
    assert "reference" in page.locator("#board tr", has_text="Reference solver").inner_text()
    assert "All models differ significantly" in page.locator("#notes").inner_text()


@pytest.mark.slow
def test_choosing_a_protocol_changes_everything(plain, look):
    page = look(plain)
    before = rows(page)
    page.get_by_label("10→4").focus()
    page.keyboard.press("ArrowRight")
    after = {row[0]: row[2:] for row in rows(page)}
    assert after["FCN"][0] == "0.180"  # 2 * 0.02 * 4.5
    assert [row[0] for row in before] == list(after)
    assert page.locator("#note").is_hidden()
    assert "8 target frames" in page.locator("#settings").inner_text()
    page.get_by_text("10→4", exact=True).first.click()
    assert rows(page) == before


def test_sorting_and_other_scores(plain, look):
    page = look(plain)
    page.get_by_role("button", name="Model").click()
    assert [row[0] for row in rows(page)] == ["ConvLSTM", "FCN", "Persistence", "Reference solver"]
    assert page.locator("#board [aria-sort]").get_attribute("aria-sort") == "ascending"
    page.keyboard.press("Enter")  # the heading keeps the focus
    assert [row[0] for row in rows(page)] == ["Reference solver", "Persistence", "FCN", "ConvLSTM"]
    page.locator("#metric").select_option("ssim")
    assert page.locator("#board thead th").all_inner_texts()[2] == "SSIM, mean"
    assert "SSIM at lead" in page.locator("#reading caption").inner_text()


@pytest.mark.slow
def test_the_slider_moves_the_frames(plain, look):
    page = look(plain)
    settle(page)
    truth = pixels(page, "#truth")
    assert len(truth) == 4 * PIXELS**2
    white, black = ([*matplotlib.colormaps["magma"](level, bytes=True)] for level in (255, 0))
    assert truth[:4] == black  # the top left corner; the square is at the bottom, as y points up
    assert truth[-4 * PIXELS :][:4] == white
    slider = page.get_by_role("slider", name="Lead time", exact=True)
    slider.focus()
    page.keyboard.press("End")
    settle(page)
    assert "lead 4, 20 t0" in page.locator("#when").inner_text()
    moved = pixels(page, "#truth")
    assert moved != truth
    assert np.array_equal(np.reshape(moved, (PIXELS, PIXELS, 4))[-5:, :5], np.broadcast_to(white, (5, 5, 4)))
    page.evaluate(
        """() => { window.seen = []; const when = document.getElementById("when");
            new MutationObserver(() => seen.push(when.textContent)).observe(when, { childList: true }); }"""
    )
    page.locator("#play").click()  # at the end: from the beginning
    until(page, "#play", "Play")  # stops at the end by itself
    settle(page)
    assert {text.split(",")[0] for text in page.evaluate("seen")} >= {"lead 1", "lead 4"}
    assert "lead 4" in page.locator("#when").inner_text()
    page.keyboard.press("ArrowLeft")  # with the focus on the button
    assert "lead 2" in page.locator("#when").inner_text()


def test_choice_of_model_and_trajectory(plain, look):
    page = look(plain)
    settle(page)
    assert page.locator("#forecast-title").inner_text() == "FCN"
    error = pixels(page, "#error")
    page.get_by_label("Persistence").check(force=True)
    settle(page)
    assert page.locator("#forecast-title").inner_text() == "Persistence"
    assert (
        "RMSE 0.09" in page.locator("#error-title").inner_text()
    )  # 0.1 times the root of 0.9, of the first trajectory
    assert pixels(page, "#error") != error
    page.get_by_label("Trajectory").select_option("2")
    settle(page)
    assert "RMSE 0.096" in page.locator("#error-title").inner_text()


def test_curves_are_read_by_pointer_and_keys(plain, look):
    page = look(plain)
    chart = page.get_by_role("slider", name="RMSE against lead time")
    assert chart.locator("polyline").count() == len(MODELS)
    assert chart.locator("polygon").count() == len(MODELS)  # the bands
    chart.focus()
    page.keyboard.press("End")
    assert "lead 4 (20 t0)" in page.locator("#reading caption").inner_text()
    assert "FCN 0.0800" in chart.get_attribute("aria-valuetext")
    box = chart.bounding_box()
    page.mouse.move(box["x"] + 60, box["y"] + 100)
    assert "lead 1 " in page.locator("#reading caption").inner_text()
    page.locator("#reading").get_by_role("button", name="FCN").click()
    assert chart.locator("polyline").count() == len(MODELS) - 1
    before = chart.locator("polyline").first.get_attribute("points")
    page.locator("#log").check()
    assert chart.locator("polyline").first.get_attribute("points") != before


def test_physics_beside_the_truth(plain, look):
    page = look(plain)
    figure = page.locator("#quantities figure")
    assert figure.count() == 1
    assert "SHARE OF PIXELS" in figure.inner_text().upper()
    assert figure.locator("polyline").count() == len(MODELS) + 1
    assert "Truth 0.5" in figure.locator("output").inner_text()
    assert page.locator("#bins polyline").count() == len(MODELS) + 1
    assert page.locator("#bin-lead option").all_inner_texts() == ["1", "4"]
    assert rows(page, "fits")[0][1:] == ["0.330"] * 5
    assert rows(page, "errors")[0][1:] == ["0.00200", "0.0200", "0.0300", "0.100"]


def test_cost_is_shown_where_it_is_known(plain, look):
    page = look(plain)
    assert page.locator("#trade circle").count() == 3  # the baseline is a line
    page.locator("#against").select_option("parameters")
    assert page.locator("#trade circle").count() == 2
    assert {row[0]: row[1:] for row in rows(page, "cost")}["FCN"] == ["20", "0.01", "a machine", "10→4"]


def test_without_a_reference_solver(tmp_path, look):
    page = look(write_page(made(tmp_path, protocols={"10->4": {}}, rmse={"FCN": 0.1}), [1]))
    assert "Skill score" not in page.locator("#board").inner_text()
    assert page.locator("#price").is_hidden()
    assert page.locator("#physics").is_hidden()
    assert page.locator("#all").is_hidden()
    assert "Not measured" in page.locator("#facts").inner_text()


@pytest.mark.slow
def test_names_are_text(tmp_path, look):
    evil = "</script><script>window.hacked=1</script>"
    rmse = {HOSTILE: 0.01, evil: 0.02, "__proto__": 0.03, "{{data}}": 0.05, "Persistence": 0.1}
    results = made(tmp_path, protocols={HOSTILE: {"note": evil}}, rmse=rmse, quantities=True)
    results.write_cost(pd.DataFrame({"competitor": [HOSTILE, evil], "seconds": [1.0, 2.0], "device": [HOSTILE, evil]}))
    page = look(write_page(results, [1]))
    settle(page)
    assert [row[0] for row in rows(page)] == list(rmse)
    assert HOSTILE in page.locator("#facts").inner_text()
    assert HOSTILE in page.locator("#protocols").inner_text()
    assert evil in page.locator("#note").inner_text()
    assert page.locator("img, script").count() == 2  # the data and the one script
    assert page.evaluate("window.hacked") is None


@pytest.mark.slow
def test_forecasts_that_are_not_finite_are_counted(tmp_path, look):
    results = made(tmp_path, protocols={"10->4": {}}, rmse=MODELS)
    spoil(results, "10->4", "FCN", forecasts=2, lead=3)
    page = look(write_page(results, [1, 4]))
    table = {row[0]: row[2:] for row in rows(page)}
    assert table["FCN"] == ["NaN", "", "2 of 12", "0.0200", "NaN", "NaN"]
    assert list(table)[:2] == ["Reference solver", "ConvLSTM"]  # what has no mean is not ranked
    assert "ConvLSTM" in page.locator("#facts dd").first.inner_text()
    assert "2 of 12 forecasts are not finite" in page.locator("#notes").inner_text()
    page.get_by_role("button", name="RMSE, mean").click()
    page.get_by_role("button", name="RMSE, mean").click()
    assert rows(page)[-1][0] == "FCN"  # last in either direction
    assert page.locator("#chart").get_by_text("×").count() == 1  # where its line ends
    page.get_by_label("FCN").check(force=True)
    page.get_by_role("slider", name="Lead time", exact=True).focus()
    page.keyboard.press("End")
    settle(page)
    assert pixels(page, "#forecast")[:4] == [176, 176, 176, 255]
    assert pixels(page, "#error")[:4] == [176, 176, 176, 255]


@pytest.mark.parametrize("size", [8, pytest.param(256, marks=pytest.mark.slow)])  # as it is, and reduced
def test_huge_forecasts_take_the_end_colours(tmp_path, look, size):
    results = made(tmp_path, protocols={"10->4": {}}, rmse=MODELS, shape=(size, size))
    path = results.table.frames_path("10->4", "FCN")
    frames = np.load(path)
    frames[..., : size // 2, :] = 65504  # the largest of float16: y points up, so these are the rows at the bottom
    frames[..., size // 2 :, :] = -np.inf
    frames[..., size // 2 :, : size // 2] = np.nan
    np.save(path, frames)
    page = look(write_page(results, [1, 4]))
    settle(page)
    high, low = ([*matplotlib.colormaps["magma"](level, bytes=True)] for level in (255, 0))
    red, blue = ([*matplotlib.colormaps["RdBu_r"](level, bytes=True)] for level in (255, 0))
    side = min(size, 128)
    for canvas, above, below in (("#forecast", low, high), ("#error", blue, red)):
        shown = np.reshape(pixels(page, canvas), (side, side, 4))
        assert (shown[: side // 2, : side // 2] == [176, 176, 176, 255]).all()
        assert (shown[: side // 2, side // 2 :] == above).all()
        assert (shown[side // 2 :] == below).all()


def ticks(page: Any, chart: str) -> list[str]:
    """Labels of the vertical axis."""
    return page.locator(f"{chart} svg > g > text").all_inner_texts()


@pytest.mark.parametrize(("low", "high"), [(15.9, 24.0), (0.031, 0.9), (2.1e-5, 0.4), (0.99, 1.01), (110.0, 640.0)])
def test_a_logarithmic_axis_has_several_ticks(plain, look, low, high):
    page = look(plain)
    values = page.evaluate(f"decades({low}, {high})")
    assert 3 <= len(values) <= 7
    assert all(low * 0.99 <= value <= high * 1.01 for value in values)
    labels = page.evaluate(
        f"axis(decades({low}, {high}), false, Math.log, 300, 200, {{left: 0, right: 0, bottom: 0}}).map(tick => tick.textContent)"
    )
    assert len(set(labels)) == len(values)


def test_the_charts_use_these_ticks(plain, look):
    page = look(plain)
    page.locator("#log").check()
    page.locator("#log-physics").check()
    assert len(ticks(page, "#chart")) >= 3
    assert len(ticks(page, "#quantity0")) >= 3  # 0.5 to 0.9: within a decade


def test_a_difference_that_is_not_significant(tmp_path, look):
    results = made(tmp_path, protocols={"10->4": {}}, rmse={"FCN": 0.02, "ConvLSTM": 0.0201, "Persistence": 0.1})
    path = results.table.part("10->4", "ConvLSTM", 0)
    table = pd.read_parquet(path)
    table["value"] *= np.where(table["name"] == "mse", np.where(table["trajectory"] % 2, 0.5, 1.5), 1)
    table.to_parquet(path)
    page = look(write_page(results, [1]))
    assert "No" in page.locator("#facts").inner_text().split("\n")
    assert "FCN and ConvLSTM" in page.locator("#notes").inner_text()


def test_one_trajectory_is_no_evidence(tmp_path, look):
    page = look(write_page(made(tmp_path, protocols={"10->4": {}}, rmse=MODELS, trajectories=1), [1]))
    assert "Unknown" in page.locator("#facts").inner_text()
    assert "Only 1 trajectory" in page.locator("#notes").inner_text()


def test_few_trajectories_have_no_significant_difference(tmp_path, look):
    page = look(write_page(made(tmp_path, protocols={"10->4": {}}, rmse=MODELS, trajectories=4), [1]))
    assert "Unknown" in page.locator("#facts").inner_text()
    assert "Only 4 trajectories: too few for a significant difference" in page.locator("#notes").inner_text()


def test_perfect_forecasts_of_one_frame(tmp_path, look):
    rmse = {"FCN": 0.0, "ConvLSTM": 0.0, "Persistence": 0.0}
    results = made(tmp_path, protocols={"10->4": {}}, rmse=rmse, trajectories=10)
    for model in ("Truth", *rmse):
        path = results.table.part("10->4", model, 0)
        table = pd.read_parquet(path)
        table[table["lead"] == 1].to_parquet(path)
        frames = results.table.frames_path("10->4", model)
        np.save(frames, np.load(frames)[:, :1])
    record = results.record
    record["protocols"]["10->4"] |= {"horizon": 1, "gallery_leads": [1]}
    (tmp_path / "benchmark.json").write_text(json.dumps(record))
    page = look(write_page(Results(tmp_path), [1]))
    settle(page)
    assert "0 % below" in page.locator("#facts").inner_text()
    assert "No" in page.locator("#facts").inner_text().split("\n")
    assert page.locator("#chart circle").count() >= 3
    assert len(set(map(tuple, np.reshape(pixels(page, "#error"), (-1, 4))))) == 1


def test_an_interrupted_benchmark_says_what_is_missing(tmp_path, look):
    results = made(tmp_path, protocols={"10->4": {}, "10->8": {"horizon": 8}}, rmse=MODELS)
    path = results.table.part("10->4", "ConvLSTM", 0)
    table = pd.read_parquet(path)
    table[table["trajectory"] < 5].to_parquet(path)
    results.table.frames_path("10->4", "FCN").unlink()
    for file in results.table.group("10->8", "Truth").parent.rglob("*.parquet"):
        file.unlink()
    page = look(write_page(results, [1]))
    assert [row[0] for row in rows(page)] == ["Reference solver", "FCN", "Persistence"]
    assert "ConvLSTM is left out: 5 of its 12 forecasts are done" in page.locator("#notes").inner_text()
    settle(page)
    assert page.locator("#shown label").count() == 2  # those with frames
    page.get_by_text("10→8", exact=True).first.click()
    assert rows(page) == []
    assert "0 of its 12 forecasts" in page.locator("#notes").inner_text()
    assert page.locator("#gallery").is_hidden()


@pytest.mark.parametrize("scheme", [pytest.param("light", marks=pytest.mark.slow), "dark"])
def test_on_a_phone(tmp_path, look, scheme):
    names = {**MODELS, "the-very-long-name-of-a-model-that-somebody-submitted": 0.05}
    protocols = {f"10->4 with a long name {i}": {"note": "word" * 50} for i in range(4)}
    results = made(tmp_path, protocols=protocols, rmse=names, quantities=True)
    results.write_cost(pd.DataFrame({"competitor": [*names], "seconds": np.geomspace(1e-3, 1, 5)}))
    page = look(
        write_page(results, [1, 2, 3, 4]), viewport={"width": 390, "height": 844}, color_scheme=scheme, has_touch=True
    )
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    page.evaluate("document.querySelector('#metric').append(new Option('a long name '.repeat(9)))")
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    for summary in page.locator("summary").all()[1:]:
        summary.click()
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    ink, paper = (
        np.array(
            json.loads(
                page.evaluate(f"getComputedStyle(document.documentElement).{of}").replace("rgb(", "[").replace(")", "]")
            )
        )
        for of in ("color", "backgroundColor")
    )
    assert (ink.mean() > 200 > 50 > paper.mean()) if scheme == "dark" else (paper.mean() > 200 > 50 > ink.mean())


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_truth_and_reference_are_drawn_in_the_ink_of_the_page(plain, look, scheme):
    page = look(plain, color_scheme=scheme)
    ink = page.evaluate("getComputedStyle(document.documentElement).color")
    stroke = "line => getComputedStyle(line).stroke"
    for name in ("Truth", "Reference solver"):
        swatch = page.locator("#key span", has_text=name).locator("line")
        assert swatch.evaluate(stroke) == ink
    row = page.locator("#board tr", has_text="Reference solver")
    assert row.locator("line").first.evaluate(stroke) == ink
    assert row.locator("circle").evaluate("dot => getComputedStyle(dot).fill") == ink


def test_scores_are_in_sight_on_a_phone(plain, look):
    page = look(plain, viewport={"width": 375, "height": 812})
    for row in page.locator("#board tbody tr").all():
        score = row.locator("td:visible").first
        assert score.inner_text()
        assert score.bounding_box()["x"] + score.bounding_box()["width"] <= 375 - 14


@pytest.mark.slow
def test_everything_has_a_name_and_can_be_reached(plain, look):
    page = look(plain)
    unnamed = page.evaluate(
        """[...document.querySelectorAll('input, select, button, [tabindex]')].filter(node =>
            !node.labels?.length && !node.textContent.trim() && !node.ariaLabel).length"""
    )
    assert unnamed == 0
    reached = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        reached.add(
            page.evaluate("document.activeElement.id || document.activeElement.name || document.activeElement.tagName")
        )
    assert {"protocol", "metric", "log", "chart", "window", "play", "frame", "shown", "bin-lead", "against"} <= reached


def test_large_frames_are_reduced(tmp_path, look):
    results = made(tmp_path, protocols={"10->4": {}}, rmse=MODELS, shape=(256, 200))
    path = write_page(results, [1])
    assert path.stat().st_size < 3_000_000
    page = look(path)
    settle(page)
    assert page.locator("#truth").evaluate("c => [c.width, c.height]") == [100, 128]
    assert "1/2 of their resolution" in page.locator("#gallery-note").inner_text()


def test_a_real_evaluation(small_store, tmp_path, look):
    protocols = {"10->6": Protocol(store=str(small_store), horizon=6, starts=[0, 4])}
    scores = {"10->6": Scores(pixel={"mse": squared_error})}
    evaluation = Evaluation(protocols, [persistence(1)], scores, ["c"], tmp_path / "results")
    results = Results.write(evaluation, {})
    evaluation.run(progress=False)
    write_report(results, [1])
    path = tmp_path / "results" / "report.html"
    assert not list(path.parent.glob(".*"))  # complete, and nothing left beside it
    table = results.table.read()
    table = table[table["name"] == "mse"]
    expected = math.sqrt(table[table["lead"] == 1]["value"].mean())
    page = look(path)
    assert float(rows(page)[0][3]) == pytest.approx(expected, rel=0.01)
    settle(page)
    assert page.locator("#window option").all_inner_texts()[1].endswith("from frame 4")
    assert Truth().label not in page.locator("#board").inner_text()
