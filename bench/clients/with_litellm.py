"""The package `litellm`, which speaks to many servers: here by two of its providers."""

import json
import os

# Else it looks for prices on the net.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

import chain
import litellm
from served import holds, raised, same
from with_openai import CALL, WEATHER, user

litellm.telemetry = False
litellm.suppress_debug_info = True


def both(place):
    key = place.chain.key
    yield {"model": "openai/chain", "api_base": f"{place.chain.url}/v1", "api_key": key}
    yield {"model": "anthropic/chain", "api_base": place.chain.url, "api_key": key}


def completion(place):
    """An answer whole and in a stream, by either API."""
    for ask in both(place):
        ask |= {"messages": user("Hello"), "max_tokens": 500, "num_retries": 0}
        whole = litellm.completion(**ask)
        same(whole.choices[0].message.content, chain.PLAIN, ask["model"])
        holds(whole.usage.prompt_tokens > 0 and whole.usage.completion_tokens > 10, f"{whole.usage}")
        chunks = list(litellm.completion(**ask, stream=True, stream_options={"include_usage": True}))
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        same(text, chain.PLAIN, f"the stream of {ask['model']}")
        joined = litellm.stream_chunk_builder(chunks, messages=ask["messages"])
        same(joined.usage.completion_tokens, whole.usage.completion_tokens, "the stream's usage")


def tools(place):
    """A call of a tool and the answer to its result, by either API."""
    for ask in both(place):
        ask |= {"tools": [WEATHER], "max_tokens": 500, "num_retries": 0}
        messages = [{"role": "system", "content": "Be brief."}, *user("Please use the tool.")]
        whole = litellm.completion(**ask, messages=messages).choices[0]
        same(whole.finish_reason, "tool_calls", f"finish_reason of {ask['model']}")
        (call,) = whole.message.tool_calls
        same(json.loads(call.function.arguments), CALL, "the arguments")
        chunks = list(litellm.completion(**ask, messages=messages, stream=True))
        joined = litellm.stream_chunk_builder(chunks, messages=messages).choices[0].message
        same(json.loads(joined.tool_calls[0].function.arguments), CALL, "the stream's arguments")
        result = {"role": "tool", "tool_call_id": call.id, "content": chain.PROOF}
        messages += [whole.message.model_dump(exclude_none=True), result]
        after = litellm.completion(**ask, messages=messages).choices[0].message
        same(after.content, chain.DONE, f"the answer of {ask['model']}")


def errors(place):
    """What is refused has the class that litellm gives it, by either API."""
    for ask in both(place):
        ask |= {"messages": user("Hello"), "max_tokens": 500, "num_retries": 0}
        wrong = {**ask, "api_key": "wrong"}
        raised(litellm.AuthenticationError, lambda: litellm.completion(**wrong))
        long = {**ask, "messages": user("word " * 70_000)}
        raised(litellm.ContextWindowExceededError, lambda: litellm.completion(**long))


CHECKS = [completion, tools, errors]
