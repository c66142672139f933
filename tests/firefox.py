"""Firefox for tests, driven by Marionette: Debian has no geckodriver.

Commands and their results are WebDriver's, in JSON over TCP: each message begins with
its length and a colon. A command is [0, id, name, parameters], its answer
[1, id, error, result].
"""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import time

NAMES = "firefox-esr", "firefox"  # the first that is there
# WebDriver's name for a reference to an element
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
SECONDS = 300  # that Firefox may take to start, a page to load, a script to run


def find():
    """The program's path, or None."""
    return next(filter(None, map(shutil.which, NAMES)), None)


@contextlib.contextmanager
def browser(folder, prefs):
    """A headless Firefox with a new profile in `folder`, as a `Firefox`."""
    profile = os.path.join(folder, "profile")
    os.mkdir(profile)
    with open(os.path.join(profile, "user.js"), "w") as f:
        for name, value in {"marionette.port": 0, **prefs}.items():
            f.write(f"user_pref({json.dumps(name)}, {json.dumps(value)});\n")
    argv = [find(), "--headless", "--marionette", "--new-instance"]
    with open(os.path.join(folder, "firefox.log"), "wb") as log:
        process = subprocess.Popen(
            [*argv, "--profile", profile], stdout=log, stderr=log
        )
    try:
        with contextlib.closing(Firefox(profile, process)) as driver:
            yield driver
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class Firefox:
    """A session; the methods that tests need, by the names that selenium has."""

    def __init__(self, profile, process):
        self.socket = socket.create_connection(
            ("127.0.0.1", self.port(profile, process)), SECONDS
        )
        self.stream, self.sent = self.socket.makefile("rb"), 0
        self.receive()  # the greeting
        self.send("WebDriver:NewSession", capabilities={})
        ms = 1000 * SECONDS
        self.send("WebDriver:SetTimeouts", script=ms, pageLoad=ms, implicit=0)

    @staticmethod
    def port(profile, process):
        """Where it listens; it writes that down once it does."""
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline and process.poll() is None:
            path = os.path.join(profile, "MarionetteActivePort")
            with contextlib.suppress(FileNotFoundError, ValueError), open(path) as f:
                return int(f.read())
            time.sleep(0.1)
        raise AssertionError(f"Firefox did not start: status {process.poll()}")

    def close(self):
        self.socket.close()

    def receive(self):
        length = b""
        while (byte := self.stream.read(1)) != b":":
            assert byte, "Firefox has gone"
            length += byte
        return json.loads(self.stream.read(int(length)))

    def send(self, command, **parameters):
        self.sent += 1
        message = json.dumps([0, self.sent, command, parameters]).encode()
        self.socket.sendall(b"%d:%s" % (len(message), message))
        _, number, error, result = self.receive()
        assert number == self.sent and error is None, (command, error)
        return result.get("value") if isinstance(result, dict) else result

    def get(self, url):
        self.send("WebDriver:Navigate", url=url)

    def execute_script(self, script):
        return self.send("WebDriver:ExecuteScript", script=script, args=[])

    def execute_async_script(self, script):
        return self.send("WebDriver:ExecuteAsyncScript", script=script, args=[])

    def find(self, css):
        found = self.send("WebDriver:FindElement", using="css selector", value=css)
        return Element(self, found[ELEMENT])


class Element:
    """An element of the page."""

    def __init__(self, driver, id):
        self.driver, self.id = driver, id

    def click(self):
        self.driver.send("WebDriver:ElementClick", id=self.id)

    def send_keys(self, text):
        self.driver.send("WebDriver:ElementSendKeys", id=self.id, text=text)

    def is_displayed(self):
        return self.driver.send("WebDriver:IsElementDisplayed", id=self.id)

    @property
    def text(self):
        return self.driver.send("WebDriver:GetElementText", id=self.id)
