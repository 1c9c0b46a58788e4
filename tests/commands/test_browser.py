"""The printed pages show their charts in a real browser: `pytest -m browser`."""

from __future__ import annotations

import re
import shlex
import time

import pytest
from conftest import auxgrad_ui

pytestmark = pytest.mark.browser


@pytest.fixture
def browser(tmp_path):
    webdriver = pytest.importorskip("selenium.webdriver", reason="the extra dev has it")
    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    for flag in (
        "headless",
        "no-sandbox",
        "disable-gpu",
        "disable-background-networking",
        "disable-sync",
    ):
        options.add_argument(f"--{flag}")
    # A tall window, because the page draws only visible charts, and the losses come last.
    options.add_argument("--window-size=1500,6000")
    options.add_argument(f"--user-data-dir={tmp_path / 'chromium'}")
    driver = webdriver.Chrome(options, webdriver.ChromeService("/usr/bin/chromedriver"))
    yield driver
    driver.quit()


def wait_for(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.5)
    return found


@pytest.fixture
def text(browser):
    """Return the text that the page shows now."""
    return lambda: browser.find_element("tag name", "body").text


@pytest.fixture
def drawn(browser):
    """Return the number of charts with lines or bars on the page."""
    return lambda: browser.execute_script(
        "return [...document.querySelectorAll('.js-plotly-plot')].filter(plot =>"
        " plot.querySelector('.scatterlayer path.js-line, .barlayer .point path')).length"
    )


def screenshot(browser, file):
    browser.save_screenshot(str(file))
    assert file.stat().st_size > 10_000


def test_the_printed_page_shows_curve_and_test_loss(browser, text, drawn, tmp_path, small, train):
    done = train("mode=Orthogonal", *small)
    assert done.returncode == 0, done.stderr
    command, page = re.search(r"see it +(.*)\n +then open (.*)", done.stdout).groups()
    assert command.startswith("python -m auxgrad.ui ")
    with auxgrad_ui(*shlex.split(command)[3:], cwd=tmp_path) as (_, links):
        served = links["charts"].partition("/#")[0]
        browser.get(page.replace("http://127.0.0.1:5000", served))
        wait_for(lambda: "train_loss" in text() and "val_loss" in text())
        wait_for(drawn)
        screenshot(browser, tmp_path / "curves.png")
        browser.get(page.replace("http://127.0.0.1:5000", served).replace("/model-metrics", ""))
        result = re.search(r"result +test loss ([\d.]+)", done.stdout)[1]
        wait_for(lambda: "test_loss" in text() and result[:5] in text())


def test_the_view_of_a_sweep(browser, text, drawn, tmp_path, small, sweep):
    done = sweep("mode=SingleTask,Projection", "seed=0,1", "hydra.launcher.workers=1", *small)
    assert done.returncode == 0, done.stderr
    with auxgrad_ui(cwd=tmp_path) as (_, links):
        browser.get(links["charts"])
        wait_for(lambda: drawn() == 5)
        page = text()
        sections = [page.index(name) for name in ("Losses", "\nMetrics", "Model metrics", "cosine")]
        assert sections[:2] == sorted(sections)[:2]
        for name in ("train_loss", "val_loss", "test_loss", "val_accuracy", "test_accuracy"):
            assert name in page
        assert "Group: SingleTask" in page
        assert "Group: Projection" in page
        screenshot(browser, tmp_path / "charts.png")

        browser.set_window_size(2400, 1200)  # The page has no invisible columns.
        browser.get(links["table"])
        wait_for(lambda: "Group: SingleTask" in text() and "seed" in text())
        knobs = ["mode", "lam", "alpha", "overall", "seed", "test_loss", "test_accuracy"]

        def columns():
            """Return the columns from left to right; the page adds them one by one."""
            cells = browser.find_elements("class name", "ag-header-cell")
            found = [(cell.location["x"], cell.text) for cell in cells if cell.text in knobs]
            return [name for _, name in sorted(found)]

        wait_for(lambda: columns() == knobs)
        screenshot(browser, tmp_path / "table.png")

        browser.set_window_size(1500, 6000)
        browser.get(links["means"])
        wait_for(lambda: drawn() == 5)
        assert "2 matching runs" in text()
        screenshot(browser, tmp_path / "means.png")
