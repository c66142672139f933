"""ONNX files do what Keras does, for any batch, and where TensorFlow is not."""

import importlib.util
import json
import os
import subprocess
import sys
import wave

import numpy as np
import pytest
from conftest import ROOT, installed

from specgan_tf import SpecGANGenerator, generate, spectral
from specgan_tf.cli import export as export_script
from specgan_tf.export import onnx_graph, verify
from specgan_tf.moments import Moments
from specgan_tf.spectral import GriffinLim
from specgan_tf.weights import bundled

EXAMPLE = os.path.join(ROOT, "examples", "onnx_generate.py")
MOMENTS = Moments(np.full(129, -3, np.float32), np.ones(129, np.float32))
PADDED = MOMENTS._replace(log_eps=1e-3, pad_front=True)
GL = GriffinLim(5, "dual", 0.9)


@pytest.fixture(autouse=True, scope="module")
def packages():
    for name in onnx_graph.PACKAGES:
        found = importlib.util.find_spec(name)
        installed(found, f"{name} is not installed: pip install '.[onnx]'")


def generator(**options):
    G = SpecGANGenerator(dim=4, latent_dim=9, **options)
    rs = np.random.RandomState(0)
    for v in G.trainable_variables:  # loud enough for errors to show
        v.assign(v * 2 + 0.05 * rs.randn(*v.shape))
    return G


def shapes(tensors):
    """Name -> dimensions, numbers or names."""
    return {
        t.name: [d.dim_param or d.dim_value for d in t.type.tensor_type.shape.dim]
        for t in tensors
    }


@pytest.mark.parametrize(
    "moments, griffin_lim, slice_len",
    [(PADDED, GL, 16384), (MOMENTS, GriffinLim(16), 16384), (PADDED, GL, 32768)],
)
def test_sound_is_that_of_keras(tmp_path, moments, griffin_lim, slice_len, measured):
    """One latent at a time, and several at once, with as many steps as are asked."""
    path, about = str(tmp_path / "synthesize.onnx"), {"ngl": 5, "sample_rate": 22050}
    G = generator(slice_len=slice_len)
    onnx_graph.save_onnx(G, moments, path, "synthesize", griffin_lim, about)
    reference = verify.Reference(G, moments, griffin_lim)
    assert np.abs(reference.audio[0]).max() > 0.01
    assert reference.audio[0].shape == (verify.ROWS, slice_len, 1)
    rows, _ = reference.compare(path)
    assert rows.keys() == {"synthesize"}
    row = rows["synthesize"]
    measured("spectrograms, noise, dB", -row["spectrogram, SNR dB"], -110)
    measured("audio, noise, dB", -row["audio at ngl 0, SNR dB"], -verify.AUDIO)
    measured("audio after its steps, noise, dB", -row["audio, SNR dB"], -60)
    assert onnx_graph.metadata(path) == about


@pytest.mark.parametrize("upsample", ["nn", "lin", "cub"])
def test_other_networks(tmp_path, upsample, measured):
    G, path = generator(upsample=upsample, use_batchnorm=True), str(tmp_path / "g.onnx")
    onnx_graph.save_onnx(G, MOMENTS, path, "generate")
    rows, spectrograms = verify.Reference(G, MOMENTS).compare(path)
    assert spectrograms.shape == (verify.ROWS, 128, 128, 1)
    noise = -rows["generate"]["spectrogram, SNR dB"]
    measured("spectrograms, noise, dB", noise, -110)


def test_the_graphs(tmp_path):
    """Named inputs and outputs, a free batch, weights once, standard operators."""
    import onnx

    G = generator()
    wanted = {
        "generate": ({"z": ["batch", 9]}, {"G_z_norm": ["batch", 128, 128, 1]}),
        "synthesize": (
            {"z": ["batch", 9], "ngl": []},
            {"G_z_norm": ["batch", 128, 128, 1], "G_z": ["batch", 16384, 1]},
        ),
    }
    for signature, (inputs, outputs) in wanted.items():
        path = str(tmp_path / f"{signature}.onnx")
        onnx_graph.save_onnx(G, MOMENTS, path, signature, GL)
        model = onnx.load(path)
        assert shapes(model.graph.input) == inputs
        assert shapes(model.graph.output) == outputs
        assert {node.domain for node in model.graph.node} == {""}
        (opset,) = model.opset_import
        assert (opset.domain, opset.version) == ("", onnx_graph.OPSET)
        dft = 1_000_000 if signature == "synthesize" else 50_000
        assert os.path.getsize(path) < 4 * G.count_params() * 1.02 + dft
        loops = [n for n in model.graph.node if n.op_type == "Loop"]
        assert len(loops) == (signature == "synthesize")
        for loop in loops:  # nothing is handed on unchanged: OpenVINO refuses that
            (body,) = (a.g for a in loop.attribute if a.name == "body")
            assert not {x.name for x in body.input} & {x.name for x in body.output}
            assert len(body.input) == 2 + 3  # step, spectrum, estimate
    with pytest.raises(ValueError, match="must be one of .* Received: 'invert'"):
        onnx_graph.save_onnx(G, MOMENTS, path, "invert")
    onnx.helper.set_model_props(model, {"other": "1"})
    onnx.save(model, path)
    with pytest.raises(ValueError, match="has no SpecGAN metadata"):
        onnx_graph.metadata(path)


def test_what_is_no_use_is_not_written(tmp_path, monkeypatch):
    import onnx
    import tf2onnx

    path, G = str(tmp_path / "g.onnx"), generator()
    x, y = (
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1])
        for name in "xy"
    )
    for op, says in (
        ("Identity", "came out without its weights"),
        ("Identities", "is not valid ONNX: "),
    ):
        node = onnx.helper.make_node(op, ["x"], ["y"])
        graph = onnx.helper.make_graph([node], "g", [x], [y])
        opset = onnx.helper.make_opsetid("", onnx_graph.OPSET)
        model = onnx.helper.make_model(graph, opset_imports=[opset])
        made = lambda *_, model=model, **__: (model, None)  # noqa: E731
        monkeypatch.setattr(tf2onnx.convert, "from_function", made)
        with pytest.raises(verify.ExportError, match=says):
            onnx_graph.save_onnx(G, MOMENTS, path, "generate")
    assert not os.listdir(tmp_path)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """What the command writes for a small generator, and that generator's file."""
    folder = tmp_path_factory.mktemp("onnx")
    card = {"step": 7, "sample_rate": 22050, **GL._asdict()}
    card["gl_window"], card["gl_momentum"] = card.pop("window"), card.pop("momentum")
    bundled.save(folder / "g.npz", generator(), PADDED, card)
    argv = [
        str(folder / "g.npz"),
        "--formats",
        "onnx",
        "--out_dir",
        str(folder / "out"),
    ]
    assert export_script.main(argv) == 0
    return folder / "g.npz", folder / "out"


def test_the_command(exported, refused):
    path, out = exported
    files = {"report.json", "report.md", "spectrograms.png"}
    assert {*os.listdir(out)} == files | {"generator.onnx", "synthesize.onnx"}
    report = json.loads((out / "report.json").read_text())
    about = report["model"]
    assert (about["step"], about["sample_rate"], about["ngl"]) == (7, 22050, 5)
    for name in ("generator", "synthesize"):
        assert onnx_graph.metadata(out / f"{name}.onnx") == about
    rows = {row["file"]: row for row in report["rows"]}
    assert {f: row["signature"] for f, row in rows.items()} == {
        "generator.onnx": "generate",
        "synthesize.onnx": "synthesize",
    }
    assert all(row["spectrogram, SNR dB"] > 90 for row in rows.values())
    assert report["machine"]["onnxruntime"]
    assert "From above: Keras, generator.onnx" in (out / "report.md").read_text()
    said = refused(path, "--formats", "onnx", "--out_dir", out, script=export_script)
    assert "generator.onnx exists; choose another --out_dir" in said


BARE = """
import runpy, sys
for name in ("tensorflow", "keras", "specgan_tf", "tf2onnx", "onnx"):
    sys.modules[name] = None  # cannot be imported
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_the_example_without_tensorflow(exported, tmp_path):
    def run(*args):
        argv = [sys.executable, "-c", BARE, EXAMPLE, *map(str, args)]
        return subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True)

    path, model = exported[0], exported[1] / "synthesize.onnx"
    done = run(model, "sounds.wav")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    with wave.open(str(tmp_path / "sounds.wav")) as w:
        assert w.getparams()[:4] == (1, 2, 22050, 8 * 16384)
        samples = np.frombuffer(w.readframes(8 * 16384), "<i2")
    box = bundled.load(path)
    z = np.random.default_rng(0).uniform(-1, 1, (8, 9)).astype(np.float32)
    G_z = generate.render(box.G, box.moments, z, box.griffin_lim)["G_z"]
    want = spectral.turn_down(G_z).numpy().ravel() * 32767
    assert np.abs(want).max() > 300
    assert verify.snr(samples, want) > 30  # rounding to integers, and five steps
    for args, said in (
        ([model, "sounds.wav"], "File exists"),
        (["none.onnx", "new.wav"], "none.onnx"),
        ([exported[1] / "generator.onnx", "new.wav"], "Invalid input name: ngl"),
    ):
        done = run(*args)
        assert done.returncode == 1 and len(done.stderr.splitlines()) == 1
        assert done.stderr.startswith("onnx_generate.py: ") and said in done.stderr
    assert run().stderr.startswith("Eight sounds of a synthesize.onnx")
    assert os.listdir(tmp_path) == ["sounds.wav"]
