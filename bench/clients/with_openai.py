"""The package `openai`: chat completions, completions, responses, models, errors."""

import json
import threading

import chain
import openai
from served import holds, raised, same

LONG = "word " * 70_000
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
            "required": ["city"],
        },
    },
}
TIME = {"type": "function", "function": {"name": "get_time", "parameters": {"type": "object"}}}
# Its answer is a call and no text: the model says nothing else, so it can follow when a call has to come.
SHELL = {
    "type": "function",
    "function": {
        "name": "shell_command",
        "parameters": {
            "type": "object",
            "properties": {"command": {"type": "string"}},
            "required": ["command"],
        },
    },
}
# The responses API has the same fields one level higher.
WEATHER_FLAT = {"type": "function", **WEATHER["function"], "strict": False}
CALL = {"city": chain.CITY, "days": 3}


def client(place, server=None, key=None):
    server = server or place.chain
    key = key or server.key or "none"
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=0, timeout=120)


def user(text):
    return [{"role": "user", "content": text}]


def chat(place):
    """An answer whole and the same in a stream, with its usage."""
    ask = {"model": "chain", "messages": user("Hello"), "temperature": 0}
    whole = client(place).chat.completions.create(**ask)
    same(whole.choices[0].message.content, chain.PLAIN, "the answer")
    same(whole.choices[0].finish_reason, "stop", "finish_reason")
    same(whole.model, "chain", "the model")
    usage = whole.usage
    same(usage.prompt_tokens + usage.completion_tokens, usage.total_tokens, "the sum of the usage")
    stream = client(place).chat.completions.create(
        **ask, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    same(text, chain.PLAIN, "the stream")
    holds(len([c for c in chunks if c.choices]) > 10, f"only {len(chunks)} chunks: no stream")
    same(chunks[-1].choices, [], "choices beside the usage")
    same(chunks[-1].usage.completion_tokens, usage.completion_tokens, "the stream's usage")
    same([c.usage for c in chunks[:-1] if c.usage], [], "usage before the end")
    ends = [c.choices[0].finish_reason for c in chunks if c.choices and c.choices[0].finish_reason]
    same(ends, ["stop"], "the ends of the stream")


def cached(place):
    """A second turn of the same conversation is not read again, and its usage says so."""
    messages = user("Tell me of the bus. " * 60)
    ask = lambda: client(place).chat.completions.create(model="chain", messages=messages)
    first = ask().choices[0].message.content
    messages += [{"role": "assistant", "content": first}, *user("And?")]
    usage = ask().usage
    cached = usage.prompt_tokens_details.cached_tokens
    holds(cached > usage.prompt_tokens / 2, f"{cached} of {usage.prompt_tokens} tokens were cached")


def drawn(place):
    """n, seed, stop, max_tokens, logprobs and logit_bias, of a model that has a choice."""
    ask = {"model": "demo", "messages": user("Tell me a story"), "max_completion_tokens": 24}
    create = client(place, place.demo).chat.completions.create
    two = create(**ask, n=2, temperature=1.2, seed=7)
    same([choice.index for choice in two.choices], [0, 1], "the choices")
    texts = [choice.message.content for choice in two.choices]
    holds(texts[0] != texts[1], f"two draws are the same: {texts}")
    again = create(**ask, n=2, temperature=1.2, seed=7)
    same([choice.message.content for choice in again.choices], texts, "the same seed's answers")
    greedy = create(**ask, temperature=0, logprobs=True, top_logprobs=3)
    text, told = greedy.choices[0].message.content, greedy.choices[0].logprobs.content
    same(bytes(b for t in told for b in t.bytes).decode(), text, "the logprobs' tokens together")
    same({len(token.top_logprobs) for token in told}, {3}, "top_logprobs")
    holds(all(t.logprob <= t.top_logprobs[0].logprob + 1e-6 <= 2e-6 for t in told), "odd logprobs")
    same(greedy.choices[0].finish_reason, "length", "finish_reason")
    stop = text[len(text) // 2 :][:3]
    stopped = create(**ask, temperature=0, stop=[stop]).choices[0]
    same(stopped.message.content, text.split(stop)[0], f"what stands before {stop!r}")
    same(stopped.finish_reason, "stop", "finish_reason")
    first = place.demo.post("/tokenize", {"content": told[0].token, "add_special": False})["tokens"]
    banned = create(**ask, temperature=0, logit_bias={str(first[0]): -100})
    holds(banned.choices[0].message.content != text, "logit_bias changes nothing")
    joined = "".join(
        chunk.choices[0].delta.content or ""
        for chunk in create(**ask, temperature=0, stream=True)
        if chunk.choices
    )
    same(joined, text, "the stream")


def completions(place):
    """The older API, whole and in a stream, with two prompts."""
    create = client(place, place.demo).completions.create
    ask = {"model": "demo", "max_tokens": 12, "temperature": 0}
    whole = create(**ask, prompt="Once upon a time", logprobs=2)
    text = whole.choices[0].text
    same("".join(whole.choices[0].logprobs.tokens), text, "the logprobs' tokens together")
    joined = "".join(c.choices[0].text for c in create(**ask, prompt="Once upon a time", stream=True))
    same(joined, text, "the stream")
    both = create(**ask, prompt=["Once upon a time", "The dog"])
    same([choice.index for choice in both.choices], [0, 1], "the choices")
    same(both.choices[0].text, text, "the first of two prompts")


def models(place):
    same([model.id for model in client(place).models.list()], ["chain"], "the models")


def errors(place):
    """The classes and codes that programs look for."""
    create = client(place).chat.completions.create
    wrong = client(place, key="wrong").chat.completions.create
    hello = {"model": "chain", "messages": user("Hello")}
    same(raised(openai.AuthenticationError, lambda: wrong(**hello)).code, "invalid_api_key", "code")
    long = raised(openai.BadRequestError, lambda: create(model="chain", messages=user(LONG)))
    same(long.code, "context_length_exceeded", "code")
    holds("maximum context length is 60000" in str(long), f"it says {long}")
    shape = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"not": {}}}}
    refused = raised(openai.BadRequestError, lambda: create(**hello, response_format=shape))
    same(refused.param, "response_format", "the field")
    for field, value in (("temperature", -1), ("n", 0), ("max_tokens", -1), ("messages", [])):
        refused = raised(openai.BadRequestError, lambda: create(**{**hello, field: value}))
        same(refused.param, field, "the field")
    raised(openai.NotFoundError, lambda: client(place).embeddings.create(model="m", input="x"))


def forms(place):
    """A schema and a call that has to come, of a model that knows neither."""
    ask = {"model": "demo", "messages": user("Tell me a story"), "temperature": 1, "seed": 3}
    create = client(place, place.demo).chat.completions.create
    schema = {
        "type": "object",
        "properties": {"days": {"type": "integer", "minimum": 1, "maximum": 31}},
        "required": ["days"],
        "additionalProperties": False,
    }
    form = {"type": "json_schema", "json_schema": {"name": "x", "strict": True, "schema": schema}}
    text = create(**ask, response_format=form).choices[0].message.content
    holds(1 <= json.loads(text)["days"] <= 31, f"it says {text}")
    tool = {"type": "function", "function": {"name": "wait", "strict": True, "parameters": schema}}
    more = {"tools": [tool], "tool_choice": "required", "parallel_tool_calls": False}
    (call,) = create(**ask, **more).choices[0].message.tool_calls
    holds(1 <= json.loads(call.function.arguments)["days"] <= 31, f"it says {call}")


def queue(place):
    """A full queue is a RateLimitError that says when to come back; who goes away makes room."""
    server, done = place.busy(), threading.Event()
    several = client(place, server)
    ask = {"model": "chain", "messages": user("Hello")}

    def hold():
        # It goes on past its end, until its client does.
        endless = {"max_tokens": 50_000, "extra_body": {"ignore_eos": True}}
        with several.chat.completions.create(**ask, stream=True, **endless) as stream:
            for _ in stream:
                if done.is_set():
                    break

    threads = [threading.Thread(target=hold) for _ in range(2)]
    try:
        for thread, (running, waiting) in zip(threads, [(1, 0), (1, 1)]):
            thread.start()
            server.until_are(running, waiting)
        error = raised(openai.RateLimitError, lambda: several.chat.completions.create(**ask))
        holds(int(error.response.headers["retry-after"]) > 0, "no Retry-After")
        done.set()
        server.until_are(0, 0)
        whole = several.chat.completions.create(**ask)
        same(whole.choices[0].message.content, chain.PLAIN, "the answer after that")
    finally:
        done.set()
        for thread in threads:
            if thread.ident:
                thread.join(60)
        server.stop()


def tools(place):
    """Tools offered, called, answered, and the answer to that; whole and in a stream."""
    create = client(place).chat.completions.create
    messages = [{"role": "developer", "content": "Be brief."}, *user("Please use the tool.")]
    ask = {"model": "chain", "tools": [WEATHER, TIME], "temperature": 0}
    whole = create(**ask, messages=messages, tool_choice="auto").choices[0]
    same(whole.finish_reason, "tool_calls", "finish_reason")
    same(whole.message.content, chain.BEFORE, "the text before the call")
    (call,) = whole.message.tool_calls
    same((call.type, call.function.name), ("function", "get_weather"), "the call")
    same(json.loads(call.function.arguments), CALL, "the arguments")
    # The package's own helper puts the deltas together.
    with client(place).chat.completions.stream(**ask, messages=messages) as stream:
        for _ in stream:
            pass
        final = stream.get_final_completion().choices[0]
    same(final.finish_reason, "tool_calls", "the stream's finish_reason")
    same(final.message.content, chain.BEFORE, "the stream's text before the call")
    same(json.loads(final.message.tool_calls[0].function.arguments), CALL, "the stream's arguments")
    messages += [
        whole.message.model_dump(exclude_none=True),
        {"role": "tool", "tool_call_id": call.id, "content": chain.PROOF},
    ]
    after = create(**ask, messages=messages).choices[0]
    same(after.message.content, chain.DONE, "the answer to the result")
    same(after.finish_reason, "stop", "finish_reason")
    messages[-1]["content"] = "nothing"
    after = create(**ask, messages=messages).choices[0]
    same(after.message.content, chain.NOTHING, "the answer to an empty result")
    none = create(**ask, messages=user("Please use the tool."), tool_choice="none").choices[0]
    same((none.message.content, none.message.tool_calls), (chain.PLAIN, None), "no choice")
    named = {"type": "function", "function": {"name": "shell_command"}}
    forced = {**ask, "tools": [TIME, SHELL], "messages": user("Please use the tool.")}
    for choice in (named, "required"):
        one = create(**forced, tool_choice=choice, max_tokens=500).choices[0]
        (call,) = one.message.tool_calls
        same((call.function.name, one.message.content), ("shell_command", None), "a call and no text")
        same(json.loads(call.function.arguments), {"command": chain.COMMAND}, "its arguments")
    both = create(**ask, messages=user("Please use both.")).choices[0].message.tool_calls
    same([c.function.name for c in both], ["get_weather", "get_time"], "two calls")
    same(json.loads(both[1].function.arguments), {"zone": "CET", "exact": True}, "the second call")
    holds(both[0].id != both[1].id, "two calls have one id")
    deltas = {}
    for chunk in create(**ask, messages=user("Please use both."), stream=True):
        for delta in (chunk.choices[0].delta.tool_calls or []) if chunk.choices else []:
            deltas[delta.index] = deltas.get(delta.index, "") + (delta.function.arguments or "")
    joined = {at: json.loads(text) for at, text in deltas.items()}
    same(joined, {0: {"city": "Oslo"}, 1: {"zone": "CET", "exact": True}}, "two calls' deltas")


def reasoning(place):
    """Thoughts beside the answer, where the text has them or the client wants them."""
    create = client(place).chat.completions.create
    for extra in ({}, {"chat_template_kwargs": {"enable_thinking": True}}):
        text = "Hello" if extra else "Please think first."
        ask = {"model": "chain", "messages": user(text), "extra_body": extra}
        message = create(**ask).choices[0].message
        same(message.content, chain.AFTER, "the answer")
        same(message.reasoning_content, chain.THOUGHTS, "the thoughts")
        deltas = [c.choices[0].delta for c in create(**ask, stream=True) if c.choices]
        thoughts = "".join(getattr(delta, "reasoning_content", None) or "" for delta in deltas)
        same(thoughts, chain.THOUGHTS, "the stream's thoughts")
        same("".join(delta.content or "" for delta in deltas), chain.AFTER, "the stream's answer")


def merged(place):
    """System and developer messages all reach the model, wherever they stand."""
    secret = f"The word is {chain.SECRET}."
    create = client(place).chat.completions.create
    for role in ("system", "developer"):
        messages = [
            {"role": "system", "content": "Be brief."},
            {"role": role, "content": [{"type": "text", "text": secret}]},
            *user("Do you know a secret?"),
        ]
        same(create(model="chain", messages=messages).choices[0].message.content, chain.TOLD, role)
    answer = create(model="chain", messages=user("Do you know a secret?"))
    same(answer.choices[0].message.content, chain.UNTOLD, "without it")
    create = client(place).responses.create
    told = create(model="chain", input="Do you know a secret?", instructions=secret)
    same(told.output_text, chain.TOLD, "instructions")


def responses(place):
    """The responses API: whole, in a stream, and the helper's final response."""
    ask = {"model": "chain", "input": "Hello", "store": False, "metadata": {"a": "b"}}
    whole = client(place).responses.create(**ask)
    same((whole.status, whole.output_text), ("completed", chain.PLAIN), "the response")
    same(whole.metadata, {"a": "b"}, "metadata")
    with client(place).responses.stream(**ask) as stream:
        events = list(stream)
        final = stream.get_final_response()
    same(final.output_text, chain.PLAIN, "the final response")
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    same("".join(deltas), chain.PLAIN, "the deltas")
    holds(len(deltas) > 10, f"only {len(deltas)} deltas: no stream")
    numbers = [event.sequence_number for event in events if hasattr(event, "sequence_number")]
    same(numbers, list(range(len(numbers))), "sequence_number")
    same(final.usage.output_tokens, whole.usage.output_tokens, "the usage")
    short = client(place, place.demo).responses.create(
        model="demo", input="Hello", max_output_tokens=5
    )
    same(short.status, "incomplete", "the status")
    same(short.incomplete_details.reason, "max_output_tokens", "why")
    thought = client(place).responses.create(model="chain", input="Please think first.")
    same([item.type for item in thought.output], ["reasoning", "message"], "the items")
    same(thought.output[0].content[0].text, chain.THOUGHTS, "the thoughts")
    long = lambda: client(place).responses.create(model="chain", input=LONG)
    same(raised(openai.BadRequestError, long).code, "context_length_exceeded", "code")
    before = lambda: client(place).responses.create(**ask, previous_response_id=whole.id)
    same(raised(openai.BadRequestError, before).param, "previous_response_id", "the field")


def response_tools(place):
    """The same tools there; a kind that cannot be run is named in a header."""
    items = [{"role": "user", "content": "Please use the tool."}]
    ask = {"model": "chain", "tools": [WEATHER_FLAT, {"type": "web_search"}]}
    raw = client(place).responses.with_raw_response.create(**ask, input=items)
    same(raw.headers.get("x-engine-withheld-tools"), "web_search", "the withheld tools")
    whole = raw.parse()
    same([item.type for item in whole.output], ["message", "function_call"], "the items")
    call = whole.output[1]
    same((call.name, json.loads(call.arguments)), ("get_weather", CALL), "the call")
    with client(place).responses.stream(**ask, input=items) as stream:
        parts = [e.delta for e in stream if e.type == "response.function_call_arguments.delta"]
        final = stream.get_final_response()
    same(json.loads("".join(parts)), CALL, "the deltas")
    same(final.output[1].arguments, call.arguments, "the final response's arguments")
    items += [item.model_dump(exclude_none=True) for item in whole.output]
    items += [{"type": "function_call_output", "call_id": call.call_id, "output": chain.PROOF}]
    same(client(place).responses.create(**ask, input=items).output_text, chain.DONE, "the answer")


def counting(place):
    """Tokens are counted as the usage has them."""
    ask = {"model": "chain", "input": "How many are these?", "instructions": "Count."}
    counted = client(place).responses.input_tokens.count(**ask).input_tokens
    used = client(place).responses.create(**ask).usage.input_tokens
    same(counted, used, "the count")


def gone(place):
    """A client that goes away in the middle of a stream leaves nothing behind."""
    ask = {"model": "chain", "messages": user("Hello"), "max_tokens": 50_000}
    ask["extra_body"] = {"ignore_eos": True}
    for _ in range(8):
        with client(place).chat.completions.create(**ask, stream=True) as stream:
            # The first chunk comes before there is a token.
            texts = (chunk.choices[0].delta.content for chunk in stream)
            holds(any(texts), "the stream has no text")
    place.chain.until_are(0, 0)
    whole = client(place).chat.completions.create(model="chain", messages=user("Hello"))
    same(whole.choices[0].message.content, chain.PLAIN, "the answer after that")


CHECKS = [
    chat, cached, drawn, completions, models, errors, forms, queue, tools, reasoning, merged, responses,
    response_tools, counting, gone,
]  # fmt: skip
