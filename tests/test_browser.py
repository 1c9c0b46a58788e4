"""The page that a run prints, in a real browser: `pytest -m browser`."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
from conftest import mlflow_ui

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
    # Tall: the page draws only the charts in sight, and the losses come last.
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


def test_the_printed_page_shows_curve_and_test_loss(browser, tmp_path, small, train):
    done = train("mode=Orthogonal", *small)
    assert done.returncode == 0, done.stderr
    command, page = re.search(r"see it +mlflow (.*)\n +then open (.*)", done.stdout).groups()
    arguments = [word.strip("'") for word in command.split()]
    with mlflow_ui(arguments, tmp_path) as url:
        browser.get(page.replace("http://127.0.0.1:5000", url))

        def text():
            return browser.find_element("tag name", "body").text

        def curves():
            """Charts with a drawn line, by title."""
            return browser.execute_script(
                "return [...document.querySelectorAll('.js-plotly-plot')]"
                ".filter(plot => plot.querySelector('.scatterlayer path.js-line')).length"
            )

        wait_for(lambda: "train_loss" in text() and "val_loss" in text())
        wait_for(curves)
        browser.save_screenshot(str(tmp_path / "curves.png"))
        assert Path(tmp_path / "curves.png").stat().st_size > 10_000
        browser.get(page.replace("http://127.0.0.1:5000", url).replace("/model-metrics", ""))
        result = re.search(r"result +test loss ([\d.]+)", done.stdout)[1]
        wait_for(lambda: "test_loss" in text() and result[:5] in text())
