"""The README's picture of a report: python -m benchmarks.report REPORT.html OUT.png

wants Chromium, chromedriver, `pip install .[test]`.
"""

import argparse
import os
import pathlib

from demo.web import screenshot


def main(argv=None):
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("report", help="as train_specgan.py report writes it")
    p.add_argument("out", help="PNG file to write")
    p.add_argument("--dark", action="store_true")
    p.add_argument("--width", type=int, default=1100, help="pixels")
    p.add_argument("--height", type=int, default=1230, help="pixels; 0: all of it")
    args = p.parse_args(argv)
    if not os.path.isfile(args.report):
        p.error(f"{args.report} is not there")
    if reason := screenshot.missing():
        p.error(reason)
    with screenshot.browser(["--hide-scrollbars"]) as driver:
        screenshot.look(driver, args.width, 1000, dark=args.dark)
        driver.get(pathlib.Path(args.report).absolute().as_uri())
        image = screenshot.picture(driver)
    if args.height:
        image = image.crop((0, 0, args.width, args.height))
    image.convert("P", palette=1, colors=256).save(args.out, optimize=True)


if __name__ == "__main__":
    main()
