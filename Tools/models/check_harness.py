"""Scores a served model with lm-evaluation-harness, and beside it the same model with transformers.

    python3 Tools/models/check_harness.py ATOLL MODEL

Three small tasks of our own: choices (`loglikelihood`), a text's perplexity (`loglikelihood_rolling`) and answers (`generate_until`); the
last one also as a chat. The figures of both must be equal, and so must all answers. Exits with 1 at a difference, with 0 and a word where a package is missing.
"""

import importlib.util
import json
import os
import subprocess
import sys
import tempfile

MISSING = [name for name in ("lm_eval", "torch", "transformers", "tenacity") if not importlib.util.find_spec(name)]
if MISSING:
    print(f"check_harness: left out, for want of {', '.join(MISSING)}: pip install 'lm_eval[api]' torch transformers")
    raise SystemExit(0)

ATOLL, MODEL = sys.argv[1:3]
KEY = "a-key-of-sixteen-letters"

CHOICES = [
    ("The capital of France is", [" Paris", " Berlin", " Madrid", " Rome"]),
    ("Two and two make", [" four", " five", " nine", " eleven"]),
    ("Snow is", [" white", " loud", " triangular", " married"]),
    ("A dog has four", [" legs", " wings", " wheels", " eyes"]),
    ("Water freezes at zero degrees", [" Celsius", " Sunday", " litres", " metres"]),
    ("The opposite of hot is", [" cold", " warm", " big", " green"]),
    ("Bees make", [" honey", " milk", " paper", " glass"]),
    ("The sun rises in the", [" east", " west", " south", " kitchen"]),
    ("She opened the door and walked into the", [" room", " song", " number", " Tuesday"]),
    ("The largest planet of our sun is", [" Jupiter", " Mars", " Venus", " the moon"]),
]
TEXTS = [
    "In the beginning there was a small village by the river, and in that village lived a miller who had three sons.",
    "Für Elise is a bagatelle for solo piano in A minor, commonly known by its German title.",
    "def add(a, b):\n    return a + b\n\nprint(add(2, 3))\n",
    "The quick brown fox jumps over the lazy dog. " * 40,
]
PROMPTS = ["One, two, three,", "Roses are red, violets are", "The first ten letters of the alphabet are A, B, C,"]

TASKS = {
    "small_choices": {
        "output_type": "multiple_choice", "doc_to_text": "{{prompt}}", "doc_to_choice": "{{choices}}", "doc_to_target": 0,
        "target_delimiter": "", "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}],
    },
    "small_text": {
        "output_type": "loglikelihood_rolling", "doc_to_text": "", "doc_to_target": "{{text}}",
        "metric_list": [{"metric": "word_perplexity"}, {"metric": "byte_perplexity"}, {"metric": "bits_per_byte"}],
    },
    "small_answers": {
        "output_type": "generate_until", "doc_to_text": "{{prompt}}", "doc_to_target": "", "target_delimiter": "",
        "generation_kwargs": {"until": ["\n\n"], "max_gen_toks": 12, "do_sample": False},
        "metric_list": [{"metric": "exact_match"}],
    },
}
ROWS = {
    "small_choices": [{"prompt": prompt, "choices": choices} for prompt, choices in CHOICES],
    "small_text": [{"text": text} for text in TEXTS],
    "small_answers": [{"prompt": prompt} for prompt in PROMPTS],
}


def write_tasks(folder):
    for name, task in TASKS.items():
        data = os.path.join(folder, name + ".jsonl")
        with open(data, "w") as file:
            file.writelines(json.dumps(row) + "\n" for row in ROWS[name])
        task = {
            "task": name, "dataset_path": "json", "dataset_kwargs": {"data_files": {"test": data}}, "test_split": "test",
            "metadata": {"version": 1}, **task,
        }
        # JSON is YAML.
        with open(os.path.join(folder, name + ".yaml"), "w") as file:
            json.dump(task, file)


def score(folder, kind, arguments, tasks=tuple(TASKS), chat=False):
    """The harness' results and its samples, by task."""
    out = os.path.join(folder, kind + ("-chat" if chat else ""))
    environment = dict(
        os.environ, OPENAI_API_KEY=KEY, HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", HF_HOME=os.path.join(folder, "home"),
        TOKENIZERS_PARALLELISM="false", OMP_NUM_THREADS="1",
    )
    command = [
        sys.executable, "-m", "lm_eval", "--model", kind, "--model_args", arguments, "--include_path", folder, "--tasks",
        ",".join(tasks), "--output_path", out, "--log_samples", "--batch_size", "1" if chat else "2", "--device", "cpu",
    ] + (["--apply_chat_template"] if chat else [])
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        print(done.stdout[-4000:])
        raise SystemExit(f"check_harness: {kind} failed")
    results, samples = {}, {}
    for root, _, names in os.walk(out):
        for name in names:
            with open(os.path.join(root, name)) as file:
                if name.startswith("results"):
                    results = json.load(file)["results"]
                elif name.startswith("samples"):
                    task = next(task for task in TASKS if task in name)
                    samples[task] = [json.loads(line) for line in file]
    return results, samples


def flat(value):
    """All numbers and texts in order."""
    if isinstance(value, (list, tuple)):
        for item in value:
            yield from flat(item)
    else:
        yield value


def alike(a, b):
    try:
        return abs(float(a) - float(b)) <= 2e-3 + 1e-4 * abs(float(b))
    except (TypeError, ValueError):
        return a == b


wrong = 0


def expect(what, truth):
    global wrong
    print(("ok    " if truth else "WRONG ") + what, flush=True)
    wrong += not truth


with tempfile.TemporaryDirectory() as folder:
    write_tasks(folder)
    server = subprocess.Popen(
        [ATOLL, "serve", MODEL, "--port", "0", "--name", "m", "--context", "1024"], stdout=subprocess.PIPE,
        env={"ATOLL_SERVE_KEY": KEY, "PATH": "/usr/bin"},
    )
    try:
        base = server.stdout.readline().decode().split(" at ")[1].split(" ")[0]
        served = score(
            folder, "local-completions",
            f"model=m,base_url={base}/completions,tokenizer={os.path.abspath(MODEL)},num_concurrent=2,max_length=1024,max_retries=1",
        )
        chat = score(
            folder, "local-chat-completions", f"model=m,base_url={base}/chat/completions,num_concurrent=1,max_retries=1",
            ["small_answers"], chat=True,
        )
    finally:
        server.terminate()
        server.wait(10)
    plain = score(folder, "hf", f"pretrained={os.path.abspath(MODEL)},dtype=float32,max_length=1024")
    plain_chat = score(folder, "hf", f"pretrained={os.path.abspath(MODEL)},dtype=float32,max_length=1024", ["small_answers"], chat=True)
    said = [[sample["resps"] for sample in one[1]["small_answers"]] for one in (chat, plain_chat)]
    expect(f"small_answers as a chat: {said[0][0]}", said[0] == said[1] and len(said[0]) == len(PROMPTS))
    for task in TASKS:
        for name, value in sorted(plain[0][task].items()):
            if isinstance(value, float) and "stderr" not in name:
                found = served[0][task].get(name)
                expect(f"{task} {name.split(',')[0]}: {found:.5f}, with transformers {value:.5f}", alike(found, value))
        pairs = zip(served[1][task], plain[1][task], strict=True)
        same = [
            all(alike(x, y) for x, y in zip(flat(a["resps"]), flat(b["resps"]), strict=True))
            for a, b in pairs
        ]
        expect(f"{task}: {sum(same)} of {len(same)} answers are the same", len(same) == len(ROWS[task]) and all(same))
raise SystemExit(1 if wrong else 0)
