"""How many sounds a second does the server make?  python -m benchmarks.serving

Serves an untrained network on 127.0.0.1, twice: joining requests that wait, and not. Of
each, 1, 8 and 32 clients ask for one WAV file after another, each as soon as it has the
last, for some seconds. Prints a table and writes benchmarks/out/serving.json. The
clients are threads of this process, on the same cores.
"""

import argparse
import http.client
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import threading
import time

os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
CLIENTS = 1, 8, 32
MOST = 20_000  # requests a measurement, at most
SERVERS = {"joined": ("--batch_rows", "32"), "one by one": ("--batch_rows", "0")}


def export(dim, folder):
    """Write an untrained generator; latents for the clients."""
    from specgan_tf import SpecGANGenerator, generate
    from specgan_tf.export.saved_model import save_saved_model
    from specgan_tf.moments import Moments

    G = SpecGANGenerator(dim=dim)
    moments = Moments(np.full(129, -3, np.float32), np.ones(129, np.float32))
    save_saved_model(G, moments, os.path.join(folder, "1"))
    return generate.sample_z(max(CLIENTS), G.latent_dim, seed=0).numpy()


def start(folder, flags):
    """(process, port) of a server that is ready."""
    command = [sys.executable, "-m", "specgan_tf.serving", folder, "--port", "0"]
    process = subprocess.Popen(
        [*command, *flags], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    port = int(re.search(r":(\d+)/", process.stdout.readline())[1])
    assert process.stdout.readline() == "Version 1 is served\n"
    return process, port


def metrics(port):
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("GET", "/metrics")
    page = connection.getresponse().read().decode()
    return {k: float(v) for k, v in re.findall(r"^(\w+) (\S+)$", page, re.MULTILINE)}


def measure(port, bodies, seconds):
    """One client for each body, until the time is over."""
    before, latencies, errors = metrics(port), [], []
    start, until = threading.Barrier(len(bodies) + 1), []

    def client(body):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        start.wait()
        while time.monotonic() < until[0] and len(latencies) < MOST:
            began = time.monotonic()
            connection.request("POST", "/v1/models/specgan:predict", body)
            response = connection.getresponse()
            response.read()
            latencies.append(time.monotonic() - began)
            if response.status != 200:
                errors.append(response.status)

    threads = [threading.Thread(target=client, args=(body,)) for body in bodies]
    for thread in threads:
        thread.start()
    began = time.monotonic()
    until.append(began + seconds)
    start.wait()
    for thread in threads:
        thread.join()
    passed, after = time.monotonic() - began, metrics(port)

    def during(name):
        return after[name] - before[name]

    computed = during("specgan_batch_rows_count")
    return {
        "requests": len(latencies),
        "errors": len(errors),
        "requests/s": len(latencies) / passed,
        **{f"p{p}, ms": 1e3 * np.percentile(latencies, p) for p in (50, 95, 99)},
        "rows at a time": during("specgan_batch_rows_sum") / computed,
        "CPU ms/request": 1e3 * during("process_cpu_seconds_total") / len(latencies),
        "MiB": after["process_resident_memory_bytes"] / 2**20,
    }


def table(rows):
    """Markdown."""
    titles = "requests/s", "p50, ms", "p95, ms", "p99, ms", "rows at a time"
    titles += ("CPU ms/request",)  # of the server; others' work does not change it
    yield "| clients | requests are | " + " | ".join(titles) + " |"
    yield "|---" * (len(titles) + 2) + "|"
    for row in rows:
        numbers = [f"{row[title]:.1f}" for title in titles]
        yield f"| {row['clients']} | {row['server']} | {' | '.join(numbers)} |"


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--dim", type=int, default=16)
    p.add_argument("--ngl", type=int, default=16)
    p.add_argument("--seconds", type=float, default=8.0, help="for each number")
    p.add_argument(
        "--out", default=os.path.join(ROOT, "benchmarks", "out", "serving.json")
    )
    args = p.parse_args()
    load, rows, servers = os.getloadavg()[0], [], {}
    with tempfile.TemporaryDirectory() as folder:
        latents = export(args.dim, folder)
        bodies = [
            json.dumps(
                {
                    "signature_name": "wav",
                    "inputs": {"z": [z.tolist()], "ngl": args.ngl},
                }
            )
            for z in latents
        ]
        try:
            for name, flags in SERVERS.items():
                servers[name] = start(folder, flags)
                measure(servers[name][1], bodies, 1.0)  # TensorFlow's own warm-up
            for clients in CLIENTS:
                for name, (_, port) in servers.items():
                    row = measure(port, bodies[:clients], args.seconds)
                    rows.append({"clients": clients, "server": name, **row})
        finally:
            for process, _ in servers.values():
                process.terminate()
                process.wait()
    machine = f"{platform.machine()}, {os.cpu_count()} cores"
    print("\n".join(table(rows)))
    print(f"\n{machine}, load average before: {load:.1f}")
    result = {
        "dim": args.dim,
        "ngl": args.ngl,
        "seconds": args.seconds,
        "machine": machine,
        "load average before": load,
        "rows": rows,
    }
    os.makedirs(os.path.dirname(os.path.abspath(args.out)), exist_ok=True)
    with open(args.out, "w") as f:
        json.dump(result, f, indent=2)


if __name__ == "__main__":
    main()
