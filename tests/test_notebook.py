"""examples/specgan.ipynb runs from top to bottom, and is kept without outputs."""

import json
import os
import re

import pytest
from conftest import ROOT

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


@pytest.mark.slow
def test_it_runs_from_top_to_bottom(tmp_path, tmp_path_factory, monkeypatch):
    nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")
    pytest.importorskip("ipykernel", reason="ipykernel is not installed")
    import nbformat
    from traitlets.config import Config

    monkeypatch.setenv("PYTHONPATH", ROOT)
    notebook = nbformat.read(NOTEBOOK, as_version=4)
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
    kinds = [kind for o in shown for kind in o.get("data", {})]
    assert kinds.count("image/png") == 5
    sounds = [o["data"]["text/html"] for o in shown if "text/html" in o.get("data", {})]
    assert len(sounds) == 4 and all("data:audio/wav;base64" in s for s in sounds)
    said = "".join(o.text for o in shown if o.output_type == "stream")
    errors = [float(e) for e in re.findall(r"^ngl .*: ([\d.]+)$", said, re.MULTILINE)]
    spread = [float(s) for s in re.findall(r"spread ([\d.]+)", said)]
    # Each better than the one before, and sounds more alike, as the text says.
    assert len(errors) == 3 and errors == sorted(errors, reverse=True)
    assert len(spread) == 3 and spread == sorted(spread, reverse=True)
    assert "moments of" in said and "D_loss" in said and "float32 (1, 16384, 1)" in said
    assert not os.listdir(tmp_path)
