"""What commands that fail leave behind, and which files their errors name."""

import os
import threading

import numpy as np
import pytest
from scipy.io import wavfile

from specgan_tf import files
from specgan_tf.cli import export as export_script
from specgan_tf.cli import run as command
from specgan_tf.errors import InputError
from specgan_tf.loader import decoder


def test_a_folder_is_made_and_removed_again_if_the_block_fails(tmp_path):
    new = tmp_path / "a" / "b"
    with pytest.raises(RuntimeError), files.making_dir(new):
        assert new.is_dir()
        raise RuntimeError
    assert os.listdir(tmp_path) == []
    with pytest.raises(RuntimeError), files.making_dir(new):
        (new / "kept").write_text("")
        raise RuntimeError
    assert os.listdir(new) == ["kept"]
    (new / "kept").unlink()
    with pytest.raises(RuntimeError), files.making_dir(new):  # it was there before
        raise RuntimeError
    assert new.is_dir()
    with files.making_dir(new / "c"):
        pass
    assert (new / "c").is_dir()
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "x"):
        refused = pytest.raises(InputError, match="file is not a folder")
        with refused, files.making_dir(path):
            pass
    assert sorted(os.listdir(tmp_path)) == ["a", "file"]


def test_a_file_in_place_of_a_folder_is_refused_before_the_work(
    refused, tmp_path, monkeypatch
):
    def never(*_):
        raise AssertionError("TensorFlow was imported")

    monkeypatch.setattr(command, "import_tensorflow", never)
    file = tmp_path / "notes.md"
    file.write_text("mine")
    for out in (file, file / "x"):
        argv = ["drums", "--out_dir", out]
        said = [refused(*argv, script=export_script)]
        said.append(refused("classifier", tmp_path, out))
        said.append(refused("generate", "--generate_dir", out))
        said.append(refused("train", tmp_path / "new", "--data_cache", out))
        for line in said:
            assert f"{file} is not a folder: choose another folder" in line
    assert file.read_text() == "mine" and os.listdir(tmp_path) == ["notes.md"]


def test_a_lock_goes_with_a_training_that_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError), files.only_training(tmp_path):
        other = files.only_training(tmp_path)
        with pytest.raises(InputError, match="another training"), other:
            pass
        assert os.listdir(tmp_path) == [".lock"]  # the other one's failure is its own
        raise RuntimeError
    assert os.listdir(tmp_path) == []
    with files.only_training(tmp_path):
        pass
    with pytest.raises(RuntimeError), files.only_training(tmp_path):
        raise RuntimeError
    assert os.listdir(tmp_path) == [".lock"]  # it was there before


def test_errors_name_the_file_that_was_asked_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    for path in ("nowhere/r.html", "file/r.html"):
        with pytest.raises(OSError) as e, files.replacing(path):
            pass
        assert e.value.filename == path
    refused = pytest.raises(InputError, match="file is not a folder")
    with refused:
        files.require_folder("file")
    with refused, files.replacing_dir("file/x/y"):
        pass
    with pytest.raises(InputError), files.replacing_dir("deep/x/y"):
        raise InputError
    assert os.listdir() == ["file"]


def test_failed_commands_leave_no_folders(refused, tmp_path, monkeypatch):
    """Without slices there are no moments, and this export is refused."""
    monkeypatch.chdir(tmp_path)
    os.mkdir("data")
    wavfile.write("data/short.wav", 16000, np.ones(99, np.int16))
    argv = ["--data_dir", "data", "--data_cache", "deep/cache"]
    for mode in ("train", "moments"):
        line = refused(mode, f"new/{mode}", *argv)
        assert "too short for random slices" in line
    assert "no moments file at nowhere" in refused(
        *["generate", "--generate_dir", "new", "--data_moments_fp", "nowhere"]
    )
    argv = ["--out_dir", "new/export", "--data_moments_fp", "nowhere"]
    assert "no moments file at nowhere" in refused(*argv, script=export_script)
    line = refused("report", "data", "--report_fp", "nowhere/r.html")
    assert line.endswith(
        f"{tmp_path}/nowhere does not exist; choose another --report_fp"
    )
    line = refused("generate", "--z_fp", "nowhere/z.npy", "--generate_dir", "new")
    assert line.endswith("No such file or directory: nowhere/z.npy")
    # deep/cache holds the sound that was decoded.
    assert sorted(os.listdir()) == ["data", "deep"]


def test_no_file_is_named_after_the_error(tmp_path, caplog):
    """Of files that several threads find to be bad at a time."""
    fps = [str(tmp_path / f"{i}.wav") for i in range(40)]
    slicing = 16384, 16384, True, True
    account = decoder.Decoder(fps, np.zeros(40, np.int64), slicing, num_channels=1)
    errors, ready = [], threading.Barrier(8)

    def skip(some):
        ready.wait()
        for fp in some:
            try:
                account.skip(fp, "bad")
            except InputError as e:
                errors.append((len(caplog.records), str(e)))

    threads = [threading.Thread(target=skip, args=[fps[i::8]]) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ((named, error),) = errors
    assert "5 of 40 audio files cannot be read" in error
    assert named == len(caplog.records) == 5
