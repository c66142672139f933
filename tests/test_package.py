import importlib
import os
import re
import shutil
import subprocess
import sys
import zipfile

import pytest
from conftest import ROOT

import specgan_tf


def test_importing_it_is_quick():
    """TensorFlow comes with the networks, when they are asked for."""
    code = (
        "import sys, specgan_tf\n"
        "assert not {'tensorflow', 'keras', 'numpy'} & set(sys.modules)\n"
        "assert specgan_tf.__version__ and 'SpecGAN' in dir(specgan_tf)\n"
        "assert issubclass(specgan_tf.errors.InputError, ValueError)\n"
        "assert 'tensorflow' not in sys.modules\n"
        "from specgan_tf import *\n"
        "assert 'tensorflow' in sys.modules and SpecGAN is specgan_tf.gan.SpecGAN\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_every_public_name_has_one_home():
    assert specgan_tf.__all__ == sorted(specgan_tf._HOMES)
    for name, home in specgan_tf._HOMES.items():
        found = getattr(specgan_tf, name)
        assert found is getattr(importlib.import_module(f"specgan_tf.{home}"), name)
        assert found.__module__ == f"specgan_tf.{home}"


def test_badges_and_extras_are_those_of_the_setup():
    with open(os.path.join(ROOT, "setup.py")) as f:
        setup = f.read()
    python = re.search(r'python_requires=">=([\d.]+)"', setup)[1]
    tensorflow = re.search(r'"tensorflow>=([\d.]+)"', setup)[1]
    assert f'"tensorflow[and-cuda]>={tensorflow}"' in setup and '"gpu": GPU' in setup
    titles = {"python": f"Python {python}+", "tensorflow": f"TensorFlow {tensorflow}+"}
    assert 'license="MIT"' in setup
    for name, title in {**titles, "licence": "licence MIT"}.items():
        with open(os.path.join(ROOT, "docs", "badges", f"{name}.svg")) as f:
            assert f"<title>{title}</title>" in f.read()


def test_no_other_name_is_there():
    with pytest.raises(AttributeError, match="'specgan_tf' has no attribute 'gen'"):
        specgan_tf.gen  # noqa: B018
    with pytest.raises(ImportError, match="cannot import name 'gen' from 'specgan_tf'"):
        from specgan_tf import gen  # noqa: F401


@pytest.mark.slow
def test_pip_installs_the_drums_and_the_bundled_models(tmp_path):
    source = tmp_path / "source"
    for name in ("setup.py", "README.md", "pyproject.toml", "LICENSE"):
        source.mkdir(exist_ok=True)
        shutil.copy(f"{ROOT}/{name}", source)
    compiled = shutil.ignore_patterns("__pycache__")  # another worker writes there
    shutil.copytree(f"{ROOT}/specgan_tf", source / "specgan_tf", ignore=compiled)
    pip = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(tmp_path)]
    subprocess.run([*pip, str(source)], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert sum(n.startswith("specgan_tf/data/drums/") for n in names) == 77
    assert "specgan_tf/data/provenance.csv" in names
    for name in ("generator.npz", "sounds.csv", "CARD.md"):
        assert f"specgan_tf/data/models/drums/{name}" in names
    assert any(n.endswith("LICENSE") for n in names)
    assert not any(n.startswith(("tests/", "benchmarks/")) for n in names)
    assert "specgan_tf/cli/train.py" in names
