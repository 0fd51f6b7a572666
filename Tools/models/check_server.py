"""Asks `atoll serve` with the `openai` client, and scores texts as evaluation harnesses do.

    python3 Tools/models/check_server.py ATOLL MODEL

MODEL has a chat template. Exits with 1 at a difference, with 0 and a word where a package is missing.
"""

import importlib.util
import math
import subprocess
import sys
import time
import urllib.request

MISSING = [name for name in ("openai", "torch", "transformers") if not importlib.util.find_spec(name)]
if MISSING:
    print(f"check_server: left out, for want of {', '.join(MISSING)}: pip install openai torch transformers")
    raise SystemExit(0)

import openai
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

ATOLL, MODEL = sys.argv[1:3]
KEY = "a-key-of-sixteen-letters"
torch.set_num_threads(1)


def expect(what, truth):
    print(("ok    " if truth else "WRONG ") + what)
    if not truth:
        raise SystemExit(1)


server = subprocess.Popen(
    [ATOLL, "serve", MODEL, "--port", "0", "--name", "m", "--context", "512"], stdout=subprocess.PIPE,
    env={"ATOLL_SERVE_KEY": KEY, "PATH": "/usr/bin"},
)
try:
    base = server.stdout.readline().decode().split(" at ")[1].split(" ")[0]
    client = openai.OpenAI(base_url=base, api_key=KEY, max_retries=0, timeout=120)
    expect("models", [m.id for m in client.models.list()] == ["m"])
    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    model = AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32).eval()

    talk = [{"role": "user", "content": "What is the capital of France?"}]
    whole = client.chat.completions.create(model="m", messages=talk, temperature=0, max_tokens=12)
    ids = tokenizer.apply_chat_template(talk, add_generation_prompt=True, return_tensors="pt", return_dict=True)["input_ids"]
    made = model.generate(ids, max_new_tokens=12, do_sample=False, eos_token_id=tokenizer.eos_token_id)[0, ids.shape[1] :]
    expect("chat is transformers' greedy answer", whole.choices[0].message.content == tokenizer.decode(made, skip_special_tokens=True))
    expect("usage", whole.usage.prompt_tokens == ids.shape[1])
    print("      " + repr(whole.choices[0].message.content))

    chunks = list(
        client.chat.completions.create(
            model="m", messages=talk, temperature=0, max_tokens=12, stream=True, stream_options={"include_usage": True}
        )
    )
    expect("the first chunk says who speaks", chunks[0].choices[0].delta.role == "assistant")
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    expect("the stream says the same", text == whole.choices[0].message.content)
    reasons = [c.choices[0].finish_reason for c in chunks if c.choices]
    expect("a reason at the end only", all(r is None for r in reasons[:-1]) and reasons[-1] == whole.choices[0].finish_reason)
    expect("usage in a chunk without choices", chunks[-1].choices == [] and chunks[-1].usage.prompt_tokens == ids.shape[1])

    told = client.chat.completions.create(
        model="m", messages=talk, temperature=0, max_tokens=3, logprobs=True, top_logprobs=2
    ).choices[0].logprobs.content
    expect("log probabilities of an answer", len(told) == 3 and all(t.logprob == t.top_logprobs[0].logprob for t in told))

    # As lm-evaluation-harness scores: the prompt comes back with what the model thought of it.
    context, rest = "The sky is", " blue, and the grass is green."
    tokens = tokenizer(context + rest).input_ids
    asked = client.completions.create(model="m", prompt=[tokens, tokens[:5]], max_tokens=1, temperature=0, logprobs=1, echo=True)
    found = asked.choices[0].logprobs
    with torch.no_grad():
        logs = torch.log_softmax(model(torch.tensor([tokens])).logits[0].float(), -1)
    expected = [logs[i, t].item() for i, t in enumerate(tokens[1:])]
    off = max(abs(a - b) for a, b in zip(found.token_logprobs[1 : len(tokens)], expected))
    expect(f"echoed log probabilities differ by {off:.1e} at most", off < 1e-4 and found.token_logprobs[0] is None)
    greedy = [max(t.values()) == p for t, p in zip(found.top_logprobs[1:], found.token_logprobs[1:])]
    expect("whether it is greedy", greedy[: len(tokens) - 1] == [logs[i].argmax().item() == t for i, t in enumerate(tokens[1:])])
    expect("several prompts", len(asked.choices) == 2 and len(asked.choices[1].logprobs.tokens) == 6)
    expect("echoed text", asked.choices[0].text.startswith(context + rest))
    print(f"      perplexity {math.exp(-sum(expected) / len(expected)):.3f}")

    stopped = client.completions.create(model="m", prompt="One, two, three,", max_tokens=40, temperature=0, stop=[" five"])
    expect("a stop string", stopped.choices[0].finish_reason == "stop" and " five" not in stopped.choices[0].text)
    same = [client.completions.create(model="m", prompt="Once", max_tokens=8, temperature=1.2, seed=5).choices[0].text for _ in range(2)]
    expect("a seed", same[0] == same[1])
    # What clients in other languages write down though it was not said.
    nothing = dict.fromkeys(("seed", "stop", "n", "stream", "user", "logit_bias", "presence_penalty", "top_p"))
    plain = client.completions.create(model="m", prompt="One, two,", max_tokens=4, temperature=0)
    nulls = client.completions.create(
        model="m", prompt="One, two,", max_tokens=4, temperature=0, extra_body=nothing | {"suffix": None, "echo": None, "best_of": None}
    )
    expect("null is as good as missing", nulls.choices[0].text == plain.choices[0].text)
    nulls = client.chat.completions.create(
        model="m", messages=talk, temperature=0, max_completion_tokens=12,
        extra_body=nothing | {"max_tokens": None, "tools": None, "response_format": None, "logprobs": None},
    )
    expect("in a chat too", nulls.choices[0].message.content == whole.choices[0].message.content)
    expect("one model by its name", client.models.retrieve("m").id == "m")
    for problem, arguments in (("unknown model", dict(model="x")), ("n", dict(n=2)), ("too long", dict(prompt="a b " * 2000))):
        try:
            client.completions.create(**(dict(model="m", prompt="x", max_tokens=1) | arguments))
            expect(problem, False)
        except openai.APIStatusError as error:
            expect(f"{problem}: {error.status_code} {error.body['message'][:60]}", error.status_code in (400, 404))
    try:
        openai.OpenAI(base_url=base, api_key="wrong", max_retries=0).models.list()
        expect("another key", False)
    except openai.AuthenticationError:
        expect("another key is refused", True)

    # A client that leaves: the next one does not wait for the rest of its answer.
    stream = client.completions.create(model="m", prompt="Once upon a time", max_tokens=400, temperature=1, stream=True)
    next(iter(stream))
    stream.close()
    start = time.time()
    client.completions.create(model="m", prompt="x", max_tokens=1)
    expect(f"after one that left, {time.time() - start:.2f} s", time.time() - start < 8)
    request = urllib.request.Request(base.replace("/v1", "/health"), headers={"Authorization": f"Bearer {KEY}"})
    expect("healthy", b'"ok"' in urllib.request.urlopen(request, timeout=30).read())
finally:
    server.terminate()
    server.wait(10)
