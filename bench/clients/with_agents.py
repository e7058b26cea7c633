"""The agents `codex` and `claude`, run headless: each gives an answer, and calls a tool of its own
whose result reaches the model."""

import json
import os
import shutil
import signal
import subprocess

import chain
from served import Skipped, Wrong, holds, same

HANGS_S = 120


def program(place, name):
    path = place.home / "npm" / "node_modules" / ".bin" / name
    if not shutil.which("node"):
        raise Skipped(f"there is no node here to run {name} with")
    if not path.exists():
        raise Skipped(f"{name} is not installed in {place.home}/npm")
    return path


def run(place, command, variables):
    """What it printed, run in an empty folder with a home of its own."""
    home = place.temp / "home"
    work = place.temp / "work"
    for folder in (home, work):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
    # Nothing of the user's own settings, and no way out but to the server.
    path = {"PATH": os.environ["PATH"], "HOME": str(home), "TERM": "dumb"}
    nowhere = "http://127.0.0.1:9"
    proxies = {"HTTPS_PROXY": nowhere, "HTTP_PROXY": nowhere, "NO_PROXY": "127.0.0.1"}
    # In a session of its own it finds no terminal to ask for, and ends together with what it started.
    process = subprocess.Popen(
        [str(part) for part in command],
        cwd=work,
        env={**path, **proxies, **variables(home)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        out, err = process.communicate(timeout=HANGS_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate()
        raise Wrong(f"it has not ended after {HANGS_S} s: {(out + err)[-2000:]}") from None
    if process.returncode != 0:
        raise Wrong(f"exit code {process.returncode}: {out[-2000:]}{err[-2000:]}")
    return out


CODEX = """model = "chain"
model_provider = "here"
model_context_window = 60000
[model_providers.here]
name = "here"
base_url = "{url}/v1"
env_key = "HERE_KEY"
wire_api = "responses"
request_max_retries = 0
stream_max_retries = 0
[analytics]
enabled = false
"""


def codex(place, prompt, *flags):
    program_ = program(place, "codex")

    def variables(home):
        (home / "codex").mkdir()
        (home / "codex" / "config.toml").write_text(CODEX.format(url=place.chain.url))
        return {"CODEX_HOME": str(home / "codex"), "HERE_KEY": place.chain.key}

    flags = ["--skip-git-repo-check", "--json", *flags]
    out = run(place, [program_, "exec", *flags, prompt], variables)
    lines = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
    items = [line["item"] for line in lines if line["type"] == "item.completed"]
    usage = [line["usage"] for line in lines if line["type"] == "turn.completed"]
    holds(len(usage) == 1, f"no turn was completed: {out[-2000:]}")
    return items, usage[0]


def codex_answers(place):
    items, usage = codex(place, "Hello", "--sandbox", "read-only")
    texts = [item["text"] for item in items if item["type"] == "agent_message"]
    same(texts, [chain.PLAIN], f"the answer among {items}")
    holds(usage["output_tokens"] > 10, f"the usage is {usage}")


def codex_calls(place):
    # The command is our own `echo`; a sandbox needs what a container may not have.
    items, _ = codex(place, "Please use the tool.", "--sandbox", "danger-full-access")
    runs = [item for item in items if item["type"] == "command_execution"]
    holds(any(chain.PROOF in run["aggregated_output"] for run in runs), f"no command ran: {items}")
    texts = [item["text"] for item in items if item["type"] == "agent_message"]
    same(texts[-1:], [chain.DONE], f"the answer among {items}")


def claude(place, prompt, *flags):
    def variables(home):
        return {
            "CLAUDE_CONFIG_DIR": str(home / "claude"),
            "ANTHROPIC_BASE_URL": place.chain.url,
            "ANTHROPIC_API_KEY": place.chain.key,
            "ANTHROPIC_MODEL": "chain",
            "ANTHROPIC_DEFAULT_HAIKU_MODEL": "chain",
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "CLAUDE_CODE_MAX_OUTPUT_TOKENS": "2000",
            "DISABLE_AUTOUPDATER": "1",
            "DISABLE_ERROR_REPORTING": "1",
            "DISABLE_TELEMETRY": "1",
        }

    command = [program(place, "claude"), "-p", prompt, "--output-format", "json", *flags]
    told = json.loads(run(place, command, variables))
    # A list of all that happened, or its end alone: versions differ.
    told = told[-1] if isinstance(told, list) else told
    same((told["type"], told["is_error"]), ("result", False), f"the result {told}")
    return told


def claude_answers(place):
    told = claude(place, "Hello")
    # It asks for thinking, and keeps the thoughts from the answer.
    same(told["result"], chain.AFTER, "the answer")
    holds(told["usage"]["output_tokens"] > 10, f"the usage is {told['usage']}")


def claude_calls(place):
    told = claude(place, "Please use the tool.", "--allowedTools", "Bash")
    same(told["result"], chain.DONE, f"the answer of {told}")
    same(told["num_turns"], 2, "the turns")


CHECKS = [codex_answers, codex_calls, claude_answers, claude_calls]
