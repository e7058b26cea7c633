"""Starts the server and lets real clients use it: check.py ENGINE FOLDER [ONLY...]. FOLDER is what
`setup` made; ONLY are names of checks or begins of names. `run` does both."""

import pathlib
import sys
import tempfile
import time
import traceback

import chain
import with_agents
import with_anthropic
import with_litellm
import with_openai
import with_schemathesis
from served import Served, Skipped, Wrong

KEY = "a-key-of-the-checks"
MODULES = [with_openai, with_anthropic, with_litellm, with_agents, with_schemathesis]


class Place:
    """What checks run against."""

    def __init__(self, engine, home, temp):
        self.engine, self.home, self.temp = engine, home, temp
        self.model = temp / "chain"
        chain.write(self.model)
        # Says what chain.py has; one of its two layers is streamed. Agents send long prompts.
        flags = ["--num-gpu-layers", "1", "--context", "60000", "--alias", "chain"]
        self.chain = Served(engine, "--model", str(self.model), *flags, key=KEY)
        # A trained model, for what is drawn.
        self.demo = Served(engine)

    def busy(self):
        """A server with one place and a queue of one."""
        flags = ["--context", "60000", "--parallel", "1", "--queue", "1"]
        return Served(self.engine, "--model", str(self.model), *flags)


def checks():
    for module in MODULES:
        for check in module.CHECKS:
            yield f"{module.__name__.removeprefix('with_')}.{check.__name__}", check


def run(place, name, check):
    began = time.monotonic()
    try:
        check(place)
        said, fine = "ok", True
    except Skipped as why:
        said, fine = f"left out: {why}", True
    except Wrong as wrong:
        said, fine = f"WRONG: {wrong}", False
    except Exception as error:
        where = "".join(traceback.format_tb(error.__traceback__)[-2:])
        said, fine = f"WRONG: {type(error).__name__}: {error}\n{where}", False
    print(f"{name}: {said} ({time.monotonic() - began:.1f} s)", flush=True)
    return fine


def main(engine, home, only):
    chosen = [(name, check) for name, check in checks() if wanted(name, only)]
    if not chosen:
        raise SystemExit(f"no check is called {' or '.join(only)}: {', '.join(n for n, _ in checks())}")
    with tempfile.TemporaryDirectory(prefix="engine-clients-") as temp:
        place = Place(engine, pathlib.Path(home), pathlib.Path(temp))
        failed = [name for name, check in chosen if not run(place, name, check)]
        for server in (place.chain, place.demo):
            if (code := server.stop()) != 0:
                failed.append(f"the server's exit code {code}")
        panics = [line for line in place.chain.log + place.demo.log if "panicked" in line]
    if failed or panics:
        raise SystemExit(f"clients: {len(chosen)} checks, wrong: {', '.join(failed + panics)}")
    print(f"clients: all {len(chosen)} checks are fine")


def wanted(name, only):
    return not only or any(name.startswith(begin) for begin in only)


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
