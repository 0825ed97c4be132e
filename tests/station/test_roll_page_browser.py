"""The page of a judged roll, used in a real Chromium."""

import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.station.roll_folder import defect, summary, write_crop, write_roll
from zellige.station.roll_page import write_roll_page

pytestmark = pytest.mark.browser
webdriver = pytest.importorskip("selenium.webdriver")
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --window-size=1280,900"
)
NUM_DEFECTS = 120


@pytest.fixture(scope="module")
def driver() -> Iterator:
    if CHROMIUM is None or DRIVER is None:
        pytest.skip("chromium and chromium-driver are not installed")
    from selenium.webdriver.chrome.service import Service

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options = webdriver.ChromeOptions()
        options.binary_location = CHROMIUM
        for flag in (*FLAGS.split(), f"--user-data-dir={profile}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        driver = webdriver.Chrome(options=options, service=Service(DRIVER))
        try:
            driver.get("about:blank")
            driver.get_log("performance")  # of the browser's own first page
            yield driver
        finally:
            driver.quit()


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Slubs on a diagonal; number 60, at 50 m and 500 mm, is a hole with a picture."""
    folder = tmp_path_factory.mktemp("page") / "roll"
    defects = [defect(i, 100 + 800 * i / NUM_DEFECTS, 800 * i, length_mm=i) for i in range(1, NUM_DEFECTS + 1)]
    hole = {"kind": "hole", "x_mm": 500.0, "y_mm": 50_000.0, "extent_mm": 30.0, "lanes": "left;right"}
    defects[59] |= hole | {"length_mm": 300.0}
    repeats = [{"period_mm": 800.0, "rollers": ["nip"], "numbers": [1, 2, 3, 4]}]
    undecided = [{"from_mm": 90_000.0, "to_mm": 91_000.0, "reason": "black"}]
    content = summary(repeats=repeats, undecided=undecided)
    write_roll(folder, content, defects)
    write_crop(folder, 60, gray=77)
    return write_roll_page(folder)


@pytest.fixture
def page(driver, path: Path) -> Iterator:
    """A freshly loaded page; afterwards: nothing to complain about, nothing asked for."""
    driver.get(path.as_uri())
    yield driver
    assert driver.get_log("browser") == []
    sent = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    asked = {m["params"]["request"]["url"] for m in sent if m["method"] == "Network.requestWillBeSent"}
    assert path.as_uri() in asked
    assert [url for url in asked if url != path.as_uri() and not url.startswith("data:")] == []


def view_box(page) -> list[float]:
    return [float(v) for v in page.execute_script("return plot.getAttribute('viewBox')").split()]


def press(page, css: str) -> None:
    page.execute_script("document.querySelector(arguments[0]).scrollIntoView({block: 'center'})", css)
    page.find_element("css selector", css).click()


def on_map(page, along_mm: float, across_mm: float):
    """Move the mouse to a place of the whole map, by the plot's place on the screen."""
    from selenium.webdriver.common.action_chains import ActionChains

    plot = page.find_element("id", "plot")
    page.execute_script("arguments[0].scrollIntoView({block: 'center'})", plot)
    width, height = plot.size["width"], plot.size["height"]
    x, y = round((along_mm / 100_000 - 0.5) * width), round((across_mm / 1000 - 0.5) * height)
    return ActionChains(page).move_to_element_with_offset(plot, x, y)


def listed(page) -> list[str]:
    return page.execute_script("return [...document.querySelectorAll('#table tbody tr')].map(r => r.dataset.number)")


def test_zooming_and_moving_change_the_view_box(page) -> None:
    from selenium.webdriver.common.keys import Keys

    whole = view_box(page)
    assert whole == [0, 0, 100_000, 1000]
    press(page, "#zoom-in")
    assert view_box(page) == pytest.approx([25_000, 0, 50_000, 1000])
    press(page, "#pan-on")
    assert view_box(page) == pytest.approx([37_500, 0, 50_000, 1000])
    press(page, "#show-all")
    assert view_box(page) == whole
    plot = page.find_element("id", "plot")
    plot.send_keys("+")
    plot.send_keys(Keys.ARROW_LEFT)
    assert view_box(page) == pytest.approx([12_500, 0, 50_000, 1000])
    plot.send_keys("0")
    assert view_box(page) == whole
    script = "plot.dispatchEvent(new WheelEvent('wheel', {deltaY: -250, clientX: arguments[0], bubbles: true}))"
    box = page.execute_script("const b = plot.getBoundingClientRect(); return [b.left, b.width]")
    page.execute_script(script, box[0] + 0.2 * box[1])
    start, _, length, _ = view_box(page)
    assert length == pytest.approx(100_000 / 2.718281828)
    assert start + 0.2 * length == pytest.approx(20_000, abs=100)  # a px: what lay under the mouse still does
    before = start
    on_map(page, 50_000, 250).click_and_hold().move_by_offset(-100, 0).release().perform()
    assert view_box(page)[0] == pytest.approx(before + 100 / box[1] * length, rel=0.01)
    for _ in range(20):
        page.execute_script(script, box[0] + 0.5 * box[1])
    _, across, length, width = view_box(page)
    ratio = page.execute_script("return plot.clientHeight / plot.clientWidth")
    assert width == pytest.approx(length * ratio)  # far in, both axes have one scale
    assert 0 <= across <= 1000 - width


def test_a_click_shows_the_defect_its_picture_and_its_row(page) -> None:
    on_map(page, 50_015, 500).click().perform()
    assert page.find_element("id", "detail-title").text == "Defect 60: hole"
    [row] = page.find_elements("css selector", "#table tr[aria-current=true]")
    assert row.get_attribute("data-number") == "60"
    assert "50.000" in row.text
    [picture] = page.find_elements("css selector", "#crop img")
    assert picture.get_attribute("alt") == "Picture of defect 60, hole"
    gray = (
        "const c = document.createElement('canvas').getContext('2d'); const i = document.querySelector('#crop img');"
        "return i.decode().then(() => { c.drawImage(i, 0, 0); return c.getImageData(9, 9, 1, 1).data[0]; })"
    )
    assert page.execute_script(gray) == 77
    press(page, "#zoom-to")
    start, across, length, width = view_box(page)
    assert start < 50_000 < start + length < 51_300
    assert across < 500 < across + width
    on_map(page, 5_000, 900).click().perform()  # nothing lies there: the choice stays
    assert page.find_element("id", "detail-title").text == "Defect 60: hole"


def test_a_row_is_found_on_the_map(page) -> None:
    press(page, "[data-sort=number]")
    assert listed(page) == [str(i) for i in range(1, 51)]
    press(page, "#page-on")
    assert listed(page) == [str(i) for i in range(51, 101)]
    press(page, "#zoom-in")
    press(page, "tr[data-number='100'] button")
    start, _, length, _ = view_box(page)
    assert start <= 80_000 <= start + length
    assert page.find_element("id", "detail-title").text == "Defect 100: slub"
    assert page.find_element("id", "crop").text == "No picture in this page"
    cross = page.execute_script("return document.querySelector('#cross line').getAttribute('x1')")
    assert float(cross) == pytest.approx(80_010)
    press(page, "#next")
    assert page.find_element("id", "detail-title").text == "Defect 101: slub"


def test_filters_hold_for_table_and_map(page) -> None:
    from selenium.webdriver.support.ui import Select

    def select(name: str, text: str) -> None:
        Select(page.find_element("id", name)).select_by_visible_text(text)

    def drawn() -> int:
        script = "return [...plot.querySelectorAll('rect.d')].filter(r => r.style.display !== 'none').length"
        return page.execute_script(script)

    assert drawn() == NUM_DEFECTS
    select("by-kind", "hole")
    assert (listed(page), drawn()) == (["60"], 1)
    select("by-kind", "all")
    select("by-lane", "right")
    assert (listed(page), drawn()) == (["60"], 1)
    press(page, "#filters [type=reset]")
    page.find_element("id", "by-length").send_keys("119")
    assert (listed(page), drawn()) == (["60", "120", "119"], 3)
    press(page, ".show-repeat")
    page.execute_async_script("setTimeout(arguments[0], 50)")
    assert (sorted(listed(page)), drawn()) == (["1", "2", "3", "4"], 4)
    assert "4 of 120 defects" in page.find_element("id", "count").text


def test_it_fits_a_tablet(page) -> None:
    page.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 768, "height": 1024, "deviceScaleFactor": 1, "mobile": True}
    )
    sizes = "return [document.documentElement.scrollWidth, parseFloat(getComputedStyle(document.body).fontSize)]"
    width, font_px = page.execute_script(sizes)
    page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert width <= 768
    assert font_px >= 15


def test_a_roll_without_a_defect(driver, tmp_path: Path) -> None:
    driver.get(write_roll_page(write_roll(tmp_path / "roll", summary(), [])).as_uri())
    press(driver, "#zoom-in")
    assert view_box(driver)[2] == pytest.approx(50_000)
    assert "No defect was found" in driver.find_element("tag name", "body").text
    assert driver.get_log("browser") == []
