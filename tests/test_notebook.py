"""examples/specgan.ipynb runs from top to bottom, and is kept without outputs."""

import json
import os
import re

import pytest
from conftest import ROOT

from specgan_tf.weights import bundled

NOTEBOOK = os.path.join(ROOT, "examples", "specgan.ipynb")


def test_it_is_kept_clean():
    """No outputs, no counts, nobody's paths; small enough to read its changes."""
    with open(NOTEBOOK, encoding="utf-8") as f:
        text = f.read()
    for cell in json.loads(text)["cells"]:
        assert not cell["metadata"]
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [] and cell["execution_count"] is None
    assert not re.search(r"[\"' (]/\w+/\w+|[A-Z]:\\\\", text)
    assert len(text) < 20_000


def executed(tmp_path, tmp_path_factory, monkeypatch, prepare=lambda notebook: None):
    """What its cells show: outputs of nbformat, none of them an error or a warning.

    prepare: function that changes the notebook before it runs.
    """
    nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")
    pytest.importorskip("ipykernel", reason="ipykernel is not installed")
    import nbformat
    from traitlets.config import Config

    monkeypatch.setenv("PYTHONPATH", ROOT)
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    prepare(notebook)
    context = {"metadata": {"path": str(tmp_path)}}
    # Not by ports, which are found free, let go of, and may be another's by then.
    sockets = {"transport": "ipc", "ip": str(tmp_path_factory.mktemp("k") / "k")}
    nbclient.NotebookClient(
        notebook,
        timeout=1200,
        startup_timeout=300,
        resources=context,
        config=Config(KernelManager=sockets),
    ).execute()

    shown = [o for c in notebook.cells for o in c.get("outputs", [])]
    assert not [
        o for o in shown if o.output_type == "error" or o.get("name") == "stderr"
    ]
    assert not os.listdir(tmp_path)
    return shown


def pictures(shown):
    return sum("image/png" in o.get("data", {}) for o in shown)


def sounds(shown):
    found = [o["data"]["text/html"] for o in shown if "text/html" in o.get("data", {})]
    assert all("data:audio/wav;base64" in html for html in found)
    return found


def said(shown):
    """What is printed; it bears the text out: each inversion is better than the one
    before, and with each truncation sounds are more alike."""
    text = "".join(o.text for o in shown if o.output_type == "stream")
    errors = [float(e) for e in re.findall(r"^ngl .*: ([\d.]+)$", text, re.MULTILINE)]
    spread = [float(s) for s in re.findall(r"spread ([\d.]+)", text)]
    assert len(errors) == 3 and errors == sorted(errors, reverse=True)
    assert len(spread) == 3 and spread == sorted(spread, reverse=True)
    return text


@pytest.mark.slow
def test_it_runs_from_top_to_bottom(tmp_path, tmp_path_factory, monkeypatch):
    shown = executed(tmp_path, tmp_path_factory, monkeypatch)
    assert pictures(shown) == 5 and len(sounds(shown)) == 4
    text = said(shown)
    step = bundled.read_card("drums")["step"]
    assert f"step {step}, " in text
    assert "moments of" in text and "D_loss" in text and "float32 (1, 16384, 1)" in text


@pytest.mark.slow
def test_it_takes_the_other_model_by_its_name(tmp_path, tmp_path_factory, monkeypatch):
    """Up to the training, which has nothing to do with the name."""

    def prepare(notebook):
        titles = [cell.source.partition("\n")[0] for cell in notebook.cells]
        del notebook.cells[titles.index("## A training of one's own") :]
        (named,) = [c for c in notebook.cells if 'MODEL = "drums"' in c.source]
        named.source = named.source.replace("drums", "digits")

    shown = executed(tmp_path, tmp_path_factory, monkeypatch, prepare)
    assert pictures(shown) == 3 and len(sounds(shown)) == 3
    step = bundled.read_card("digits")["step"]
    assert (
        f"step {step}, " in said(shown) and step != bundled.read_card("drums")["step"]
    )
