"""`schemathesis` against the document that the server publishes: requests made of its schemas, good
and bad ones, and answers held against it."""

import re
import subprocess

from served import Wrong

EXAMPLES = 50
CHECKS_OF_ITS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,"
    "response_schema_conformance,response_headers_conformance"
)


def document(place):
    """The panel is left out: its stream does not end."""
    command = [
        place.home / "venv" / "bin" / "schemathesis", "run", f"{place.demo.url}/openapi.json",
        "--checks", CHECKS_OF_ITS, "--max-examples", EXAMPLES, "--phases", "examples,coverage,fuzzing",
        "--exclude-path", "/panel", "--seed", 42, "--generation-database", "none", "--no-color",
        "--request-timeout", 60, "--warnings", "off",
    ]  # fmt: skip
    done = subprocess.run(
        [str(part) for part in command],
        cwd=place.temp,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    said = done.stdout + done.stderr
    if done.returncode != 0:
        raise Wrong(f"exit code {done.returncode}:\n{said[-6000:]}")
    if not re.search(r"\b\d+ passed", said):
        raise Wrong(f"nothing was tried:\n{said[-3000:]}")


CHECKS = [document]
