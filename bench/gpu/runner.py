"""Runs programs within a budget of time, keeps what they say, and watches the device's memory.

Knows no measurement: `parts` has those.
"""

import ctypes
import glob
import json
import os
import subprocess
import sys
import threading
import time

# Left over for what is written when the last program has ended.
MARGIN_S = 5
# Of one program's output, the beginning and the end are kept.
LOG_BYTES = 200_000


class OutOfTime(Exception):
    pass


class Failed(Exception):
    pass


def library_folders():
    """Folders of CUDA libraries: the system's, the driver's, and those that Python wheels brought."""
    patterns = ["/usr/local/cuda*/lib64", "/usr/local/nvidia/lib*"]
    for site in sys.path + ["/usr/local/lib/python3*/dist-packages", "/usr/lib/python3*/dist-packages"]:
        patterns += [f"{site}/nvidia/*/lib", f"{site}/nvidia/lib"]
    return [folder for pattern in patterns for folder in sorted(glob.glob(pattern))]


def as_text(said):
    """What came before the end of time, which is bytes, or text, or nothing."""
    return said.decode(errors="replace") if isinstance(said, bytes) else said or ""


class Runner:
    """Programs of the kit at `kit`, their output kept in `logs`, until `budget_s` seconds are over."""

    def __init__(self, kit, logs, budget_s):
        self.kit, self.logs = kit, logs
        self.engine = kit / "bin" / "engine"
        path = [os.environ.get("LD_LIBRARY_PATH", ""), *library_folders()]
        self.env = dict(
            os.environ,
            LD_LIBRARY_PATH=":".join(path).strip(":"),
            ENGINE_FIXTURES=str(kit / "fixtures"),
            # The driver finishes the kernels once, not in every program.
            CUDA_CACHE_PATH=str(logs.parent / "kernels"),
            HF_HUB_OFFLINE="1",
            TRANSFORMERS_OFFLINE="1",
            TOKENIZERS_PARALLELISM="false",
        )
        self.started, self.budget_s = time.monotonic(), budget_s
        # The longest run of each kind: the next of it is taken to need as much.
        self.longest_s = {}

    def elapsed_s(self):
        return time.monotonic() - self.started

    def left_s(self):
        return self.budget_s - self.elapsed_s()

    def run(self, name, command, guess_s=30):
        """What the program said on stdout. NAME is its kind, and a number where it is one of several:
        `n20-1`. It is not begun where it would not end in time."""
        kind = name.rsplit("-", 1)[0] if name.rsplit("-", 1)[-1].isdigit() else name
        needs_s = self.longest_s.get(kind, guess_s)
        if needs_s > self.left_s():
            raise OutOfTime(f"{name} needs some {needs_s:.0f} s, {max(self.left_s(), 0):.0f} s are left")
        print(f"[{self.elapsed_s():5.0f} s] {name}", flush=True)
        command = [str(part) for part in command]
        # What hangs must not take the others' time.
        limit_s = min(self.left_s() + MARGIN_S, 3 * needs_s + 30)
        from_s = self.elapsed_s()
        try:
            done = subprocess.run(
                command, env=self.env, text=True, capture_output=True, timeout=limit_s
            )
            code, stdout, stderr = done.returncode, done.stdout, done.stderr
        except subprocess.TimeoutExpired as late:
            code, stdout = 124, as_text(late.stdout)
            stderr = f"{as_text(late.stderr)}\nno end within {limit_s:.0f} s"
        took_s = self.elapsed_s() - from_s
        self.longest_s[kind] = max(took_s, self.longest_s.get(kind, 0))
        said = f"$ {' '.join(command)}\n{stderr}\n{stdout}"
        if len(said) > 2 * LOG_BYTES:
            said = f"{said[:LOG_BYTES]}\n[...]\n{said[-LOG_BYTES:]}"
        (self.logs / f"{name}.log").write_text(f"{said}\nexit {code} after {took_s:.1f} s\n")
        if code:
            last = [line for line in (stdout + "\n" + stderr).splitlines() if line.strip()][-1:]
            raise Failed(f"{name}: exit code {code}: {last[0][:200] if last else 'no message'}")
        return stdout

    def generate(self, name, model, flags, tokens, prompt="1,2,3,4", guess_s=30):
        """The stats of a run of the engine on the device, from its own file."""
        stats = self.logs / f"{name}.json"
        command = [self.engine, "generate", "--device", "cuda", "--prompt-tokens", prompt, "--ignore-eos"]
        command += ["--max-new-tokens", tokens, "--profile", "--stats-json", stats, *flags]
        command += ["--model", model] if model else []
        self.run(name, command, guess_s)
        return json.loads(stats.read_text())


class Memory(threading.Thread):
    """Reads how much of the device's memory is in use, by anybody. Without a driver to ask it reads
    nothing."""

    EVERY_S = 0.01

    def __init__(self, driver):
        super().__init__(daemon=True)
        self.used_bytes = driver.used_bytes if driver else lambda: 0
        self.before = self.used_bytes()
        self.readings, self.over = [], threading.Event()

    def run(self):
        while not self.over.wait(self.EVERY_S):
            self.readings.append(self.used_bytes())

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.join()

    def most_bytes(self):
        """More than before it was watched."""
        return max(self.readings, default=self.before) - self.before


class Driver:
    """The driver's management library, for the first device. `None` from `open`: it is not here."""

    class _Memory(ctypes.Structure):
        _fields_ = [(name, ctypes.c_ulonglong) for name in ("total", "free", "used")]

    @classmethod
    def open(cls):
        folders = ["", *(f"{folder}/" for folder in library_folders())]
        for folder in folders:
            try:
                library = ctypes.CDLL(f"{folder}libnvidia-ml.so.1")
            except OSError:
                continue
            device = ctypes.c_void_p()
            if library.nvmlInit_v2() == 0 and library.nvmlDeviceGetHandleByIndex_v2(0, ctypes.byref(device)) == 0:
                return cls(library, device)
        return None

    def __init__(self, library, device):
        self.library, self.device = library, device

    def used_bytes(self):
        memory = self._Memory()
        said = self.library.nvmlDeviceGetMemoryInfo(self.device, ctypes.byref(memory))
        if said:
            raise Failed(f"the driver does not tell its memory (NVML error {said})")
        return memory.used
