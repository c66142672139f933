import shutil
import subprocess
import sys
import zipfile

import pytest
from conftest import ROOT


@pytest.mark.slow
def test_pip_installs_the_drums_and_the_box_too(tmp_path):
    source = tmp_path / "source"
    for name in ("setup.py", "README.md", "pyproject.toml", "LICENSE"):
        source.mkdir(exist_ok=True)
        shutil.copy(f"{ROOT}/{name}", source)
    shutil.copytree(f"{ROOT}/specgan_tf", source / "specgan_tf")
    pip = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(tmp_path)]
    subprocess.run([*pip, str(source)], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert sum(n.startswith("specgan_tf/data/drums/") for n in names) == 77
    assert "specgan_tf/data/provenance.csv" in names
    for name in ("generator.npz", "sounds.csv", "CARD.md"):
        assert f"specgan_tf/data/box/{name}" in names
    assert any(n.endswith("LICENSE") for n in names)
    assert not any(n.startswith(("tests/", "benchmarks/")) for n in names)
