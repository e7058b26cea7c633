"""The machine under the measurement, and the bytes of the model. Knows no contestant."""

import json
import os
import platform
import struct
from pathlib import Path

from peer import evict


def describe():
    """No name of the machine in it: these facts go into files that are kept."""
    return {
        "processor": field("/proc/cpuinfo", "model name") or platform.processor(),
        "cores": physical_cores(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


def field(path, name):
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return None
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith(name)), None)


def physical_cores():
    """Cores that this process may use, siblings counted once."""
    if not hasattr(os, "sched_getaffinity"):
        return os.cpu_count() or 1
    cores = set()
    for cpu in os.sched_getaffinity(0):
        topology = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology")
        try:
            names = ("physical_package_id", "core_id")
            cores.add(tuple((topology / name).read_text() for name in names))
        except OSError:
            cores.add(cpu)
    return len(cores)


def forget(folders, everything):
    """Drops cached file pages: those of the files in these folders, or all there are."""
    if everything:
        os.sync()
        Path("/proc/sys/vm/drop_caches").write_text("1\n")
    else:
        evict(folders)


class ModelBytes:
    """Bytes of a checkpoint, by what a token costs."""

    def __init__(self, directory):
        self.layer, self.token, self.total = 0, 0, 0
        config = json.loads((directory / "config.json").read_text())
        self.layers, self.vocab_size = config["num_hidden_layers"], config["vocab_size"]
        self.family = config["model_type"]
        for path in sorted(directory.glob("*.safetensors")):
            with path.open("rb") as file:
                header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
            for name, entry in header.items():
                if name == "__metadata__":
                    continue
                begin, end = entry["data_offsets"]
                self.total += end - begin
                # Of the embedding a token reads one row, unless it is the head as well.
                if "embed_tokens" not in name or config.get("tie_word_embeddings"):
                    self.token += end - begin
                if name.startswith("model.layers.0."):
                    self.layer += end - begin
