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


def forget(paths, everything):
    """Drops cached file pages: those of these files and folders, or all there are."""
    if everything:
        os.sync()
        Path("/proc/sys/vm/drop_caches").write_text("1\n")
    else:
        evict(paths)


class MemoryGroup:
    """A control group of so many bytes, for processes that start in it; as root only."""

    def __init__(self, limit_bytes):
        root = Path("/sys/fs/cgroup")
        old = (root / "memory/memory.limit_in_bytes").exists()
        self.folder = (root / "memory" if old else root) / f"peers-{os.getpid()}"
        self.folder.mkdir()
        limit = self.folder / ("memory.limit_in_bytes" if old else "memory.max")
        limit.write_text(str(limit_bytes))
        swap = self.folder / ("memory.swappiness" if old else "memory.swap.max")
        if swap.exists():
            swap.write_text("0")

    def enter(self):
        """Called in the child, before it becomes the contestant."""
        (self.folder / "cgroup.procs").write_text(str(os.getpid()))

    def remove(self):
        self.folder.rmdir()


class ModelBytes:
    """Bytes of a model, by what a token costs."""

    def __init__(self, model):
        self.layer, self.token, self.total = 0, 0, 0
        if model.is_file():
            self._count_gguf(model)
        else:
            self._count_checkpoint(model)

    def _count_checkpoint(self, directory):
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
                # Of the embedding a token reads one row, unless it is the head as well.
                read = "embed_tokens" not in name or config.get("tie_word_embeddings")
                self._count(end - begin, read, name.startswith("model.layers."))
        self.layer /= self.layers

    def _count_gguf(self, path):
        import gguf

        reader = gguf.GGUFReader(path)
        value = lambda name: reader.fields[name].contents()
        self.family = value("general.architecture")
        self.layers = value(f"{self.family}.block_count")
        sizes = {tensor.name: int(tensor.n_bytes) for tensor in reader.tensors}
        rows = {tensor.name: int(tensor.shape[-1]) for tensor in reader.tensors}
        self.vocab_size = rows["token_embd.weight"]
        for name, size in sizes.items():
            read = name != "token_embd.weight" or "output.weight" not in sizes
            self._count(size, read, name.startswith("blk."))
        self.layer /= self.layers

    def _count(self, size, read_by_a_token, in_a_layer):
        self.total += size
        self.token += size * bool(read_by_a_token)
        self.layer += size * in_a_layer
