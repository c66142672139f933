"""One HTML file of a training folder, whatever is there, in a browser too."""

import base64
import hashlib
import html.parser
import json
import logging
import os
import pathlib
import re
import shutil
import sys
import types
import xml.etree.ElementTree as ET

import numpy as np
import pytest
import tensorflow as tf
from conftest import BUFFER, REDUCED, ROOT, installed
from scipy.io import wavfile

sys.path.insert(0, ROOT)
import train_specgan
from demo.web import screenshot
from specgan_tf import generate, report, sheet
from specgan_tf.report import charts, gather, sections

HOSTILE = [
    "<script>alert(1)<|script>.wav",
    '" onerror="alert(2)" x=".wav',
    "'><img src=x onerror=alert(3)>.wav",
    "&lt;b&gt; &amp; ]]><!-- .wav",
    os.fsdecode(b"\xff\xfe no text.wav"),
]
EMPTY = {"meta", "link", "img"}  # elements without an end
FOLDER = "train <b>&\"'"


# Charts


def drawn(*args, **kwargs):
    """A chart: {class: [attributes of its elements]}, each point within the picture."""
    draw = report.TEMPLATES.get_template("macros.html").module.draw
    svg = ET.fromstring(draw(charts.chart(*args, **kwargs))).find("svg")
    assert svg.get("viewBox") == f"0 0 {charts.WIDTH} {charts.HEIGHT}"
    found = {}
    for node in svg:
        found.setdefault(node.get("class"), []).append(
            {**node.attrib, "text": node.text}
        )
        numbers = re.findall(r"-?[\d.]+", node.get("d", node.get("points", "")))
        x, y = np.array(numbers[::2], float), np.array(numbers[1::2], float)
        if "h2" not in node.get("d", ""):
            assert (x >= charts.LEFT).all() and (
                x <= charts.WIDTH - charts.RIGHT + 0.1
            ).all()
            assert (y >= charts.TOP).all() and (
                y <= charts.HEIGHT - charts.BOTTOM + 0.1
            ).all()
    return found


def points(path):
    return np.array([p.split() for p in re.split("[ML]", path)[1:]], float)


def test_a_chart_is_to_scale():
    found = drawn("<title>", [("a", [0, 50, 100], [0.0, 2.0, 4.0])])
    assert found["title"][0]["text"] == "<title>"
    left, middle, right = points(found["curve a"][0]["d"])
    np.testing.assert_allclose(middle, (left + right) / 2, atol=0.1)
    assert left[0] == charts.LEFT and right[0] == charts.WIDTH - charts.RIGHT
    assert left[1] == charts.HEIGHT - charts.BOTTOM and right[1] == charts.TOP
    ticks = {tick["text"]: tick for tick in found["tick"]}
    assert {"0", "1", "2", "3", "4", "50", "100", "step"} <= ticks.keys()
    assert float(ticks["100"]["x"]) == right[0]
    assert "band a" not in found, "nothing is averaged"


def test_a_chart_of_odd_values():
    assert charts.chart("none", []) is None
    assert charts.chart("none", [("a", [1, 2], [np.nan, np.inf])]) is None
    (curve,) = drawn("one", [("a", [7], [3.0])])["curve a"]
    assert curve["d"].endswith("h2")
    (curve,) = drawn("gap", [("a", [1, 2, 3, 4, 5], [1, 1, np.nan, 2, 2])])["curve a"]
    assert curve["d"].count("M") == 2
    y = points(drawn("flat", [("a", [1, 9], [5.0, 5.0])])["curve a"][0]["d"])[:, 1]
    assert y[0] == y[1]
    drawn("tiny", [("a", [1, 9], [1e-30, 3e-30])])
    drawn("huge", [("a", [1, 9], [-1e30, 3e30])])


def test_a_long_chart_is_averaged_and_a_spike_does_not_flatten_it():
    xs = np.arange(60_000)
    ys = np.where(xs % 2, 1.0, -1.0)
    ys[100] = 1e6
    found = drawn("long", [("a", xs, ys), ("b", xs, 0 * ys)])
    assert len(points(found["curve a"][0]["d"])) == charts.POINTS
    assert len(found["band a"]) == 1 and "band b" not in found
    ticks = [t["text"] for t in found["tick"]]
    assert "1" in ticks and "-1" in ticks and "60k" not in ticks and "40k" in ticks
    assert len(str(charts.chart("long", [("a", xs, ys)]))) < 20_000


@pytest.mark.parametrize(
    "low, high, want",
    [
        (0, 10, [0, 5, 10]),
        (-80, 9, [-100, -50, 0, 50]),
        (0.11, 0.52, [0.0, 0.2, 0.4, 0.6]),
        (3, 3, [3.0]),
    ],
)
def test_ticks_are_round_and_reach_around(low, high, want):
    np.testing.assert_allclose(charts.ticks(low, high), want, atol=1e-12)


def test_numbers_at_ticks():
    numbers = [0.1 + 0.2, -5, 9000, 12000, 3.5e6, 2e9]
    assert [*map(charts.number, numbers)] == ["0.3", "-5", "9000", "12k", "3.5M", "2G"]


# What was recorded


def write_events(folder, suffix, values):
    """An event file of D_loss: {step: value}, and a picture at each step."""
    writer = tf.summary.create_file_writer(str(folder), filename_suffix=suffix)
    with writer.as_default():
        for step, value in values.items():
            tf.summary.scalar("D_loss", value, step)
            image = np.full([1, 128, 128, 1], step, np.uint8)
            tf.summary.image("G_z/image", image, step)
            tf.summary.image("x/image", image, step)
    writer.close()
    (name,) = [n for n in os.listdir(folder) if n.endswith(suffix)]
    return folder / name


def test_events_of_several_runs(tmp_path):
    """A run that goes on from step 20 takes the place of what came after."""
    first = write_events(tmp_path, ".a", {10: 1.0, 20: 2.0, 30: 3.0, 40: 4.0})
    second = write_events(tmp_path, ".b", {21: 2.5, 31: 3.5})
    first.rename(tmp_path / "events.out.tfevents.1.a")
    second = second.rename(tmp_path / "events.out.tfevents.2.b")
    (tmp_path / "events.out.tfevents.3.c").write_bytes(b"")
    (tmp_path / "events.out.tfevents.4.d").write_bytes(os.urandom(999))
    series, images = gather.read_events(tmp_path)
    assert [*series] == ["D_loss"]
    assert series["D_loss"][0].tolist() == [10, 20, 21, 31]
    assert series["D_loss"][1].tolist() == [1.0, 2.0, 2.5, 3.5]
    assert [*images] == [10, 20, 21, 31]
    for step, (png,) in images.items():
        assert (gather.decode_png(png) == step).all()
    # killed while writing
    second.write_bytes(second.read_bytes()[:-99])
    series, _ = gather.read_events(tmp_path)
    assert series["D_loss"][0].tolist() == [10, 20, 21, 31]
    (tmp_path / "empty").mkdir()
    assert gather.read_events(tmp_path / "empty") == ({}, {})


def test_events_that_are_odd_or_many(tmp_path, monkeypatch):
    """A scalar that is text ends its file; of many pictures some stay, the last too."""
    writer = tf.summary.create_file_writer(str(tmp_path))
    with writer.as_default():
        metadata = tf.compat.v1.SummaryMetadata()
        metadata.plugin_data.plugin_name = "scalars"
        tf.summary.scalar("a", 1.0, 1)
        tf.summary.write("a", "text", 2, metadata)
        tf.summary.scalar("a", 3.0, 3)
    writer.close()
    assert gather.read_events(tmp_path)[0]["a"][0].tolist() == [1]
    (tmp_path / "many").mkdir()
    write_events(tmp_path / "many", ".a", {step: 0.0 for step in range(40)})
    monkeypatch.setattr(gather, "PICTURES", 10)
    series, images = gather.read_events(tmp_path / "many")
    assert len(series["D_loss"][0]) == 40
    assert 5 < len(images) <= 11 and max(images) == 39 and 0 in images


def test_events_of_the_original(tmp_path):
    """TF 1's scalars and pictures have another form; its latents are not the same."""
    with tf.io.TFRecordWriter(str(tmp_path / "events.out.tfevents.1.vm")) as f:
        for step in (1, 2):
            event = tf.compat.v1.Event(step=step)
            event.summary.value.add(tag="D_loss", simple_value=step / 2)
            value = event.summary.value.add(tag="G_z/image/0")
            value.image.encoded_image_string = b"none"
            f.write(event.SerializeToString())
    series, images = gather.read_events(tmp_path)
    assert series["D_loss"][1].tolist() == [0.5, 1.0] and images == {}


def test_steps_are_spread():
    assert sections.spread(range(0, 1001, 10), 3) == [0, 500, 1000]
    assert sections.spread({5: 0, 3: 0}) == [3, 5]


# Of folders


@pytest.fixture(scope="module")
def sounds(tmp_path_factory):
    """Sounds whose names would be HTML, and one that is none."""
    folder = tmp_path_factory.mktemp("sounds")
    rs = np.random.RandomState(0)
    for i, name in enumerate(HOSTILE + [f"{i}.wav" for i in range(6)]):
        x = rs.randn(20000) * np.exp(-np.arange(20000) / (1000 + 500 * i)) * 3000
        wavfile.write(folder / name, 16000, x.astype(np.int16))
    (folder / "<i>bad.wav").write_bytes(b"RIFF....")
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory, sounds):
    folder = tmp_path_factory.mktemp("trained") / FOLDER
    argv = ["train", folder, "--data_dir", sounds, "--seed", 1, "--train_max_steps", 2]
    argv += ["--specgan_dim", 1, "--train_batch_size", 2, "--data_first_slice"]
    with pytest.MonkeyPatch.context() as m:
        m.setattr(BUFFER, 64)
        assert train_specgan.main([str(a) for a in [*argv, "--data_pad_end"]]) == 0
    logging.getLogger().handlers.clear()
    return folder


class Elements(html.parser.HTMLParser):
    """What a page is made of."""

    def __init__(self, source):
        super().__init__()
        self.found, self.open, self.words = [], [], []
        self.feed(source)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))
        if tag not in EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.words.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.found if name == tag]

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


def made(folder, *flags):
    """The report of a folder: written, read, closed tag by tag."""
    fp = os.path.join(folder, "report.html")
    assert train_specgan.main(["report", str(folder), *map(str, flags)]) == 0
    logging.getLogger().handlers.clear()
    with open(fp, encoding="utf-8") as f:
        elements = Elements(f.read())
    assert elements.open == []
    return elements


ALLOWED = set(
    "html head body meta link title style header section h1 h2 p strong div span "
    "figure figcaption svg text line path polygon img audio table tr th td ul li "
    "details summary".split()
)


@pytest.fixture(scope="module")
def reported(trained):
    return made(trained, "--report_n", 12)


def test_a_report_is_one_file_without_scripts(reported):
    tags = {tag for tag, _ in reported.found}
    assert tags <= ALLOWED
    names = {name for _, attributes in reported.found for name in attributes}
    assert not any(name.startswith("on") or name == "style" for name in names)
    for _, attributes in reported.found:
        for name in ("src", "href"):
            assert attributes.get(name, "data:").startswith("data:")
    policy = reported.all("meta")[1]["content"]
    assert reported.all("meta")[1]["http-equiv"] == "Content-Security-Policy"
    digest = base64.b64encode(hashlib.sha256(report.STYLE.encode()).digest()).decode()
    assert policy == (
        f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; "
        "media-src data:; base-uri 'none'; form-action 'none'"
    )
    assert "url(" not in report.STYLE and "@import" not in report.STYLE


def test_hostile_names_are_text(reported):
    """Of the folder, of sounds, of one that was skipped."""
    assert f"SpecGAN training “{FOLDER}”" in reported.text
    assert re.search(r"/<i>bad\.wav: .+", reported.text)
    captions = [a["aria-label"] for a in reported.all("audio")]
    assert len(captions) == 12 + 12 + 11, "generated, nearest to them, all real ones"
    written = {n.encode("utf-8", "backslashreplace").decode() for n in HOSTILE}
    assert written < set(captions)
    alts = {a["alt"].removeprefix("spectrogram of ") for a in reported.all("img")}
    assert set(captions) <= alts


def test_what_a_report_says(reported, trained, sounds):
    text = reported.text
    for said in (
        "step 2 · wgan-gp · newest checkpoint model.ckpt-2 · report made 20",
        "Too early to tell Losses are judged by 6 summaries from step 100 on, ",
        "Spectrograms over time 0 2 Made with the checkpoints in the folder.",
        "the nearest real one among 11 slices",
        f"folder {sounds} files 12 total length 13.8 s length of a file 1.2 to 1.25 s",
        "sample rates 11 at 16000 Hz trained at 16000 Hz skipped 1",
        "None yet: the modes score and incept of train_specgan.py compute them.",
        "not the default data_dir",
        "specgan_tf 0.1.0 Python 3.",
    ):
        assert said in text, said
    titles = [
        t for t in reported.words if t in {title for title, *_ in sections.CURVES}
    ]
    # of rates there is a word from the second summaries on
    assert len(titles) == len(sections.CURVES) - 2
    _, D_loss = gather.read_events(trained)[0]["D_loss"]
    labels = [a["aria-label"] for a in reported.all("svg")]
    assert f"D_loss from {D_loss[0]:.3g} to {D_loss[-1]:.3g}" in labels[0]
    assert labels[-1].startswith("Moments: mean log magnitude")


def test_clips_of_a_report_are_what_the_generator_makes(reported, trained):
    from specgan_tf import load_generator, moments, spectral

    G, known = load_generator(trained), moments.load(trained / "moments.pkl")
    z = generate.sample_z(12, 100, 0)
    want = spectral.float_to_int16(generate.render(G, known, z)["G_z"])
    (player,) = [a for a in reported.all("audio") if a["aria-label"] == "generated 5"]
    data = base64.b64decode(player["src"].removeprefix("data:audio/wav;base64,"))
    assert data[44:] == want[5].numpy().tobytes()


def test_hostile_settings_are_text(tmp_path):
    """A flag's value, a folder's name and a scalar's tag, each of them HTML."""
    folder = tmp_path / FOLDER
    folder.mkdir()
    write_events(folder, ".a", {0: 1.0, 5: 2.0})
    settings = [
        ("specgan_loss", HOSTILE[0], False),
        ("data_sample_rate", 16000, True),
        ("data_slice_len", 16384, True),
        ("data_dir", HOSTILE[1] + "{{ 7 * 7 }}", False),
        *((f"specgan_{n}", None, True) for n in ("clip_nstd", "log_eps", "pad_front")),
    ]
    report.write(
        tmp_path / "r.html", gather.Training(folder, settings, "</p>" + HOSTILE[2])
    )
    page_of = Elements((tmp_path / "r.html").read_text(encoding="utf-8"))
    assert page_of.open == [] and {tag for tag, _ in page_of.found} <= ALLOWED
    for text in (HOSTILE[0], HOSTILE[1] + "{{ 7 * 7 }}", "</p>" + HOSTILE[2]):
        assert text in page_of.text
    assert not any(k.startswith("on") for _, given in page_of.found for k in given)
    assert page_of.all("svg") and not page_of.all("audio")


def copy_of(trained, tmp_path):
    return pathlib.Path(shutil.copytree(trained, tmp_path / "train"))


def test_nothing_but_a_report_is_replaced(trained, tmp_path, capfd):
    folder = copy_of(trained, tmp_path)
    before = sorted(p for p in folder.rglob("*") if p.name != "report.html")
    made(folder, "--report_n", 2)
    first = (folder / "report.html").read_bytes()
    assert len(made(folder, "--report_n", 1).all("audio")) == 3
    assert (folder / "report.html").read_bytes() != first
    assert sorted(p for p in folder.rglob("*") if p.name != "report.html") == before
    (folder / "report.html").write_text("mine")
    for fp in (folder / "report.html", folder):
        assert train_specgan.main(["report", str(folder), "--report_fp", str(fp)]) == 2
    assert (folder / "report.html").read_text() == "mine"
    err = capfd.readouterr().err.splitlines()
    assert err[0].endswith("report.html is not a report; name another with --report_fp")
    assert err[1].endswith("train is a folder; name a file with --report_fp")


def test_of_a_folder_without_summaries_data_or_settings(trained, tmp_path):
    folder = copy_of(trained, tmp_path)
    for fp in folder.glob("*tfevents*"):
        fp.unlink()
    text = made(folder, "--data_dir", tmp_path / "gone", "--report_n", 2).text
    assert "No summaries in this folder" in text
    assert "Made with the checkpoints in the folder." in text
    assert (
        f"The sounds could not be read: data_dir {tmp_path}/gone does not exist."
        in text
    )
    assert "No real sounds to compare with" in text
    (folder / "moments.pkl").unlink()
    (folder / "args.txt").unlink()
    report_of = made(folder)
    assert "No args.txt: values are from the checkpoint, or defaults." in report_of.text
    assert "No sounds: no moments file at" in report_of.text
    assert report_of.all("audio") == [] and len(report_of.all("img")) == 2 * 4


@pytest.mark.parametrize(
    "values, kind, headline",
    [
        ([0.5] * 8, "good", "No sign of trouble in the losses"),
        ([0.5] * 7 + [np.nan], "bad", "Trouble: diverged"),
        ([0.5] * 2, "early", "Too early to tell"),
    ],
)
def test_a_verdict_is_on_top(tmp_path, values, kind, headline):
    steps = {100 + 10 * i: value for i, value in enumerate(values)}
    write_events(tmp_path, ".a", steps)
    page_of = made(tmp_path)
    first, *_ = [a["class"] for a in page_of.all("section")]
    assert first == f"verdict {kind}" and headline in page_of.text
    words = page_of.text
    assert words.index(headline) < words.index("Listen") < words.index("Curves")


def test_nothing_saved_since_step_0(trained, tmp_path):
    """One line, not a row of silent players."""
    folder = copy_of(trained, tmp_path)
    for fp in folder.glob("model.ckpt-2.*"):
        fp.unlink()
    (folder / "checkpoint").write_text('model_checkpoint_path: "model.ckpt-0"\n')
    page_of = made(folder)
    assert "Nothing saved since step 0" in page_of.text
    assert page_of.all("audio") == []


def test_curves_share_an_x_axis_and_have_notes(trained):
    series, _ = gather.read_events(trained)
    t = types.SimpleNamespace(series=series)
    drawn_charts = sections.curves(t)
    assert len({tuple(text for _, text in c.x_ticks) for c in drawn_charts}) == 1
    assert all(c.note.endswith(".") for c in drawn_charts) and len(drawn_charts) > 5


def test_of_an_empty_folder(tmp_path, capfd):
    text = made(tmp_path).text
    assert "step 0 · wgan-gp · report made" in text
    for said in ("No checkpoint yet", "nothing to show", "No moments in this folder."):
        assert said in text.replace("No sounds: no moments file", "No checkpoint yet")
    assert "Every setting has its default." in text
    assert train_specgan.main(["report", str(tmp_path / "none")]) == 2
    assert "none does not exist" in capfd.readouterr().err


def test_of_a_folder_of_the_original(trained, tmp_path):
    """A TF 1.12 checkpoint and moments, and nothing else."""
    folder = tmp_path / "train"
    shutil.copytree(os.path.join(REDUCED, "continue_lsgan"), folder)
    shutil.copy(trained / "moments.pkl", folder)
    page_of = made(folder)
    assert "step 1 · lsgan · newest checkpoint model.ckpt-1" in page_of.text
    assert "upsample nn, lin or cub, and nothing says which" in page_of.text
    assert not page_of.all("audio")
    page_of = made(folder, "--report_n", 2, "--specgan_genr_upsample", "nn")
    # the drums stand in, as they do wherever no data_dir is given
    assert len(page_of.all("audio")) == 3 * 2


def test_previews_come_first(trained, tmp_path):
    folder = copy_of(trained, tmp_path)
    (folder / "preview").mkdir()
    images = np.random.RandomState(0).randint(0, 255, (9, 128, 128, 1)).astype(np.uint8)
    picture = sheet.contact_sheet(images, range(9), 16000)
    for step in range(10, 130, 10):
        sheet.write_png(folder / "preview" / f"{step:08d}.png", picture)
    z = generate.sample_z(3, 100, 7).numpy()
    generate.save_z(folder / "preview" / "z.pkl", z)
    page_of = made(folder, "--report_n", 1)
    assert "From the previews. Each column is one step" in page_of.text
    assert "Spectrograms over time 10 30 40 60 70 90 100 120 From" in page_of.text
    pictures = [a for a in page_of.all("img") if a["alt"] == "generated at step 90"]
    data = base64.b64decode(pictures[1]["src"].removeprefix("data:image/png;base64,"))
    got = tf.io.decode_png(data, channels=3)
    np.testing.assert_array_equal(got, sheet.colour(images[1]))
    # the same latents as in the previews, then others
    np.testing.assert_array_equal(gather.latents(folder, 5, 100)[:3], z)
    assert len(gather.latents(folder, 5, 100)) == 5
    (folder / "preview" / "z.pkl").write_bytes(b"damaged")
    assert "z.pkl is not a pickle of float arrays, or damaged" in made(folder).text


def test_scores(trained, tmp_path):
    """Of the score mode, as JSON, and of incept, as summaries."""
    folder = copy_of(trained, tmp_path)
    (folder / "score").mkdir()
    for step in (500, 1000):
        numbers = {
            "clips": 64,
            "similarity_self": [step / 10, 2.5],
            "classes": {"a": 1},
        }
        said = {"checkpoint": "c", "generated": numbers, "real": {"clips": 77}}
        (folder / "score" / f"{step:08d}.json").write_text(json.dumps(said))
    for damaged in ("[]", "no JSON", '{"generated": {"clips": "<b>"}, "real": {}}'):
        (folder / "score" / f"{len(damaged):08d}.json").write_text(damaged)
    writer = tf.summary.create_file_writer(str(folder / "incept"))
    with writer.as_default():
        for step in (1, 2):
            tf.summary.scalar("incept_mean", 3.0 + step, step)
    writer.close()
    found = gather.read_scores(folder)
    assert [*found] == [500, 1000]
    page_of = made(folder, "--report_n", 1)
    rows = "clips |D|self step 500 64 50 ± 2.5 step 1000 64 100 ± 2.5 real sounds 77"
    assert rows in page_of.text
    labels = [a["aria-label"] for a in page_of.all("svg")]
    assert "|D|self: similarity_self from 50 to 100" in labels
    assert "incept_mean, by checkpoint: incept_mean from 4 to 5" in labels


# In a browser


@pytest.mark.slow
def test_in_a_browser(trained, reported, tmp_path):
    """Pictures load, players play, nothing is asked of any network, none complains."""
    reason = screenshot.missing()
    installed(reason is None, reason)
    fp = shutil.copy(trained / "report.html", tmp_path / "report.html")
    flags = "--autoplay-policy=no-user-gesture-required", "--mute-audio"
    with screenshot.browser(flags) as driver:
        for width, dark in ((1200, False), (360, True)):
            screenshot.look(driver, width, 900, dark=dark)
            driver.get(pathlib.Path(fp).as_uri())
            driver.execute_script(
                "document.querySelectorAll('details').forEach(d => d.open = true)"
            )
            widths = driver.execute_script(
                "return [...document.images].map(i => [i.naturalWidth, i.width])"
            )
            assert len(widths) == len(reported.all("img")) > 30
            assert all(natural == 128 and shown > 0 for natural, shown in widths)
            wide = driver.execute_script("return document.documentElement.scrollWidth")
            assert wide <= width, "nothing is cut off"
            buttons = driver.execute_script(
                "return [...document.querySelectorAll('.play')].map(p => {"
                "  const b = p.getBoundingClientRect();"
                "  const i = p.parentNode.querySelector('img').getBoundingClientRect();"
                "  return [b.width, b.height, b.left - i.left, i.bottom - b.bottom] })"
            )
            assert len(buttons) == len(reported.all("audio"))
            assert np.min(buttons, 0).tolist() >= [44, 44, 0, 0], "on its picture"
            ground, ink = driver.execute_script(
                "const s = getComputedStyle(document.body);"
                "return [s.backgroundColor, s.color]"
            )
            assert (brightness(ground) < brightness(ink)) == dark
            curve = driver.execute_script(
                "const c = [...document.querySelectorAll('path.curve')].at(-1);"
                "const box = c.getBoundingClientRect();"
                "return [getComputedStyle(c).stroke, box.height]"
            )
            assert abs(brightness(curve[0]) - brightness(ground)) > 60
            assert curve[1] > 0
        played = driver.execute_async_script(
            "const done = arguments[0], players = document.querySelectorAll('audio');"
            "Promise.all([...players].map(async a => {"
            "  await a.play();"
            "  await new Promise(ok => a.ontimeupdate = () => a.currentTime && ok());"
            "  a.pause(); return [a.currentTime, a.duration];"
            "})).then(done, e => done(String(e)))"
        )
        assert len(played) == len(reported.all("audio")), played
        assert all(now > 0 and abs(length - 1.024) < 1e-3 for now, length in played)
        asked = driver.execute_script(
            "return performance.getEntriesByType('resource').map(e => e.name)"
        )
        assert [url for url in asked if not url.startswith("data:")] == []
        assert driver.get_log("browser") == []


def brightness(color):
    red, green, blue = map(int, re.findall(r"\d+", color)[:3])
    return 0.3 * red + 0.6 * green + 0.1 * blue


def test_the_readmes_picture_is_a_command(trained, reported, tmp_path):
    from benchmarks import report as picture

    reason = screenshot.missing()
    installed(reason is None, reason)
    out = tmp_path / "report.png"
    picture.main([str(trained / "report.html"), str(out), "--height", "500"])
    image = tf.io.decode_png(out.read_bytes()).numpy()
    assert image.shape[:2] == (500, 1100) and image.std() > 10
