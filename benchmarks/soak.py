"""Does a long training grow?  python -m benchmarks.soak [--minutes 60]

Trains a small network on the embedded drums with a checkpoint and summaries every few
seconds, and a preview of every checkpoint beside it, and watches both processes. Of the
time after the first quarter, prints memory, threads and open files in its first and its
last third, and how fast memory grew; writes benchmarks/out/soak.json. Needs /proc.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time

import numpy as np

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
EVERY = 5.0  # seconds between samples


def start(mode, folder, *flags):
    command = [sys.executable, "train_specgan.py", mode, folder, *flags]
    with open(f"{folder}.{mode}.log", "w") as log:
        return subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)


def sample(pid):
    """Resident memory in MiB, threads, open files."""
    with open(f"/proc/{pid}/status") as f:
        status = dict(re.findall(r"(\w+):\s+(\d+)", f.read()))
    files = len(os.listdir(f"/proc/{pid}/fd"))
    return int(status["VmRSS"]) / 1024, int(status["Threads"]), files


def watch(processes, minutes):
    """(seconds, [samples of each process]) every EVERY seconds."""
    began, rows = time.monotonic(), []
    while (now := time.monotonic() - began) < 60 * minutes:
        for name, process in processes.items():
            if process.poll() is not None:
                sys.exit(f"{name} ended early, with status {process.returncode}")
        rows.append((now, [sample(p.pid) for p in processes.values()]))
        time.sleep(EVERY)
    return rows


def summary(rows, which):
    """Of one process, from a quarter of the time on: buffers are full by then."""
    rows = rows[len(rows) // 4 :]
    hours = np.array([t for t, _ in rows]) / 3600
    values = np.array([samples[which] for _, samples in rows])
    third = max(1, len(rows) // 3)
    result = {"MiB per hour": float(np.polyfit(hours, values[:, 0], 1)[0])}
    parts = {"first third": values[:third], "last third": values[-third:]}
    for i, what in enumerate(("MiB", "threads", "open files")):
        result[what] = {k: float(np.median(v[:, i])) for k, v in parts.items()}
    return result


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--minutes", type=float, default=60)
    minutes = p.parse_args().minutes
    with tempfile.TemporaryDirectory() as d:
        folder = os.path.join(d, "train")
        flags = "--specgan_dim 1 --train_batch_size 4 --train_save_secs 10"
        flags += " --train_summary_secs 10 --preview_n 4"
        processes = {"train": start("train", folder, *flags.split())}
        while not os.path.exists(os.path.join(folder, "checkpoint")):
            if processes["train"].poll() is not None:
                with open(folder + ".train.log") as f:
                    sys.exit(f"train ended early:\n{f.read()}")
            time.sleep(1)
        processes["preview"] = start("preview", folder)
        try:
            rows = watch(processes, minutes)
        finally:
            for process in processes.values():
                process.terminate()
                process.wait()
        with open(folder + ".train.log") as f:
            steps = int(re.findall(r"^step +(\d+)", f.read(), re.MULTILINE)[-1])
        names = os.listdir(os.path.join(folder, "preview"))
        previews = sum(name.endswith(".wav") for name in names)
    result = {"minutes": minutes, "steps": steps, "previews": previews}
    result |= {name: summary(rows, i) for i, name in enumerate(processes)}
    print(json.dumps(result, indent=2))
    out = os.path.join(ROOT, "benchmarks", "out", "soak.json")
    os.makedirs(os.path.dirname(out), exist_ok=True)
    with open(out, "w") as f:
        json.dump(result, f)


if __name__ == "__main__":
    main()
