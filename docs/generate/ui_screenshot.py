"""Take the screenshot of the MLflow UI for the documentation: `python docs/generate/ui_screenshot.py`.

The script makes a small sweep in a temporary folder, starts `python -m auxgrad.ui` on its store, opens
the link `charts` in Chromium and saves what the browser shows. It needs the extra `dev` and Debian's
packages `chromium` and `chromium-driver`.
"""

from __future__ import annotations

import argparse
import contextlib
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from selenium import webdriver
from selenium.webdriver.chrome.webdriver import WebDriver
from selenium.webdriver.support import expected_conditions
from selenium.webdriver.support.ui import WebDriverWait

SWEEP = ["mode=SingleTask,Projection", "seed=range(2)", "problem.epochs=3"]
CHARTS = 5  # train_loss, val_loss, test_loss, val_accuracy, test_accuracy
WIDTH, HEIGHT = 1500, 1180
PATIENCE_SECONDS = 120
# The panel that MLflow opens on a first visit.
ASSISTANT = '[data-component-id="mlflow.assistant.chat_panel.close"]'
DRAWN = """
return [...document.querySelectorAll('.js-plotly-plot')].filter(
  plot => plot.querySelector('.scatterlayer path.js-line, .barlayer .point path')
).length
"""


@contextlib.contextmanager
def mlflow_ui(folder: Path) -> Iterator[str]:
    """Start the MLflow UI on the store in a folder and yield the link to the charts."""
    command = [sys.executable, "-m", "auxgrad.ui"]
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        printed = ""
        while "stop it" not in printed:
            if not (line := process.stdout.readline()):
                raise SystemExit("ui_screenshot: the MLflow UI did not start")
            printed += line
        found = re.search(r"^charts +(\S+)$", printed, re.M)
        assert found is not None
        yield found[1]
    finally:
        process.send_signal(signal.SIGINT)
        process.wait()


@contextlib.contextmanager
def chromium(folder: Path) -> Iterator[WebDriver]:
    """Start Chromium without a window, with its profile in a folder."""
    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    for flag in ("headless", "no-sandbox", "disable-gpu", "disable-background-networking"):
        options.add_argument(f"--{flag}")
    options.add_argument(f"--window-size={WIDTH},{HEIGHT}")
    options.add_argument(f"--user-data-dir={folder}")
    driver = webdriver.Chrome(options, webdriver.ChromeService("/usr/bin/chromedriver"))
    try:
        yield driver
    finally:
        driver.quit()


def close_assistant(driver: WebDriver) -> None:
    """Close the panel beside the charts, which takes a quarter of the width."""
    WebDriverWait(driver, PATIENCE_SECONDS).until(
        expected_conditions.element_to_be_clickable(("css selector", ASSISTANT))
    ).click()


def wait_for_charts(driver: WebDriver) -> None:
    """Wait until all charts are drawn. The page draws only charts that are in sight."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while (drawn := driver.execute_script(DRAWN)) != CHARTS:
        if time.monotonic() > deadline:
            raise SystemExit(f"ui_screenshot: {drawn} of {CHARTS} charts after {PATIENCE_SECONDS} s")
        time.sleep(0.5)
    time.sleep(2)  # Until Plotly's transitions have ended.


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    default = Path(__file__).parent.parent / "images" / "ui.png"
    parser.add_argument("--output", type=Path, default=default, help="the picture")
    output = parser.parse_args().output.absolute()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        train = [sys.executable, "-m", "auxgrad.train", "--multirun", *SWEEP]
        subprocess.run(train, cwd=folder, check=True)
        with mlflow_ui(folder) as charts, chromium(folder / "chromium") as driver:
            driver.get(charts)
            close_assistant(driver)
            wait_for_charts(driver)
            output.parent.mkdir(parents=True, exist_ok=True)
            driver.save_screenshot(str(output))
    print(f"written   {output}")


if __name__ == "__main__":
    main()
