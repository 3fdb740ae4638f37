"""The page in a real headless browser: offline, silent, it scrubs, sorts, fits a phone."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import report_fixture

from orderhead.report import build

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = pytest.mark.browser

ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
PAINT = "() => [...document.querySelectorAll('.tile canvas')].map((c) => c.toDataURL())"


@pytest.fixture(scope="module")
def browser() -> Iterator[sync_api.Browser]:
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("no chromium on this machine")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def address(folder: Path) -> str:
    return build(folder).as_uri()


def opened(browser: sync_api.Browser, address: str, width: int = 1280, **options: object) -> Iterator[sync_api.Page]:
    """A ready page; afterwards: nothing was asked of any host and nothing was complained about."""
    context = browser.new_context(viewport={"width": width, "height": 900}, **options)  # type: ignore[arg-type]
    page, asked, complaints = context.new_page(), [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(address)
    page.wait_for_selector("html[data-ready]")
    yield page
    context.close()
    assert complaints == []
    assert [url[:60] for url in asked if not url.startswith(("file:", "data:"))] == []


@pytest.fixture
def page(browser: sync_api.Browser, address: str) -> Iterator[sync_api.Page]:
    yield from opened(browser, address)


@pytest.fixture
def phone(browser: sync_api.Browser, address: str) -> Iterator[sync_api.Page]:
    yield from opened(browser, address, 390, device_scale_factor=2, has_touch=True, color_scheme="dark")


def order_of(page: sync_api.Page) -> list[str]:
    return page.locator("tbody tr").evaluate_all("(rows) => rows.map((r) => r.dataset.order)")


def test_the_answer_and_the_verdicts_are_read(page: sync_api.Page) -> None:
    assert "2 of 9 orders beat random on Frechet distance, 5 lose to it" in page.inner_text("h1")
    said = page.locator("tbody .chip").all_inner_texts()
    assert {word: said.count(word) for word in set(said)} == {"better": 2, "worse": 5, "no evidence": 2, "baseline": 1}
    assert page.locator("article.card").count() == 10


def test_the_slider_moves_every_canvas(page: sync_api.Page) -> None:
    page.focus("#step")
    page.keyboard.press("Home")
    assert page.inner_text("#at") == "step 1 of 16"
    first = page.evaluate(PAINT)
    page.keyboard.press("End")
    last = page.evaluate(PAINT)
    assert len(first) == 10
    assert all(a != b for a, b in zip(first, last, strict=True))
    page.keyboard.press("ArrowLeft")
    assert page.inner_text("#at") == "step 15 of 16"
    assert page.locator(".tile .stat").first.inner_text().endswith("/64")


def test_a_canvas_shows_the_frame_of_its_order(page: sync_api.Page) -> None:
    """The pixels on the canvas are those of panels/ORDER.npz: mean grey of image 0, last step."""
    page.focus("#step")
    page.keyboard.press("End")
    mean = page.evaluate(
        """() => { const c = document.querySelector('.tile[data-order=halton] canvas');
        const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
        let sum = 0; for (let i = 0; i < d.length; i += 4) sum += d[i]; return sum / (d.length / 4); }"""
    )
    labels = report_fixture.np.arange(report_fixture.SHOWN)
    assert mean == pytest.approx(report_fixture.panels("halton", labels)[0, -1].mean(), abs=0.01)


def test_another_image_and_no_outline(page: sync_api.Page) -> None:
    before = page.evaluate(PAINT)
    page.locator("#picker label").nth(3).click()
    after = page.evaluate(PAINT)
    assert all(a != b for a, b in zip(before, after, strict=True))
    page.locator("#outline").uncheck()
    assert page.evaluate(PAINT) != after


def test_play_runs_to_the_end_and_stops(page: sync_api.Page) -> None:
    page.focus("#step")
    page.keyboard.press("End")
    page.locator("#play").focus()
    page.keyboard.press("Enter")
    assert page.inner_text("#play") == "Pause"
    sync_api.expect(page.locator("#play")).to_have_text("Play", timeout=20_000)
    assert page.inner_text("#at") == "step 16 of 16"
    page.keyboard.press("ArrowLeft")  # the arrows work anywhere in the gallery
    assert page.inner_text("#at") == "step 15 of 16"


def test_headings_sort_and_reverse(page: sync_api.Page) -> None:
    by_fd = order_of(page)
    page.click("thead button[data-key=agreement]")
    best_first = order_of(page)
    values = page.locator("tbody tr").evaluate_all("(rows) => rows.map((r) => +r.children[4].dataset.v)")
    assert values == sorted(values, reverse=True)
    page.locator("thead button[data-key=agreement]").focus()
    page.keyboard.press("Enter")
    assert order_of(page) == best_first[::-1]
    page.click("thead button[data-key=fd]")
    assert order_of(page) == by_fd
    page.click("thead button[data-key=order]")
    assert order_of(page) == sorted(by_fd)
    assert page.locator("thead th[aria-sort=ascending]").count() == 1


def test_heatmaps_and_curves_answer_the_pointer(page: sync_api.Page) -> None:
    page.locator(".heat").first.hover(position={"x": 3, "y": 3})
    assert page.inner_text("#tip").startswith("row 1, column 1: number ")
    page.locator(".wide svg.chart").first.hover(position={"x": 200, "y": 120})
    assert " at " in page.inner_text("#tip")
    hot = page.locator(".wide .line.hot").evaluate_all("(lines) => lines.map((l) => l.dataset.order)")
    assert len(hot) == 3
    assert len(set(hot)) == 1


def test_a_name_at_the_end_of_a_line_brings_it_to_the_front(page: sync_api.Page) -> None:
    page.locator(".wide .tag[data-order=halton]").first.hover()
    assert page.locator(".wide .line.hot[data-order=halton]").count() == 3
    last = page.locator(".wide svg.chart").evaluate_all(
        "(charts) => charts.map((c) => [...c.querySelectorAll('.line')].at(-1).dataset.order)"
    )
    assert last == ["halton"] * 3
    page.mouse.move(2, 2)
    assert page.locator(".wide .hot").count() == 0


def test_names_keep_their_lines_in_front(page: sync_api.Page) -> None:
    page.locator(".keys button[data-order=raster]").click()
    page.mouse.move(2, 2)
    assert page.locator(".keys button[aria-pressed=true]").count() == 1
    assert page.locator(".wide .line.hot[data-order=raster]").count() == 3


def test_the_numbers_download_as_csv(page: sync_api.Page) -> None:
    with page.expect_download() as waiting:
        page.click("a[download]")
    text = Path(waiting.value.path()).read_text()
    assert text.startswith("order,metric,value,lo,hi,n")
    assert waiting.value.suggested_filename == "demo-fashion.csv"


@pytest.mark.parametrize("width", [320, 390, 768, 1024, 1280, 1920])
def test_no_width_scrolls_sideways(browser: sync_api.Browser, address: str, width: int) -> None:
    for page in opened(browser, address, width):
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_a_phone_in_the_dark(phone: sync_api.Page) -> None:
    background = phone.evaluate("getComputedStyle(document.body).backgroundColor")
    assert sum(int(v) for v in background.removeprefix("rgb(").rstrip(")").split(",")) < 120
    phone.locator("#picker label").nth(2).tap()
    assert phone.locator(".tile canvas").count() == 10


def test_a_phone_shows_verdicts_and_pictures_without_scrolling(phone: sync_api.Page) -> None:
    edges = "(parts) => parts.map((p) => p.getBoundingClientRect().right)"
    for part in ("td.plot .forest", "td.plot .num", "td .chip"):
        assert max(phone.locator(f"tbody {part}").evaluate_all(edges)) <= 390
    assert phone.locator("tbody .thumb").first.bounding_box()["width"] >= 36
    assert phone.locator(".sheet svg").first.bounding_box()["width"] / report_fixture.SHOWN >= 48


def test_a_partial_run_and_hostile_names_are_shown_as_text(browser: sync_api.Browser, tmp_path: Path) -> None:
    evil = "<img src=x onerror=alert(1)><script>alert(2)</script>"
    report_fixture.make(tmp_path, measured=3, class_names=[evil] * 10, title=evil)
    for page in opened(browser, build(tmp_path).as_uri()):
        assert "3 of 10 orders measured so far" in page.inner_text(".notes")
        assert page.locator("#picker label").first.inner_text() == evil
        assert page.locator(".tile").count() == 3
        assert page.locator("img[src=x]").count() == 0


def test_another_head_and_another_image_of_the_modes(browser: sync_api.Browser, tmp_path: Path) -> None:
    """And without the script the first head stands there, at every width."""
    address = build(report_fixture.study(tmp_path)).as_uri()
    first = "() => document.querySelector('.modes:not([hidden]) .window use').getBoundingClientRect().x"
    for page in opened(browser, address):
        assert page.locator(".modes:visible .name a").first.get_attribute("href") == "#order-1"
        before = page.evaluate(first)
        page.select_option("#modes-head", label="b")
        page.select_option("#modes-image", index=2)
        assert page.locator(".modes:visible .name a").first.get_attribute("href") == "#order-4"
        width = page.locator(".modes:visible .window").first.bounding_box()["width"]
        assert before - page.evaluate(first) == pytest.approx(2 * width * 9 / 8, rel=0.01)
    for width in (320, 390, 1024):
        for page in opened(browser, address, width):
            assert page.evaluate("document.documentElement.scrollWidth") <= width
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(address)
    assert page.locator(".modes:visible").count() == 1
    assert not page.locator("#modes-head").is_visible()
    context.close()


def test_pointing_at_a_training_curve_leaves_the_others_alone(browser: sync_api.Browser, tmp_path: Path) -> None:
    folder = report_fixture.study(tmp_path)
    for row in "ab":
        report_fixture.training_log(folder, row, 40)
    for page in opened(browser, build(folder).as_uri()):
        page.locator("#training .tag[data-order=b]").first.hover()
        assert page.locator("#training .line.hot[data-order=b]").count() == 3
        assert page.locator("#curves .focus, #curves .hot").count() == 0
