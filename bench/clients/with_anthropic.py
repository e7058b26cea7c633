"""The package `anthropic`: messages, their stream, token counting, errors."""

import anthropic
import chain
from served import holds, raised, same

LONG = "word " * 70_000
WEATHER = {
    "name": "get_weather",
    "description": "The weather of a city",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
        "required": ["city"],
    },
}
TIME = {"name": "get_time", "input_schema": {"type": "object", "properties": {}}}
# Its answer is a call and no text: the model says nothing else, so it can follow when a call has to come.
SHELL = {
    "name": "shell_command",
    "input_schema": {
        "type": "object",
        "properties": {"command": {"type": "string"}},
        "required": ["command"],
    },
}
CALL = {"city": chain.CITY, "days": 3}


def client(place, **given):
    given = given or {"api_key": place.chain.key}
    return anthropic.Anthropic(base_url=place.chain.url, max_retries=0, timeout=120, **given)


def user(content):
    return [{"role": "user", "content": content}]


def ask(text="Hello", **more):
    return {"model": "chain", "max_tokens": 500, "messages": user(text), **more}


def messages(place):
    """An answer whole, by `x-api-key` and by a bearer token, and the same in a stream."""
    whole = client(place).messages.create(**ask())
    same([block.type for block in whole.content], ["text"], "the blocks")
    same(whole.content[0].text, chain.PLAIN, "the answer")
    same((whole.stop_reason, whole.stop_sequence), ("end_turn", None), "the end")
    holds(whole.usage.input_tokens > 0 and whole.usage.output_tokens > 10, f"{whole.usage}")
    other = client(place, auth_token=place.chain.key).messages.create(**ask())
    same(other.content[0].text, chain.PLAIN, "the answer to a bearer token")
    with client(place).messages.stream(**ask()) as stream:
        parts = list(stream.text_stream)
        final = stream.get_final_message()
    same("".join(parts), chain.PLAIN, "the stream")
    holds(len(parts) > 10, f"only {len(parts)} parts: no stream")
    same(final.content[0].text, chain.PLAIN, "the final message")
    same(final.usage.output_tokens, whole.usage.output_tokens, "the final usage")
    events = [event.type for event in client(place).messages.create(**ask(), stream=True)]
    holds(events[0] == "message_start" and events[-1] == "message_stop", f"events: {events}")


def ends(place):
    """stop_sequences and max_tokens, told as such."""
    create = client(place).messages.create
    stopped = create(**ask(stop_sequences=["never", "forty"]))
    same((stopped.stop_reason, stopped.stop_sequence), ("stop_sequence", "forty"), "the end")
    same(stopped.content[0].text, chain.PLAIN.split("forty")[0], "the answer")
    short = create(**ask(max_tokens=3))
    same((short.stop_reason, short.usage.output_tokens), ("max_tokens", 3), "the end")
    begun = [*user("Hello"), {"role": "assistant", "content": "The ans"}]
    create(model="chain", max_tokens=5, messages=begun)


def counting(place):
    """Tokens are counted as the usage has them: with a system text and with tools."""
    for more in ({}, {"system": "Be brief."}, {"tools": [WEATHER]}):
        whole = client(place).messages.create(**ask("How many are these?", **more))
        usage = whole.usage
        used = usage.input_tokens + (usage.cache_read_input_tokens or 0)
        counted = client(place).messages.count_tokens(
            model="chain", messages=user("How many are these?"), **more
        )
        same(counted.input_tokens, used, f"the count with {sorted(more)}")


def system(place):
    """System blocks reach the model, with marks for a cache in them."""
    secret = [
        {"type": "text", "text": "Be brief."},
        {
            "type": "text",
            "text": f"The word is {chain.SECRET}.",
            "cache_control": {"type": "ephemeral"},
        },
    ]
    create = client(place).messages.create
    told = create(**ask("Do you know a secret?", system=secret))
    same(told.content[0].text, chain.TOLD, "with system blocks")
    same(create(**ask("Do you know a secret?")).content[0].text, chain.UNTOLD, "without")


def tools(place):
    """Tools offered, called, answered, and the answer to that; whole and in a stream."""
    create = client(place).messages.create
    offered = {"tools": [WEATHER, TIME, {"type": "web_search_20250305", "name": "web_search"}]}
    raw = client(place).messages.with_raw_response.create(**ask("Please use the tool.", **offered))
    holds("web_search" in raw.headers.get("x-engine-withheld-tools", ""), "web_search is not named")
    whole = raw.parse()
    same(whole.stop_reason, "tool_use", "stop_reason")
    same([block.type for block in whole.content], ["text", "tool_use"], "the blocks")
    same(whole.content[0].text, chain.BEFORE, "the text before the call")
    call = whole.content[1]
    same((call.name, call.input), ("get_weather", CALL), "the call")
    with client(place).messages.stream(**ask("Please use the tool.", **offered)) as stream:
        for _ in stream:
            pass
        final = stream.get_final_message()
    same(final.stop_reason, "tool_use", "the stream's stop_reason")
    same((final.content[1].name, final.content[1].input), ("get_weather", CALL), "the stream's call")
    turns = [*user("Please use the tool."), {"role": "assistant", "content": whole.content}]
    for content, wanted in (
        (chain.PROOF, chain.DONE),
        ([{"type": "text", "text": chain.PROOF}], chain.DONE),
        ("nothing", chain.NOTHING),
    ):
        result = {"type": "tool_result", "tool_use_id": call.id, "content": content}
        after = create(
            model="chain", max_tokens=500, **offered, messages=[*turns, *user([result])]
        )
        same(after.content[0].text, wanted, f"the answer to {content}")
        same(after.stop_reason, "end_turn", "its stop_reason")
    both = create(**ask("Please use both.", **offered)).content
    same([block.name for block in both], ["get_weather", "get_time"], "two calls")
    same(both[1].input, {"zone": "CET", "exact": True}, "the second call")
    none = create(**ask("Please use the tool.", **offered, tool_choice={"type": "none"}))
    same(none.content[0].text, chain.PLAIN, "no choice")
    for choice in ({"type": "tool", "name": "shell_command"}, {"type": "any"}):
        named = create(**ask("Please use the tool.", tools=[TIME, SHELL], tool_choice=choice))
        same([block.type for block in named.content], ["tool_use"], "a call and no text")
        used = named.content[0]
        same((used.name, used.input), ("shell_command", {"command": chain.COMMAND}), "the call")


def thinking(place):
    """Thoughts are a block of their own, and may be sent back."""
    more = {"thinking": {"type": "enabled", "budget_tokens": 1024}, "max_tokens": 2000}
    whole = client(place).messages.create(**ask(**more))
    same([block.type for block in whole.content], ["thinking", "text"], "the blocks")
    same(whole.content[0].thinking, chain.THOUGHTS, "the thoughts")
    same(whole.content[1].text, chain.AFTER, "the answer")
    with client(place).messages.stream(**ask(**more)) as stream:
        final = stream.get_final_message()
    same(final.content[0].thinking, chain.THOUGHTS, "the stream's thoughts")
    same(final.content[1].text, chain.AFTER, "the stream's answer")
    turns = [*user("Hello"), {"role": "assistant", "content": whole.content}, *user("And?")]
    again = client(place).messages.create(model="chain", max_tokens=500, messages=turns)
    same(again.content[0].text, chain.PLAIN, "the next turn")


def errors(place):
    """The classes and words that programs look for."""
    wrong = client(place, api_key="wrong")
    raised(anthropic.AuthenticationError, lambda: wrong.messages.create(**ask()))
    long = raised(anthropic.BadRequestError, lambda: client(place).messages.create(**ask(LONG)))
    same(long.body["error"]["type"], "invalid_request_error", "the type")
    holds("prompt is too long: " in str(long) and "> 60000 maximum" in str(long), f"it says {long}")
    image = {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}}
    refused = lambda: client(place).messages.create(**ask([image]))
    holds("image" in str(raised(anthropic.BadRequestError, refused)), "it does not name the image")
    empty = lambda: client(place).messages.create(model="chain", max_tokens=5, messages=[])
    raised(anthropic.BadRequestError, empty)
    raised(anthropic.NotFoundError, lambda: client(place).messages.batches.list())
    # Lists what there is, in a shape that this client reads.
    same([model.id for model in client(place).models.list()], ["chain"], "the models")


CHECKS = [messages, ends, counting, system, tools, thinking, errors]
