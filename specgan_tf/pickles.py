"""Pickles of arrays, read without running code in them.

The reference stores moments and preview latents as pickled numpy arrays
[train_specgan.py:612-613, 415-417]. Unpickling can run any code, so a stranger's
moments could run a stranger's code. Here a pickle yields only a description, and
this module builds the arrays from it.

differs: the original unpickles any file.  [train_specgan.py:726-727, 405-406]
"""

import io
import os
import pickle
from collections.abc import Callable

import numpy as np

from specgan_tf.errors import InputError
from specgan_tf.files import StrPath, replacing

MAX_PICKLE_BYTES = 64 << 20  # 160,000 latents of 100 float32; moments are 1.2 kB


def write_pickle(path: StrPath, arrays: object) -> None:
    """Pickle float arrays (one, or a tuple) so that any numpy, 1.x or 2.x, reads them.

    A tuple may also hold a dict of numbers, see `read_pickle`.

    Pickles that numpy 2 writes name `numpy._core`, which numpy 1 lacks. These pickles
    name `numpy.frombuffer` and `numpy.reshape`, which every numpy has, and use protocol
    2, which every Python reads.
    """
    with replacing(path) as f:
        _ArrayPickler(f, protocol=2).dump(arrays)


class _ArrayPickler(pickle._Pickler):  # the one in Python has a public dispatch table
    dispatch = dict(pickle._Pickler.dispatch)

    def _save_array(self, array):
        array = np.ascontiguousarray(array)
        self.save_reduce(_Global("numpy", "reshape"), (_Flat(array), array.shape))

    def _save_flat(self, flat):
        args = (flat.array.tobytes(), flat.array.dtype.str)
        self.save_reduce(_Global("numpy", "frombuffer"), args)

    def _save_name(self, name):
        self.write(pickle.GLOBAL + f"{name.module}\n{name.name}\n".encode())


class _Global:
    """A function's name in a pickle, independent of this numpy's module names."""

    def __init__(self, module, name):
        self.module, self.name = module, name

    def __call__(self):
        raise TypeError("never called: pickle only needs a callable")


class _Flat:
    def __init__(self, array):
        self.array = array


_ArrayPickler.dispatch.update(
    {
        np.ndarray: _ArrayPickler._save_array,
        _Flat: _ArrayPickler._save_flat,
        _Global: _ArrayPickler._save_name,
    }
)


def read_pickle(path: StrPath, options: bool = False) -> np.ndarray | tuple:
    """Return the float arrays in a pickle: a tuple, or a single `np.ndarray`.

    This reads files of the reference (any numpy, Python 2 or 3) and of `write_pickle`,
    and imports or calls nothing that the file names.

    Args:
      options: allow a dict of numbers in the tuple: name -> bool, int or float.

    Raises:
      InputError: the file is not a pickle of float arrays.
      OSError: the file cannot be opened.
    """
    if os.path.getsize(path) > MAX_PICKLE_BYTES:
        raise InputError(f"{path} is too large to be a pickle of float arrays")
    with open(path, "rb") as f:
        data = f.read()
    try:
        value = _Describer(io.BytesIO(data), encoding="latin1").load()
        if isinstance(value, (tuple, list)):
            return tuple(
                _options(v) if options and type(v) is dict else _build(v) for v in value
            )
        return _build(value)
    except _Refused as e:
        raise InputError(f"{path} is not a pickle of float arrays: {e}") from None
    except Exception:  # a hostile file can cause any error
        raise InputError(
            f"{path} is not a pickle of float arrays, or damaged"
        ) from None


class _Refused(ValueError):
    """A pickle asks for, or holds, something other than float arrays."""


class _Description:
    """Replaces a numpy object that a pickle would build; holds only its arguments."""

    def __init__(self, *args):
        self.args, self.state = args, None

    def __setstate__(self, state):
        self.state = state


class _Reconstruct(_Description):
    """numpy's _reconstruct(ndarray, (0,), b'b'); the state holds the content."""


class _Dtype(_Description):
    """numpy.dtype('f4', ...); the state's second entry is the byte order."""


class _NdarrayType(_Description):
    """The name numpy.ndarray."""


class _FromBuffer(_Description):
    """numpy.frombuffer(bytes, dtype)."""


class _FromBuffer5(_Description):
    """numpy's _frombuffer(bytes, dtype, shape, order), of protocol 5."""


class _Reshape(_Description):
    """numpy.reshape(array, shape)."""


def _encode(text, encoding):
    """Replace _codecs.encode('...', 'latin1'), which protocol 2 uses for bytes."""
    if encoding != "latin1":
        raise ValueError(f"unexpected encoding {encoding!r}")
    return text.encode("latin1")


class _Describer(pickle._Unpickler):  # the one in Python keeps its memo in a dict
    dispatch = dict(pickle._Unpickler.dispatch)

    def _load_bytearray8(self):  # pickle's own allocates what the file claims
        self.append(self.read(int.from_bytes(self.read(8), "little")))

    dispatch[pickle.BYTEARRAY8[0]] = _load_bytearray8
    _known = {
        "_reconstruct": _Reconstruct,
        "dtype": _Dtype,
        "ndarray": _NdarrayType,
        "frombuffer": _FromBuffer,
        "_frombuffer": _FromBuffer5,
        "reshape": _Reshape,
    }
    _modules = {
        "numpy",
        "numpy.core.multiarray",
        "numpy._core.multiarray",
        "numpy.core.numeric",
        "numpy._core.numeric",
    }

    def find_class(self, module: str, name: str) -> Callable:
        if module in self._modules and name in self._known:
            return self._known[name]
        if (module, name) == ("_codecs", "encode"):
            return _encode
        raise _Refused(f"it asks for {module}.{name}")


def _options(value):
    for name, number in value.items():
        if type(name) is not str or type(number) not in (bool, int, float):
            raise _Refused("it holds a dict of something other than numbers")
    return value


def _build(description):
    """Build an ndarray from its description, after checks of every part."""
    order, shape = "C", None
    if isinstance(description, _Reshape):
        description, shape = description.args
    if isinstance(description, _FromBuffer):
        raw, dtype = description.args
    elif isinstance(description, _FromBuffer5):
        raw, dtype, shape, order = description.args
        dtype = _dtype_str(dtype)
    elif isinstance(description, _Reconstruct):
        _, shape, dtype, fortran, raw = description.state
        dtype = _dtype_str(dtype)
        order = "F" if fortran else "C"
    else:
        raise _Refused(f"it holds a {type(description).__name__}")
    raw = raw.encode("latin1") if isinstance(raw, str) else bytes(raw)
    if dtype not in ("<f4", "<f8", ">f4", ">f8"):
        raise _Refused(f"it holds {dtype!r}, not float32 or float64")
    array = np.frombuffer(raw, dtype)
    if shape is not None:
        array = array.reshape(tuple(int(n) for n in shape), order=order)
    return array.astype(array.dtype.newbyteorder("="))


def _dtype_str(dtype):
    """Return byte order and kind, as numpy's dtype.str does."""
    order = "<" if dtype.state is None else dtype.state[1]
    return {"=": "<", "|": "<"}.get(order, order) + str(dtype.args[0]).lstrip("<>=|")
