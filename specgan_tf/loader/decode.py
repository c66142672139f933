"""One audio file -> samples.

Port of `decode_audio` in loader.py (chrisdonahue/wavegan 40e85e8). Decoded audio is
float32 [nsamps, 1, nch].
"""

import contextlib
import os
import struct
import warnings

import numpy as np

from specgan_tf.files import InputError

RESAMPLERS = ("soxr_hq", "kaiser_best")
RATES = 100, 1_000_000  # Hz; beyond, the header is wrong
BLOCK = 1 << 20  # samples of each channel read at a time
MAX_SAMPLES = 1 << 30  # of all channels, or resampled: 4 GiB
TOO_LONG = f"longer than {MAX_SAMPLES} samples: split it"


def decode_audio(
    fp, fs=None, num_channels=1, normalize=False, fast_wav=False, resample="soxr_hq"
):
    """Decodes one audio file.

    Args:
      fp: path.
      fs: rate to resample to, Hz; None keeps the file's.
      num_channels: 1 averages whatever the file has; 2 doubles a mono file; otherwise
        the file must have exactly as many.
      normalize: divide by the largest absolute sample.
      fast_wav: the file is a WAV, 16-bit PCM or 32-bit float, at `fs` already.
      resample: "soxr_hq", or "kaiser_best" (needs the resampy package).
        differs: the original's librosa 0.6.2 has kaiser_best.  [loader.py:36]

    Returns:
      float32 [nsamps, 1, num_channels].

    Raises:
      InputError: with fast_wav, a rate or sample format it does not take; a channel
        count that does not fit.
      UnreadableError: not an audio file, truncated, empty, or holding NaN or infinity.

    [loader.py:9-65]
    """
    fp = os.fsdecode(fp)
    if resample not in RESAMPLERS:
        raise ValueError(
            f"resample must be one of {RESAMPLERS}. Received: {resample!r}"
        )
    if fast_wav:
        _wav, _fs = _read_fast_wav(fp, fs)
    else:
        _wav, _fs = _read(fp)
    if _wav.size > MAX_SAMPLES:
        raise UnreadableError(TOO_LONG)
    if not len(_wav):
        raise UnreadableError("it holds no samples")
    if not np.isfinite(_wav).all():
        raise UnreadableError("it holds NaN or infinite samples")
    if fs is not None and fs != _fs:
        if not RATES[0] <= _fs <= RATES[1]:
            raise UnreadableError(f"a sample rate of {_fs} Hz")
        if _wav.size * fs / _fs > MAX_SAMPLES:
            raise UnreadableError(TOO_LONG)
        _wav = _resample(_wav, _fs, fs, resample)

    # [nsamps, 1, nch] mimics the 2D shape of spectral features
    _wav = _wav[:, np.newaxis, :]

    # Average (mono) or expand (stereo) channels  [loader.py:51-58]
    nch = _wav.shape[2]
    if nch != num_channels:
        if num_channels == 1:
            _wav = np.mean(_wav, 2, keepdims=True)
        elif nch == 1 and num_channels == 2:
            _wav = np.concatenate([_wav, _wav], axis=2)
        else:
            raise InputError(f"{fp} has {nch} channels, not {num_channels}")

    if normalize:
        factor = np.max(np.abs(_wav))
        if factor > 0:
            _wav /= factor

    return _wav


class UnreadableError(Exception):
    """One file cannot be used; the others can."""


def _read_plain_wav(fp):
    """What `_read` returns, of 16-bit PCM with the shortest header; None of others.

    Such files are most of what there is, and libraries take longer than reading does.
    """
    with contextlib.suppress(OSError), open(fp, "rb", buffering=0) as f:
        head, room = f.read(44), os.fstat(f.fileno()).st_size - 44
        if room < 0 or len(head) < 44:
            return None
        riff, length, wave, fmt, n, kind, nch, fs, _, align, bits, data, size = (
            struct.unpack("<4sI4s4sIHHIIHH4sI", head)
        )
        plain = (riff, wave, fmt, data) == (b"RIFF", b"WAVE", b"fmt ", b"data")
        plain = plain and (n, kind, bits, align) == (16, 1, 16, 2 * nch) and nch and fs
        whole = size + 36 <= length <= room + 36 and size <= 2 * MAX_SAMPLES
        if plain and whole and size % align == 0:
            content = f.read(size)
            if len(content) == size:
                wav = np.frombuffer(content, "<i2").astype(np.float32)
                wav /= 32768.0
                return wav.reshape(-1, nch), fs
    return None


def _read(fp):
    """Samples float32 [nsamps, nch] and rate of anything libsndfile reads."""
    if plain := _read_plain_wav(fp):
        return plain
    import soundfile

    _check_length(fp)
    try:
        # As bytes: on POSIX a name need not be UTF-8.
        name = os.fsencode(fp) if os.name == "posix" else fp
        with soundfile.SoundFile(name) as f:
            expected, fs = f.frames, f.samplerate
            if expected == 2**63 - 1:  # libsndfile's SF_COUNT_MAX
                raise UnreadableError("it does not say its length: encode it again")
            # In blocks: f.read() makes room for as much as the header claims.
            blocks, size = [], 0
            while len(block := f.read(BLOCK, dtype="float32", always_2d=True)):
                blocks.append(block)
                size += block.size
                if size > MAX_SAMPLES:  # and maybe without end
                    raise UnreadableError(TOO_LONG)
            wav = blocks[0] if len(blocks) == 1 else np.concatenate([*blocks, block])
    except (soundfile.LibsndfileError, OSError) as e:
        reason = getattr(e, "error_string", None) or str(e)
        raise UnreadableError(reason.rstrip(": .") or "not an audio file") from None
    if len(wav) < expected:
        raise UnreadableError(f"truncated: {len(wav)} of {expected} samples")
    return wav, fs


def _read_fast_wav(fp, fs):
    """Samples float32 [nsamps, nch] and rate of a standard WAV file, through scipy."""
    wav, _fs = _read_plain_wav(fp) or _read_scipy(fp)
    if fs is not None and fs != _fs:
        raise InputError(
            f"{fp} is at {_fs} Hz, not {fs}; --data_fast_wav cannot resample: leave it "
            "out, or set --data_sample_rate"
        )
    return wav, _fs


def _read_scipy(fp):
    from scipy.io import wavfile

    _check_length(fp)
    try:
        # Chunks that are not audio are no matter. (catch_warnings is not for threads.)
        warnings.filterwarnings("ignore", category=wavfile.WavFileWarning)
        _fs, wav = wavfile.read(fp)
    except Exception as e:  # scipy raises whatever an odd header makes it stumble over
        raise UnreadableError(str(e).rstrip(".") or "not a WAV file") from None
    if wav.dtype == np.int16:
        wav = wav.astype(np.float32) / 32768.0
    elif wav.dtype != np.float32:
        raise InputError(
            f"{fp} is {wav.dtype} WAV; --data_fast_wav takes 16-bit PCM or 32-bit "
            "float only: leave it out"
        )
    return wav if wav.ndim == 2 else wav[:, np.newaxis], _fs


def _resample(wav, fs, target, resampler):
    """[nsamps, nch] at `fs` Hz -> [ceil(nsamps * target / fs), nch] at `target` Hz."""
    import librosa

    if resampler == "soxr_hq":
        return librosa.resample(
            wav, orig_sr=fs, target_sr=target, res_type="soxr_hq", axis=0
        )
    try:
        import resampy
    except ImportError:
        raise InputError(
            "kaiser_best needs the resampy package: pip install resampy"
        ) from None
    from scipy.signal import windows

    # kaiser_best as it was before resampy 0.4 changed the filter of that name.
    try:
        resampled = resampy.resample(
            wav,
            fs,
            target,
            axis=0,
            filter="sinc_window",
            num_zeros=64,
            precision=9,
            rolloff=0.9475937167399596,
            window=lambda n: windows.kaiser(n, 14.769656459379492),
        )
    except ValueError as e:  # a sample or two
        raise UnreadableError(f"cannot be resampled: {e}") from None
    size = int(np.ceil(len(wav) * target / fs))
    return librosa.util.fix_length(resampled, size=size, axis=0)


def _check_length(fp):
    """Refuse a truncated WAV or AIFF; libsndfile and scipy read what is left."""
    try:
        with open(fp, "rb") as f:
            head, size = f.read(8), os.fstat(f.fileno()).st_size
    except OSError as e:
        raise UnreadableError(e.strerror or str(e)) from None
    order = {b"RIFF": "<I", b"FORM": ">I"}.get(head[:4])
    if order is None or len(head) < 8:
        return
    (length,) = struct.unpack(order, head[4:])
    streamed = length in (0, 0xFFFFFFFF)  # the writer could not know it
    if not streamed and length + 8 > size + 1:  # + 1: a missing pad byte is harmless
        raise UnreadableError(f"truncated: {size} of {length + 8} bytes")
