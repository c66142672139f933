"""A picture of the page at work, and what serves and opens it; tests use these too.

    python -m demo.web.screenshot demo/web/model/drums.tflite docs/web.png

wants `make web` to have been run once, Chromium, chromedriver, `pip install .[test]`.
"""

import argparse
import contextlib
import functools
import http.server
import io
import os
import shutil
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
BROWSERS = "chromium", "chromium-browser", "google-chrome"  # the first that is there
FLAGS = (  # so that nothing but the page is looked up or fetched
    "--headless=new",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)


class _Handler(http.server.SimpleHTTPRequestHandler):
    """Files of the page; those under model/ from a folder of its own."""

    def __init__(self, *args, model, headers, **kwargs):
        self.model, self.more_headers = model, headers
        super().__init__(*args, directory=HERE, **kwargs)

    def translate_path(self, path):
        if path.startswith("/model/"):
            return os.path.join(self.model, os.path.basename(path.partition("?")[0]))
        return super().translate_path(path)

    def end_headers(self):
        for name, value in self.more_headers.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, *args):
        pass


@contextlib.contextmanager
def serving(model, headers=None):
    """The page's address, on loopback, with the folder `model` beside it."""
    handler = functools.partial(_Handler, model=model, headers=headers or {})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()


def missing():
    """What opening the page needs and this machine has not, or None."""
    if not any(map(shutil.which, BROWSERS)):
        return "Chromium is not on this machine (Debian: chromium)"
    if not shutil.which("chromedriver"):
        return "chromedriver is not on this machine (Debian: chromium-driver)"
    return None


@contextlib.contextmanager
def browser(flags=(), downloads=None):
    """A headless Chromium, as selenium drives it; files are saved to `downloads`."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = next(filter(None, map(shutil.which, BROWSERS)))
    for flag in (*FLAGS, *flags):
        options.add_argument(flag)
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        options.add_argument("--no-sandbox")  # Chromium's does not work as root
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    if downloads:
        options.add_experimental_option(
            "prefs", {"download.default_directory": str(downloads)}
        )
    service = webdriver.ChromeService(shutil.which("chromedriver"))
    driver = webdriver.Chrome(options, service)
    try:
        driver.set_script_timeout(300)
        yield driver
    finally:
        driver.quit()


def look(driver, width=1100, height=960, dark=False):
    """How wide the page is, in CSS pixels, and whether in dark colours."""
    driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {
            "width": width,
            "height": height,
            "deviceScaleFactor": 1,
            "mobile": width < 600,
        },
    )
    theme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [theme]})


def wait_until_ready(driver):
    """Until the page makes sound, or says why not: returns what it says, or ''."""
    from selenium.webdriver.support.wait import WebDriverWait

    state = (
        "const message = document.getElementById('message');"
        "if (!message.hidden) return message.textContent;"
        "return document.getElementById('controls').disabled ? null : ''"
    )
    return WebDriverWait(driver, 300).until(
        lambda d: (said := d.execute_script(state)) is not None and (said,)
    )[0]


def use(driver):
    """Move on the pad, and start the beat."""
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    keys = Keys.ARROW_RIGHT * 9 + Keys.ARROW_UP * 7
    driver.find_element(By.ID, "pad").send_keys(keys)
    driver.execute_async_script(
        "import('/main.js').then(({ page }) => page.show()).then(arguments[0])"
    )
    driver.find_element(By.ID, "run").click()
    time.sleep(1)


def picture(driver):
    """The page as an image, all of it."""
    import base64

    from PIL import Image

    png = driver.execute_cdp_cmd(
        "Page.captureScreenshot", {"format": "png", "captureBeyondViewport": True}
    )
    return Image.open(io.BytesIO(base64.b64decode(png["data"])))


def main(argv=None):
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("model", help="a synthesize.*.tflite")
    p.add_argument("out", help="PNG file to write")
    p.add_argument("--seed", type=int, default=7, help="of the sounds")
    p.add_argument("--light", action="store_true")
    p.add_argument("--width", type=int, default=1040, help="pixels")
    args = p.parse_args(argv)
    if not os.path.isfile(args.model):
        p.error(f"{args.model} is not there")
    if reason := missing():
        p.error(reason)
    folder, name = os.path.split(os.path.abspath(args.model))
    with serving(folder) as url, browser(["--hide-scrollbars"]) as driver:
        look(driver, args.width, dark=not args.light)
        driver.get(f"{url}?model=model/{name}&seed={args.seed}")
        if said := wait_until_ready(driver):
            p.error(said)
        height = driver.execute_script("return document.documentElement.offsetHeight")
        look(driver, args.width, height, dark=not args.light)
        use(driver)
        picture(driver).convert("P", palette=1, colors=256).save(
            args.out, optimize=True
        )


if __name__ == "__main__":
    sys.exit(main())
