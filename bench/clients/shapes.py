#!/usr/bin/env python3
"""Reads the events that the server's tests make with the clients' own packages: every event and every
whole answer must be what their types say, strictly and with no field beside them but our extensions,
and their streaming helpers must put the events together to the answer that a client gets that waits.

    python3 -m venv venv && venv/bin/pip install openai anthropic
    rm -f /tmp/events.jsonl
    DUMP=/tmp/events.jsonl cargo test --release --locked --workspace --bin engine serve::api
    venv/bin/python bench/clients/shapes.py /tmp/events.jsonl
"""

import json
import sys

import anthropic
import openai
import pydantic
from anthropic.types import Message, RawMessageStreamEvent
from openai.types.responses import Response, ResponseStreamEvent

try:
    import httpx
except ImportError:
    import httpx2 as httpx

# What we add to the types of others.
EXTENSIONS = {"engine"}
# Codex reads it; the types of the Python package have no such code.
CODES = {"context_length_exceeded"}


class Wrong(Exception):
    pass


def check(kind, value):
    """Strictly: a number that is a text, or a name that is not in the list, is an error."""
    try:
        parsed = pydantic.TypeAdapter(kind).validate_json(json.dumps(value), strict=True)
    except pydantic.ValidationError as error:
        raise Wrong(f"{value}\n{error}") from None
    for path in unknown(parsed, ""):
        raise Wrong(f"{value}\nhas a field that its type has not: {path}")


def unknown(parsed, path):
    """Fields that no type names: a slip of the pen in an optional one would be among them."""
    if isinstance(parsed, pydantic.BaseModel):
        for name in parsed.model_extra or {}:
            if name not in EXTENSIONS:
                yield f"{path}.{name}"
        for name in type(parsed).model_fields:
            yield from unknown(getattr(parsed, name), f"{path}.{name}")
    elif isinstance(parsed, list):
        for at, item in enumerate(parsed):
            yield from unknown(item, f"{path}[{at}]")


def transport(events):
    """A server that has nothing but these events to tell."""
    text = "".join(f"event: {e['event']}\ndata: {json.dumps(e['data'])}\n\n" for e in events)
    headers = {"content-type": "text/event-stream"}
    answer = lambda request: httpx.Response(200, headers=headers, text=text)
    return httpx.Client(transport=httpx.MockTransport(answer))


def responses(events, whole):
    client = openai.OpenAI(
        api_key="x", base_url="http://here/v1", max_retries=0, http_client=transport(events)
    )
    with client.responses.stream(model="m", input="x") as stream:
        seen = [event.type for event in stream]
    if seen != [event["data"]["type"] for event in events]:
        raise Wrong(f"the helper saw {seen}")
    last = events[-1]["data"]
    if last["response"] != whole:
        raise Wrong(f"the last event's response is not the whole:\n{last}\n{whole}")
    if whole["status"] == "completed":
        with client.responses.stream(model="m", input="x") as stream:
            final = stream.get_final_response()
        same(final.to_dict(), whole)


def messages(events, whole):
    client = anthropic.Anthropic(
        api_key="x", base_url="http://here", max_retries=0, http_client=transport(events)
    )
    try:
        with client.messages.stream(model="m", max_tokens=9, messages=[]) as stream:
            final = stream.get_final_message()
    except anthropic.APIError as error:
        if events[-1]["event"] != "error":
            raise Wrong(f"the helper failed: {error}") from None
        if events[-1]["data"]["error"]["message"] not in str(error):
            raise Wrong(f"the helper failed with other words: {error}") from None
        return
    if final.stop_reason == "max_tokens" and any(b.type == "tool_use" for b in final.content):
        return  # A call that was cut off comes back as text, but for a stream that has begun it.
    wanted = json.loads(json.dumps(whole))
    # The helper keeps the numbers of the end, not what others add to them.
    wanted["usage"].pop("engine")
    same(final.to_dict(), wanted)


def same(got, wanted, path=""):
    """What the helpers add of their own (nulls, `parsed`) is no difference."""
    if isinstance(wanted, dict) and isinstance(got, dict):
        for name, value in wanted.items():
            same(got.get(name), value, f"{path}.{name}")
        for name in got.keys() - wanted.keys():
            if got[name] is not None and not name.startswith("parsed"):
                raise Wrong(f"{path}.{name} came from nowhere: {got[name]}")
    elif isinstance(wanted, list) and isinstance(got, list) and len(got) == len(wanted):
        for at, (one, other) in enumerate(zip(got, wanted)):
            same(one, other, f"{path}[{at}]")
    elif got != wanted:
        raise Wrong(f"{path} is {got}, not {wanted}")


def own_code(event):
    """A code that the types don't have, where Codex wants it: checked, and then replaced."""
    error = event.get("response", {}).get("error")
    if error and error["code"] in CODES:
        event = json.loads(json.dumps(event))
        event["response"]["error"]["code"] = "server_error"
    return event


def main(path):
    kinds = {
        "responses": (ResponseStreamEvent, Response, responses),
        "messages": (RawMessageStreamEvent, Message, messages),
    }
    streams = events = 0
    for line in open(path, encoding="utf-8"):
        dumped = json.loads(line)
        kind, whole_kind, helper = kinds[dumped["api"]]
        for event in dumped["events"]:
            # The package reads these before it looks at types.
            if event["event"] not in ("ping", "error"):
                data = own_code(event["data"])
                # Older versions of the package have it, newer ones have not.
                if data["type"] == "response.function_call_arguments.done":
                    data = {name: value for name, value in data.items() if name != "name"}
                check(kind, data)
            events += 1
        if dumped["whole"] is not None:
            check(whole_kind, own_code({"response": dumped["whole"]})["response"])
        helper(dumped["events"], dumped["whole"])
        streams += 1
    if not streams:
        raise Wrong(f"{path} has no streams: were the tests run with DUMP?")
    print(f"{streams} streams, {events} events: as openai {openai.__version__} and anthropic "
          f"{anthropic.__version__} have them")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    try:
        main(sys.argv[1])
    except Wrong as wrong:
        sys.exit(f"shapes: {wrong}")
