"""demo/web in a real browser: its sounds are Keras', and nothing leaves the machine."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request

import filelock
import firefox
import numpy as np
import pytest
import tensorflow as tf
from conftest import ROOT, installed
from scipy.io import wavfile

from demo.web import gather, screenshot
from specgan_tf import SpecGANGenerator, generate, spectral
from specgan_tf.export import tflite, verify
from specgan_tf.moments import Moments

By = pytest.importorskip("selenium.webdriver.common.by").By
Keys = pytest.importorskip("selenium.webdriver.common.keys").Keys

WEB = os.path.join(ROOT, "demo", "web")
MOMENTS = Moments(np.full(129, -2, np.float32), np.ones(129, np.float32))
RATE = 22050  # Hz, and 9 latents: neither is what the page would assume
ABOUT = {"sample_rate": RATE, "latent_dim": 9, "ngl": 16, "step": 1234}
OTHER = {"sample_rate": 16000, "latent_dim": 7, "ngl": 5, "step": 77}
# LiteRT asks for a GPU, which it is not told to use and most test machines have not.
NO_GPU = "Failed to create default WebGPU device", "No available adapters"
# What a page notes from its beginning: violations of its policy, and started sounds.
WATCH = """
self.violations = [];
addEventListener("securitypolicyviolation", (event) => {
  violations.push(`${event.violatedDirective} ${event.blockedURI}`);
});
self.starts = [];
const { start } = AudioBufferSourceNode.prototype;
AudioBufferSourceNode.prototype.start = function (when) {
  starts.push(when);
  start.call(this, when);
};
"""
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("web")]


@pytest.fixture(scope="module")
def vendored(tmp_path_factory):
    """demo/web/vendor, as `make web` makes it."""
    installed(shutil.which("npm"), "npm is not on this machine")
    target = "demo/web/vendor/litert.js"
    with filelock.FileLock(tmp_path_factory.getbasetemp().parent / "npm.lock"):
        for _ in range(3):  # a registry may be out of reach for a moment
            done = subprocess.run(
                ["make", target], cwd=ROOT, capture_output=True, text=True
            )
            if not done.returncode:
                break
    installed(not done.returncode, f"npm could not install LiteRT.js: {done.stderr}")


def generator(dim=2, latent_dim=9, slice_len=16384):
    """One of which each latent makes another spectrogram, in all of [-1, 1]."""
    G = SpecGANGenerator(dim=dim, latent_dim=latent_dim, slice_len=slice_len)
    rs = np.random.RandomState(0)
    for v in G.trainable_variables:
        if len(v.shape) > 1:  # He's: of a transposed kernel 25 / 4 taps meet in a pixel
            fan_in = v.shape[0] / 3 if len(v.shape) == 2 else v.shape[-1] * 25 / 4
            v.assign(rs.randn(*v.shape) * np.sqrt(2 / fan_in))
    return G


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A generator, and a folder of what export.py would write of it; other files."""
    G, folder = generator(), tmp_path_factory.mktemp("model")
    with tflite.converting(
        G, MOMENTS, about=ABOUT | {"moments_sha256": "a"}
    ) as convert:
        convert(folder / "synthesize.f32.tflite", ["synthesize", "generate"])
        convert(folder / "generator.dr8.tflite", ["generate"], "dr8")
        convert(folder / "invert.f32.tflite", ["invert"])
    stranger = tf.Module()
    stranger.f = tf.function(lambda x: x + 1).get_concrete_function(tf.zeros([1]))
    convert = tf.lite.TFLiteConverter.from_concrete_functions
    converter = convert([stranger.f], stranger)
    with tflite.quiet():
        (folder / "stranger.tflite").write_bytes(converter.convert())
    whole = (folder / "synthesize.f32.tflite").read_bytes()
    (folder / "half.tflite").write_bytes(whole[: len(whole) // 2])
    other = whole.replace(b'"moments_sha256": "a"', b'"moments_sha256": "b"')
    (folder / "other.tflite").write_bytes(other)
    (folder / "notes.tflite").write_text("not what the name says")
    listed = [("drums", "synthesize.f32.tflite"), ("digits", "digits.tflite")]
    write_list(folder, listed)
    return G, folder


def write_list(folder, models):
    """The page's menu, of (name, file)."""
    listed = [{"name": name, "file": file} for name, file in models]
    (folder / "models.json").write_text(json.dumps(listed))


@pytest.fixture(scope="module")
def digits(models):
    """The generator of the menu's other model, which makes other sounds."""
    G = generator(1, OTHER["latent_dim"])
    griffin_lim = spectral.GriffinLim(OTHER["ngl"], "dual", 0.99)
    with tflite.converting(G, MOMENTS, griffin_lim, OTHER) as convert:
        convert(models[1] / "digits.tflite", ["synthesize", "generate"])
    return lambda z: generate.synthesize(G, MOMENTS, z[None], griffin_lim)


@pytest.fixture(scope="module")
def chromium(vendored, tmp_path_factory):
    """A browser, and the folder it saves to."""
    installed(screenshot.missing() is None, screenshot.missing())
    folder = tmp_path_factory.mktemp("browser")
    with screenshot.browser(["--window-size=1100,1000"], folder) as driver:
        driver.execute_cdp_cmd(
            "Page.addScriptToEvaluateOnNewDocument", {"source": WATCH}
        )
        yield driver, folder


class Page:
    """The page in the browser, and what it says of itself."""

    def __init__(self, driver, url, downloads):
        self.driver, self.url, self.downloads = driver, url, downloads

    def open(self, query=""):
        self.driver.get(self.url + query)
        return screenshot.wait_until_ready(self.driver)

    def tell(self, what):
        """The value of an expression of `page`, main.js' export."""
        return self.driver.execute_async_script(
            "const done = arguments[0];"
            f"import('/main.js').then(async ({{ page }}) => done({what}))"
        )

    def sound(self, which="page.sound"):
        """(z, audio, spectrogram), of the pad's dot or a row."""
        parts = ("z", "audio", "spectrogram")
        arrays = self.tell(f"{[*parts]}.map((part) => Array.from(({which})[part]))")
        return [np.array(array, np.float32) for array in arrays]

    def find(self, css):
        return self.driver.find_element(By.CSS_SELECTOR, css)

    def all(self, css):
        return self.driver.find_elements(By.CSS_SELECTOR, css)

    def until(self, condition):
        until = time.monotonic() + 120
        while time.monotonic() < until:
            if value := condition():
                return value
            time.sleep(0.05)
        raise AssertionError("the page did not get there in 120 s")

    def changed(self, act):
        """The sound once it is another one than before `act`."""
        z = "Array.from(page.sound.z)"
        before = self.tell(z)
        act()
        self.until(lambda: before != self.tell(z))
        return self.sound()

    def choose(self, *paths):
        """Pick files; what the page says then, or ''."""
        self.driver.execute_script("document.body.ariaBusy = true")  # no race with it
        self.find("#files").send_keys("\n".join(map(str, paths)))
        self.until(lambda: self.find("body").get_attribute("aria-busy") is None)
        return screenshot.wait_until_ready(self.driver)

    def saved(self, name):
        path = self.downloads / name
        self.until(path.exists)
        return wavfile.read(path)

    def saved_loop(self, tempo):
        self.find("#save-loop").click()
        return self.saved(f"specgan-loop-{tempo}bpm.wav")

    def problems(self):
        """What the console and the policy have to say."""
        logged = [
            entry["message"]
            for entry in self.driver.get_log("browser")
            if entry["level"] in ("WARNING", "SEVERE")
            and not any(said in entry["message"] for said in NO_GPU)
        ]
        return logged + self.driver.execute_script("return violations")


@pytest.fixture
def page(chromium, models):
    driver, downloads = chromium
    with screenshot.serving(models[1]) as url:
        driver.get_log("browser")  # what came before
        screenshot.look(driver)
        yield Page(driver, url, downloads)
        for path in downloads.iterdir():
            path.unlink(missing_ok=True)  # or a download that had not ended


def test_what_npm_installs_is_pinned():
    """To a version and its digest, wherever a registry's files come from."""
    with open(os.path.join(WEB, "package.json")) as f:
        wanted = json.load(f)
    with open(os.path.join(WEB, "package-lock.json")) as f:
        text = f.read()
    assert "resolved" not in text and "://" not in text
    locked = json.loads(text)["packages"]
    direct = wanted["dependencies"] | wanted["devDependencies"]
    for name, version in direct.items():
        assert locked[f"node_modules/{name}"]["version"] == version
    assert locked.keys() == {"", *(f"node_modules/{name}" for name in direct)}
    assert all(v["integrity"].startswith("sha512-") for k, v in locked.items() if k)


def test_a_port_that_is_taken():
    script = os.path.join(WEB, "serve.py")
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        done = subprocess.run(
            [sys.executable, script, port], capture_output=True, text=True, timeout=120
        )
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr == (
        f"Port {port} cannot be used (Address already in use); try: make web "
        "PORT=8001\n"
    )
    with subprocess.Popen(
        [sys.executable, script, "0"], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            line = process.stdout.readline()
            url = line.removeprefix("Open ").partition(" ")[0]
            with urllib.request.urlopen(f"{url}/index.html", timeout=120) as response:
                assert b"<title>SpecGAN</title>" in response.read()
        finally:
            process.kill()


def rms(x):
    return np.sqrt(np.mean(np.square(x, dtype=np.float64)))


def in_python(models, z):
    """Spectrogram and audio of a latent as Keras makes them."""
    want = generate.synthesize(models[0], MOMENTS, z[None])
    audio = spectral.turn_down(want["G_z"]).numpy().ravel()
    return want["G_z_norm"].numpy().ravel(), audio


def test_its_sounds_are_those_of_keras_and_litert(page, models, measured):
    """The pad's, and those of the rows."""
    assert page.open("?seed=0") == ""
    run = tflite.interpreter(models[1] / "synthesize.f32.tflite")
    run = run.get_signature_runner("synthesize")
    for i in range(5):
        sound = "[page.sound, ...page.sequencer.rows]" + f"[{i}]"
        z, audio, spectrogram = page.sound(sound)
        assert z.shape == (9,) and np.abs(z).max() <= 1
        assert audio.shape == (16384,)
        norm, want = in_python(models, z)
        assert rms(want) > 0.01
        litert = run(z=z[None], ngl=np.array(16, np.int32))["G_z"].ravel()
        litert /= max(1, np.abs(litert).max())
        measured("level beside Keras", abs(rms(audio) / rms(want) - 1), 1e-6)
        # measured 106 dB at worst; of 40 such sounds 91
        measured("noise beside Keras, dB", -verify.snr(audio, want), -90)
        measured("noise beside ai-edge-litert, dB", -verify.snr(audio, litert), -90)
        measured("spectrogram's, dB", -verify.snr(spectrogram, norm), -100)
    assert page.find("#about").text == "1,234 steps of training · 9 latents · 22.05 kHz"
    assert page.find("#end").text == f"{16384 / RATE:.2f} s"
    assert page.problems() == []


def test_a_seed_makes_the_same_sounds(page):
    rows = "page.sequencer.rows.map(({ z }) => Array.from(z))"
    page.open("?seed=3")
    first, row = page.sound()[0], page.tell(rows)
    page.open("?seed=3")
    np.testing.assert_array_equal(first, page.sound()[0])
    assert row == page.tell(rows) and len(row) == 4 and len({*map(str, row)}) == 4
    page.open("?seed=4")
    assert not np.array_equal(first, page.sound()[0])


def test_the_spectrogram_is_drawn(page):
    """Time to the right, frequency upwards, louder is lighter."""
    page.open()
    _, _, spectrogram = page.sound()
    pixels = page.driver.execute_script(
        "const c = document.getElementById('spectrogram');"
        "return Array.from(c.getContext('2d').getImageData(0, 0, 128, 128).data)"
    )
    seen = np.reshape(pixels, (128, 128, 4))
    assert (seen[..., 3] == 255).all()
    light = seen[..., :3].sum(-1)[::-1].T.ravel()
    order = np.argsort(spectrogram, kind="stable")
    assert (np.diff(light[order]) >= -2).all()  # the ramp's bytes are rounded
    assert light.max() - light.min() > 100
    top = "return document.getElementById('waveform').width"
    assert page.driver.execute_script(top) > 100


def test_moving_on_the_pad(page, models, measured):
    """With pointer and keys: other sounds, those of Keras again."""
    from selenium.webdriver import ActionChains

    page.open("?seed=0")
    pad = page.find("#pad")
    before = page.sound()[1]

    def drag():
        chain = ActionChains(page.driver, duration=20).move_to_element(pad)
        chain.click_and_hold().move_by_offset(60, -30).move_by_offset(40, 10)
        chain.release().perform()

    page.changed(drag)
    page.tell("await page.show()")  # where it has come to rest
    size = pad.size
    x, y = map(float, page.find("#place").text.split(", "))
    assert abs(x - 100 / (size["width"] / 2)) < 0.02
    assert abs(y - 20 / (size["height"] / 2)) < 0.02
    z, audio, _ = page.sound()
    assert verify.snr(audio, before) < 20 and np.abs(z).max() <= 1
    measured("noise, dB", -verify.snr(audio, in_python(models, z)[1]), -90)

    for key, dx, dy in (
        (Keys.ARROW_LEFT, -0.05, 0),
        (Keys.ARROW_UP, 0, 0.05),
        (Keys.SHIFT + Keys.ARROW_DOWN, 0, -0.25),
    ):
        page.changed(lambda key=key: pad.send_keys(key))
        at = [float(v) for v in page.find("#place").text.split(", ")]
        np.testing.assert_allclose(at, [x + dx, y + dy], atol=0.011)
        x, y = at
    for _ in range(12):
        pad.send_keys(Keys.SHIFT + Keys.ARROW_RIGHT)
    assert page.find("#place").text.startswith("1.00")  # the wall
    page.tell("await page.show()")
    here = page.sound()[0]
    page.find("#turn").click()  # from here on, new directions
    assert page.find("#place").text == "0.00, 0.00"
    page.tell("await page.show()")
    np.testing.assert_array_equal(here, page.sound()[0])
    assert page.problems() == []


def test_a_saved_wav_is_the_sound_turned_down(page, models):
    page.open("?seed=4")  # of random sounds, one in 29 peaks at 1.2 or less
    for n in (1, 2):
        page.find("#save").click()
        rate, samples = page.saved(f"specgan-{n}.wav")
        assert rate == RATE and samples.dtype == np.int16
        z, audio, _ = page.sound()
        want = (audio * np.float32(32767)).astype(np.int16)
        np.testing.assert_array_equal(samples, want)
        # As generate writes it, and not clipped
        G_z = generate.synthesize(models[0], MOMENTS, z[None])["G_z"]
        assert np.abs(G_z).max() > 1.2
        want = spectral.float_to_int16(spectral.turn_down(G_z)).numpy().ravel()
        assert (
            np.abs(samples - want.astype(int)).max() <= 5
        )  # 16 steps enlarge rounding
        assert np.sum(np.abs(samples) >= 32766) <= 2
        page.changed(page.find("#fresh").click)
    assert page.problems() == []


def test_a_loop_is_steps_times_tempo_and_closes(page):
    page.open()
    for tempo in (112, 97, 200):
        setting = (
            "const t = document.getElementById('tempo'); t.value = arguments[0];"
            "t.dispatchEvent(new Event('input'))"
        )
        page.driver.execute_script(setting, tempo)
        rate, samples = page.saved_loop(tempo)
        rows = page.tell(
            "page.sequencer.rows.map(({ audio, steps, level }) =>"
            "({ audio: Array.from(audio), steps, level }))"
        )
        step = 60 / tempo / 4 * RATE
        assert rate == RATE and len(samples) == round(16 * step)
        want = np.zeros(len(samples))
        for row in rows:
            audio = np.array(row["audio"]) * row["level"]
            assert sum(row["steps"]) > 2
            for i in np.flatnonzero(row["steps"]):
                start = int(i * step + 0.5)
                at = (start + np.arange(len(audio))) % len(want)
                np.add.at(want, at, audio)
        want /= max(1, np.abs(want).max())
        np.testing.assert_allclose(samples / 32767, want, atol=1.01 / 32767)
    assert page.problems() == []


def test_playing(page):
    """Step by step, each on its beat, round and round."""
    page.open()
    assert page.tell("(page.sequencer.tempo = 100)") == 100
    page.find("#run").click()
    assert page.find("#run").text == "Stop"
    now = "return document.querySelector('.now')?.dataset.step"
    heard = set()
    page.until(lambda: heard.add(page.driver.execute_script(now)) or len(heard) > 8)
    starts = "return starts"
    page.until(lambda: len(page.driver.execute_script(starts)) > 30)
    page.find("#run").click()
    page.until(lambda: not page.all(".now"))
    assert page.find("#run").text == "Start"
    times = page.driver.execute_script(starts)
    time.sleep(0.3)
    assert page.driver.execute_script(starts) == times

    steps = page.tell("page.sequencer.rows.map(({ steps }) => steps)")
    hits = np.sum(steps, axis=0)
    sounding = np.flatnonzero(hits)
    times, counts = np.unique(times, return_counts=True)
    places = np.resize(sounding, len(times))
    np.testing.assert_array_equal(counts, hits[places])
    # A page that is held up starts late once, and goes on from there.
    beats = np.diff(times) / (60 / 100 / 4) - np.diff(places) % 16
    assert abs(np.median(beats)) < 1e-6 and beats.min() > -1e-6


def test_changing_patterns(page):
    page.open()
    steps = page.all("[data-step]")
    assert len(steps) == 4 * 16
    pattern = "page.sequencer.rows.map(({ steps }) => steps.map(Number).join(''))"
    assert page.tell(pattern)[0] == "1000100010001000"
    steps[0].send_keys(Keys.ARROW_RIGHT)
    focused = page.driver.switch_to.active_element
    assert focused.get_attribute("aria-label") == "Row 1, step 2"
    focused.send_keys(Keys.SPACE)
    assert page.tell(pattern)[0] == "1100100010001000"
    assert focused.get_attribute("aria-pressed") == "true"
    focused.send_keys(Keys.ARROW_DOWN)
    page.driver.switch_to.active_element.send_keys(Keys.ARROW_LEFT, Keys.ARROW_LEFT)
    focused = page.driver.switch_to.active_element
    assert focused.get_attribute("aria-label") == "Row 2, step 16"
    steps[5].click()
    assert page.tell(pattern)[0] == "1100110010001000"

    z = "page.sequencer.rows.map(({ z }) => Array.from(z))"
    before = page.tell(z)
    page.find(".row .renew").click()
    page.until(lambda: page.tell(z)[0] != before[0])
    assert page.tell(z)[1:] == before[1:]
    page.all(".take")[1].click()
    np.testing.assert_array_equal(np.float32(page.tell(z)[1]), page.sound()[0])
    for rows in range(5, 9):
        page.find("#add").click()
        page.until(lambda rows=rows: len(page.all(".row")) == rows)
    assert not page.find("#add").is_enabled()
    page.find("#run").click()
    for _ in range(8):
        page.find(".row .remove").click()
    assert page.tell("page.sequencer.playing") is False
    assert not page.find("#save-loop").is_enabled()
    page.find("#add").click()
    assert page.find(".row").get_attribute("aria-label") == "Row 1"
    assert page.problems() == []


def test_undo(page):
    """Of the pad, of rows and of steps, back to the beginning."""
    page.open("?seed=0")
    state = (
        "JSON.stringify([page.sequencer.tempo, Array.from(page.sound.z),"
        " page.sequencer.rows.map(({ z, steps, level }) => [[...z], steps, level])])"
    )
    place = "return document.getElementById('place').textContent"
    tempo = page.find("#tempo")
    assert not page.find(".sound .undo").is_enabled()
    states = [(page.tell(state), page.driver.execute_script(place))]
    for change in (
        lambda: page.find("#pad").send_keys(Keys.ARROW_RIGHT),
        page.find("#fresh").click,
        lambda: page.find(".row .take").click(),
        lambda: page.all("[data-step]")[1].click(),
        page.find("#add").click,
        lambda: page.find(".row .remove").click(),
        lambda: page.find(".row .renew").click(),
        lambda: tempo.send_keys(Keys.ARROW_RIGHT),
        lambda: page.find(".row .level input").send_keys(Keys.ARROW_LEFT),
    ):
        change()
        page.until(lambda: page.tell(state) != states[-1][0])
        states.append((page.tell(state), page.driver.execute_script(place)))
    body = page.find("body")
    states.pop()
    for i, (values, text) in enumerate(reversed(states)):
        if i % 2:
            page.find(".beat .undo").click()
        else:
            body.send_keys(Keys.CONTROL + "z")
        page.until(lambda values=values: page.tell(state) == values)
        assert page.driver.execute_script(place) == text
    assert not page.find(".sound .undo").is_enabled()
    assert page.tell("page.sequencer.rows.length") == len(page.all(".row")) == 4
    assert page.problems() == []


def test_a_finger_hits_every_control(page):
    """44 CSS pixels in both directions, on a phone and on a desk."""
    small = (
        "return [...document.querySelectorAll("
        "'button, select, .button, input[type=range]')]"
        ".map(b => [b.outerHTML.slice(0, 60), b.getBoundingClientRect()])"
        ".filter(([, r]) => r.width < 44 || r.height < 44).map(([name]) => name)"
    )
    for width in (390, 1100):
        screenshot.look(page.driver, width)
        page.open()
        assert page.driver.execute_script(small) == []


def test_files_that_are_no_use_are_named_and_the_model_stays(page, models, tmp_path):
    page.open()
    folder = models[1]
    before = page.sound()[0]
    for names, said in (
        (["notes.tflite"], "notes.tflite is not a .tflite file."),
        (["half.tflite"], "half.tflite is a damaged .tflite file."),
        (
            ["stranger.tflite"],
            "stranger.tflite is no SpecGAN: choose what export.py writes, "
            "synthesize.f32.tflite.",
        ),
        (
            ["generator.dr8.tflite"],
            "generator.dr8.tflite makes spectrograms only: choose it together with "
            "invert.f32.tflite.",
        ),
        (
            ["invert.f32.tflite"],
            "invert.f32.tflite needs spectrograms: choose it together with a "
            "generator.*.tflite.",
        ),
        (
            ["other.tflite", "invert.f32.tflite"],
            "These files are of different trainings: choose a pair.",
        ),
    ):
        assert page.choose(*(folder / name for name in names)) == said
        assert page.find("#about").text.startswith("1,234 steps")
        np.testing.assert_array_equal(before, page.sound()[0])
    page.changed(page.find("#fresh").click)
    assert not page.find("#message").is_displayed()
    assert page.problems() == []


def test_a_small_generator_with_an_invert(page, models, measured):
    page.open("?seed=0")
    folder = models[1]
    assert (
        page.choose(folder / "generator.dr8.tflite", folder / "invert.f32.tflite") == ""
    )
    z, audio, spectrogram = page.sound()
    run = tflite.interpreter(folder / "generator.dr8.tflite")
    norm = run.get_signature_runner("generate")(z=z[None])["G_z_norm"]
    run = tflite.interpreter(folder / "invert.f32.tflite")
    run = run.get_signature_runner("invert")
    want = run(G_z_norm=spectrogram.reshape(norm.shape), ngl=np.array(16, np.int32))
    measured("generator's noise, dB", -verify.snr(spectrogram, norm.ravel()), -40)
    want = spectral.turn_down(want["G_z"]).numpy().ravel()
    measured("invert's noise, dB", -verify.snr(audio, want), -90)
    assert page.problems() == []


def test_longer_sounds(page, tmp_path, measured):
    """Of four slices: made, drawn with its seconds, and saved whole."""
    G, path = generator(1, 9, 4 * 16384), tmp_path / "long.tflite"
    with tflite.converting(G, MOMENTS, about=ABOUT) as convert:
        convert(path, ["synthesize", "generate"])
    page.open()
    assert page.choose(path) == ""
    z, audio, spectrogram = page.sound()
    want = generate.synthesize(G, MOMENTS, z[None])
    assert len(audio) == 4 * 16384 and len(spectrogram) == 4 * 128 * 128
    norm = want["G_z_norm"].numpy().ravel()
    measured("spectrogram's noise, dB", -verify.snr(spectrogram, norm), -90)
    assert f"{4 * 16384 / RATE:.2f} s" in page.find("main").text
    page.find("#save").click()
    assert len(page.saved("specgan-1.wav")[1]) == 4 * 16384
    assert page.problems() == []


def selected(page):
    """What the menu shows."""
    chosen = "return document.getElementById('models').selectedOptions[0].text"
    return page.driver.execute_script(chosen)


def choose_by_key(page, key, step):
    """Press a key in the menu, and wait for the model of so many steps."""
    page.find("#models").send_keys(key)
    page.until(lambda: page.tell("page.model.about.step") == step)
    page.until(lambda: page.find("body").get_attribute("aria-busy") is None)


def fetched(page):
    """The models that the page has asked its server for, in order."""
    names = page.driver.execute_script(
        "return performance.getEntriesByType('resource').map(({ name }) => name)"
    )
    return [os.path.basename(name) for name in names if name.endswith(".tflite")]


def test_the_menu(page, models, digits, measured):
    """A model is fetched when it is chosen, once, and makes its own sounds."""
    screenshot.look(page.driver, 390)
    assert page.open("?seed=0") == ""
    assert page.find("#models").is_displayed() and selected(page) == "drums"
    assert [o.text for o in page.all("#models option:not([hidden])")] == [
        "drums",
        "digits",
    ]
    assert fetched(page) == ["synthesize.f32.tflite"]
    pattern = "page.sequencer.rows.map(({ steps }) => steps.map(Number).join(''))"
    patterns = page.tell(pattern)
    choose_by_key(page, Keys.ARROW_DOWN, OTHER["step"])
    focused = page.driver.switch_to.active_element
    assert focused.get_attribute("id") == "models" and selected(page) == "digits"
    assert page.find("#about").text == "77 steps of training · 7 latents · 16 kHz"
    for sound in ("page.sound", "page.sequencer.rows[3]"):
        z, audio, _ = page.sound(sound)
        want = spectral.turn_down(digits(z)["G_z"]).numpy().ravel()
        assert z.shape == (7,) and rms(want) > 0.01
        measured("noise of the other model, dB", -verify.snr(audio, want), -80)
    assert page.tell(pattern) == patterns
    choose_by_key(page, Keys.ARROW_UP, ABOUT["step"])
    z, audio, _ = page.sound()  # measured 89 dB
    measured("noise, dB", -verify.snr(audio, in_python(models, z)[1]), -80)
    assert fetched(page) == ["synthesize.f32.tflite", "digits.tflite"]
    assert page.problems() == []

    page.open("?model=digits")
    assert selected(page) == "digits" and fetched(page) == ["digits.tflite"]
    assert page.choose(models[1] / "other.tflite") == ""
    assert selected(page) == "other.tflite"
    choose_by_key(page, Keys.ARROW_DOWN, ABOUT["step"])
    assert selected(page) == "drums" and page.problems() == []


def test_the_menu_without_its_server(page, models, digits):
    """What was loaded stays; what was not is refused, and the menu goes back."""
    with screenshot.serving(models[1]) as url:
        alone = Page(page.driver, url, page.downloads)
        assert alone.open("?seed=0") == ""
    alone.find("#models").send_keys(Keys.ARROW_DOWN)
    alone.until(alone.find("#message").is_displayed)
    said = alone.find("#message").text
    assert said.startswith("model/digits.tflite could not be loaded: this page takes")
    assert selected(alone) == "drums" and alone.find("#play").is_enabled()
    with screenshot.serving(models[1]) as url:
        alone = Page(page.driver, url, page.downloads)
        assert alone.open("?model=digits") == ""
        choose_by_key(alone, Keys.ARROW_UP, ABOUT["step"])
    choose_by_key(alone, Keys.ARROW_DOWN, OTHER["step"])
    choose_by_key(alone, Keys.ARROW_UP, ABOUT["step"])
    assert not alone.find("#message").is_displayed()


def test_models_chosen_faster_than_they_load(page, digits):
    page.open("?seed=0")
    page.find("#models").send_keys(Keys.ARROW_DOWN + Keys.ARROW_UP + Keys.ARROW_DOWN)
    busy = "document.body.getAttribute('aria-busy')"
    state = f"[page.model.about.step, page.sequencer.rows.length, {busy}]"
    page.until(lambda: page.tell(state) == [OTHER["step"], 4, None])
    assert selected(page) == "digits" and page.sound()[0].shape == (7,)
    assert page.problems() == []


def test_the_menu_stays_at_the_last_choice(page, digits):
    """While the choice before it is loaded and shown."""
    page.open("?seed=0")
    page.driver.execute_script(
        "const menu = document.getElementById('models');"
        "for (const name of ['digits', 'drums']) {"
        "  menu.value = name;"
        "  menu.dispatchEvent(new Event('change'));"
        "}"
        "self.seen = new Set();"
        "setInterval(() => seen.add(menu.value), 1);"
    )
    page.until(lambda: "digits.tflite" in fetched(page))
    page.until(lambda: page.find("body").get_attribute("aria-busy") is None)
    assert page.tell("page.model.about.step") == ABOUT["step"]
    assert page.tell("[...seen]") == ["drums"] and page.problems() == []


def test_what_gather_lists(page, models, digits, tmp_path, monkeypatch, capsys):
    """In the order given, as `make web` does; a list that is damaged is refused."""
    folder = tmp_path / "model"
    monkeypatch.setattr(gather, "FOLDER", str(folder))
    files = {"digits": "digits.tflite", "drums": "synthesize.f32.tflite"}
    given = [f"{name}={models[1] / file}" for name, file in files.items()]
    for _ in range(2):  # in place of what was there
        gather.main(given)
    assert sorted(os.listdir(folder)) == [
        "digits.tflite",
        "drums.tflite",
        "models.json",
    ]
    with screenshot.serving(folder) as url:
        gathered = Page(page.driver, url, page.downloads)
        assert gathered.open() == "" and selected(gathered) == "digits"
        choose_by_key(gathered, Keys.ARROW_DOWN, ABOUT["step"])
        gather.main(given[:1])
        gathered.open()
        assert not gathered.find("#models").is_displayed()  # nothing to choose
        page.driver.get_log("browser")
        written = (folder / "models.json").stat().st_mtime
        (folder / "models.json").write_text("[{}]")
        os.utime(folder / "models.json", (written, written))  # within the same second
        said = "model/models.json is damaged: make web writes it anew."
        assert gathered.open() == said
        (folder / "models.json").unlink()
        (folder / "digits.tflite").rename(folder / "synthesize.f32.tflite")
        assert gathered.open() == "" and not gathered.find("#models").is_displayed()
        (problem,) = gathered.problems()
        assert "model/models.json" in problem and "404" in problem
    for wrong, said in (
        (["drums"], "must be NAME=FILE, the name of letters, digits and ._-. "),
        (["drums=nowhere"], "nowhere is not there: export.py writes it"),
        ([given[0]] * 2, "each name can be given once"),
    ):
        with pytest.raises(SystemExit):
            gather.main(wrong)
        assert said in capsys.readouterr().err


def test_a_dropped_file(page, models):
    page.open("?model=model/nothing.tflite")
    drop = (
        "const done = arguments[0];"
        "fetch('model/synthesize.f32.tflite').then(r => r.blob()).then(blob => {"
        "  const dataTransfer = new DataTransfer();"
        "  dataTransfer.items.add(new File([blob], 'dropped.tflite'));"
        "  const options = { dataTransfer, bubbles: true, cancelable: true };"
        "  document.body.dispatchEvent(new DragEvent('dragover', options));"
        "  const lit = document.body.classList.contains('dropping');"
        "  document.body.dispatchEvent(new DragEvent('drop', options));"
        "  done(lit && !document.body.classList.contains('dropping'));"
        "})"
    )
    assert page.driver.execute_async_script(drop)
    page.until(page.find("#play").is_enabled)
    assert page.sound()[1].shape == (16384,)


def test_where_no_model_is(page):
    said = page.open("?model=model/absent.tflite")
    assert said == (
        "No model at model/absent.tflite (404). Put what export.py writes into the "
        "folder model/ beside this page, or open a .tflite file here."
    )
    assert page.find("#about").text == "No model yet"
    assert not page.find("#play").is_enabled()
    said = page.open("?model=https://example.org/synthesize.tflite")
    assert "takes models from its own server only" in said
    assert "connect-src https://example.org/synthesize.tflite" in page.problems()


def test_the_policy(page, models):
    """Sent as a header it binds the worker too. It lets through what the page needs,
    and neither inline scripts nor eval."""
    page.open()
    policy = page.find("meta[http-equiv]").get_attribute("content")
    assert policy.startswith(
        "default-src 'none'; script-src 'self' 'wasm-unsafe-eval';"
    )
    assert "unsafe-inline" not in policy and "'unsafe-eval'" not in policy
    assert page.problems() == []
    page.driver.execute_script(
        "const s = document.createElement('script'); s.textContent = 'self.ran = 1';"
        "document.body.append(s); setTimeout('self.ran = 1', 0);"
        "document.body.setAttribute('style', 'color: red')"
    )
    page.until(lambda: len(page.driver.execute_script("return violations")) == 3)
    ran, violations = page.driver.execute_script("return [self.ran, violations]")
    assert ran is None and sorted(violations) == [
        "script-src eval",
        "script-src-elem inline",
        "style-src-attr inline",
    ]

    header = "Content-Security-Policy"
    with screenshot.serving(models[1], {header: policy}) as url:
        bound = Page(page.driver, url, page.downloads)
        page.driver.get_log("browser")
        assert bound.open() == ""
        assert bound.problems() == []
    without = policy.replace(" 'wasm-unsafe-eval'", "")
    with screenshot.serving(models[1], {header: without}) as url:
        said = Page(page.driver, url, page.downloads).open()
        assert said.startswith("LiteRT does not start here (")
        assert said.endswith(
            "needs WebAssembly with SIMD, and the folder vendor/ beside it."
        )


# In Firefox

NO_DEVICE = {"media.cubeb.force_null_context": True}  # on machines that have one, too
PROBE = """
import { page } from "/main.js";
self.page = page;
self.starts = [];
const { start } = AudioBufferSourceNode.prototype;
AudioBufferSourceNode.prototype.start = function (when) {
  starts.push(when);
  start.call(this, when);
};
self.violations = [];
addEventListener("securitypolicyviolation", (event) => {
  violations.push(`${event.violatedDirective} ${event.blockedURI}`);
});
"""


@pytest.fixture
def in_firefox(vendored, models, tmp_path):
    """Firefox, which has opened the page, and the folder it saves to."""
    installed(firefox.find(), "Firefox is not on this machine (Debian: firefox-esr)")
    downloads = tmp_path / "downloads"
    downloads.mkdir()
    saving = {"folderList": 2, "dir": str(downloads)}
    prefs = {f"browser.download.{name}": value for name, value in saving.items()}
    (models[1] / "probe.js").write_text(PROBE)
    with (
        screenshot.serving(models[1]) as url,
        firefox.browser(tmp_path, prefs | NO_DEVICE) as driver,
    ):
        driver.get(url + "?seed=0")
        assert screenshot.wait_until_ready(driver) == ""
        driver.execute_async_script(
            "const script = document.createElement('script');"
            "script.type = 'module';"
            "script.src = 'model/probe.js';"
            "script.onload = () => arguments[0]();"
            "document.body.append(script)"
        )
        yield driver, downloads


def test_in_firefox_without_an_audio_device(in_firefox, models, measured):
    """Its sounds are those of Keras; it says that none comes out, and none piles up."""
    driver, downloads = in_firefox

    def tell(what):
        return driver.execute_script(f"return self.{what}")

    def find(id):
        return driver.find(f"#{id}")

    def until(condition):
        return Page.until(None, condition)

    def sound():
        code = "const { z, audio } = self.page.sound;"
        arrays = driver.execute_script(
            f"{code} return [Array.from(z), Array.from(audio)]"
        )
        return [np.array(array, np.float32) for array in arrays]

    z, audio = sound()
    measured("noise, dB", -verify.snr(audio, in_python(models, z)[1]), -90)
    assert not find("message").is_displayed()
    find("pad").send_keys(Keys.ARROW_RIGHT * 3)
    until(lambda: find("place").text == "0.15, 0.00")
    until(find("message").is_displayed)
    assert find("message").text.startswith("No sound comes out. Browsers keep a page")
    until(lambda: not np.array_equal(sound()[0], z))
    z, audio = sound()
    measured("noise, dB", -verify.snr(audio, in_python(models, z)[1]), -90)
    for _ in range(3):
        find("play").click()
    assert tell("starts.length") == 0  # they would all be heard at once
    find("run").click()
    until(find("message").is_displayed)
    assert find("run").text == "Stop" and tell("starts.length") <= 4
    find("run").click()

    for button, name in (("save", "specgan-1"), ("save-loop", "specgan-loop-112bpm")):
        find(button).click()
        path = downloads / f"{name}.wav"
        until(lambda path=path: path.exists() and path.stat().st_size > 44)
        rate, samples = wavfile.read(path)
        assert rate == RATE and np.abs(samples.astype(int)).max() > 1000
    assert tell("violations.length") == 0


def test_sounds_are_heard_once_the_clock_goes(page):
    """A context that is suspended at first, as of a page that nobody has clicked."""
    page.open("?seed=0")
    page.driver.execute_script(
        "self.AudioContext = class extends AudioContext {"
        "  constructor() { super(); this.suspend(); }"
        "  resume() { return self.allowed ? super.resume() : this.suspend(); }"
        "}"
    )
    pad = page.find("#pad")
    for _ in range(4):
        page.changed(lambda: pad.send_keys(Keys.ARROW_RIGHT))
    page.until(page.find("#message").is_displayed)
    assert page.find("#message").text.startswith("No sound comes out.")
    before = len(page.driver.execute_script("return starts"))
    page.driver.execute_script("self.allowed = true")
    page.find("#place").click()
    page.until(lambda: len(page.driver.execute_script("return starts")) > before)
    page.until(lambda: not page.find("#message").is_displayed())
    assert len(page.driver.execute_script("return starts")) == before + 1
    assert page.problems() == []


def test_nothing_leaves_the_machine(vendored, models, tmp_path):
    """By what Chromium logs of its network, workers and all, until its end."""
    installed(screenshot.missing() is None, screenshot.missing())
    log = tmp_path / "net.json"
    no_names = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
    flags = (no_names, f"--log-net-log={log}")
    with (
        screenshot.serving(models[1]) as url,
        screenshot.browser(flags, tmp_path) as driver,
    ):
        page = Page(driver, url, tmp_path)
        assert page.open() == ""
        page.changed(page.find("#fresh").click)
        for button in ("run", "save", "save-loop"):
            page.find(f"#{button}").click()
        page.saved("specgan-loop-112bpm.wav")
    log = json.loads(log.read_text())
    started = log["constants"]["logEventTypes"]["URL_REQUEST_START_JOB"]
    asked = {}
    for event in log["events"]:
        about = event.get("params", {})
        if event["type"] == started and about.get("initiator", "").startswith("http"):
            asked_for = urllib.parse.urlsplit(about["url"])
            paths = asked.setdefault(asked_for.hostname, set())
            paths.add(os.path.basename(asked_for.path))
    assert asked.keys() == {"127.0.0.1"}, asked
    wasm = {"litert_wasm_internal.wasm", "litert_wasm_compat_internal.wasm"}
    assert {"worker.js", "synthesize.f32.tflite"} <= asked["127.0.0.1"]
    assert len(wasm & asked["127.0.0.1"]) == 1


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [360, 1100])
def test_accessible(page, width, dark):
    """By axe's rules (names, roles, contrast), and without scrolling sideways."""
    screenshot.look(page.driver, width, dark=dark)
    page.open()
    overflow = "return document.documentElement.scrollWidth - innerWidth"
    assert page.driver.execute_script(overflow) <= 0
    with open(os.path.join(WEB, "node_modules", "axe-core", "axe.min.js")) as f:
        page.driver.execute_script(f.read())
    found = page.driver.execute_async_script(
        "axe.run().then(({ violations, passes }) => arguments[0]({"
        "violations: violations.map(v => [v.id, v.nodes.map(n => n.html)]),"
        "passes: passes.length }))"
    )
    assert found["violations"] == [] and found["passes"] > 20


def test_a_screenshot(tmp_path, vendored, models):
    from PIL import Image

    installed(screenshot.missing() is None, screenshot.missing())
    out = str(tmp_path / "web.png")
    screenshot.main([str(models[1] / "synthesize.f32.tflite"), out, "--width", "900"])
    with Image.open(out) as image:
        assert image.width == 900 and 1000 < image.height < 1400
        assert len(image.convert("RGB").getcolors(1 << 20)) > 100
        assert image.convert("RGB").getpixel((0, 0)) == (0x13, 0x10, 0x19)  # --back
    with pytest.raises(SystemExit):
        screenshot.main([str(tmp_path / "nowhere.tflite"), out])
