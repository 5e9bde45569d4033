#!/usr/bin/env python3
"""Writes the model card of an embedded model: README.md of its folder. Run by hand after train.py.

    experiments/tiny/card.py build/release/moelab experiments/models/tiny-mixtral

Every number comes from train.py's card.json or from a trace that this script records.
"""
import json, math, subprocess, sys, tempfile

PROMPTS = "experiments/prompts/demo.jsonl"
RECORD = ["--chat", "none", "--temperature", "0.8", "-n", "128", "--ignore-eos"]
LAGS = [1, 2, 4, 8, 16]


def call(*words):
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


def routing(moelab, folder):
    with tempfile.TemporaryDirectory() as temporary:
        trace = temporary + "/card.h5"
        call(moelab, "record", "--model", folder, "--prompts", PROMPTS, *RECORD, "--out", trace)
        lines = [x for x in call(moelab, "trace", "stats", trace, "--format", "tsv").splitlines()
                 if not x.startswith("#")]
    names = lines[0].split("\t")
    return [dict(zip(names, line.split("\t"))) for line in lines[1:]]


def table(rows):
    head = ["layer", "entropy, bits", "most popular, %"] + [f"repeat at lag {n}, %" for n in LAGS]
    out = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in rows:
        cells = [row["layer"], f'{float(row["entropy_bits"]):.2f}',
                 f'{float(row["most_popular_percent"]):.1f}']
        cells += [f'{float(row[f"expert_repeat_lag{n}_percent"]):.1f}' for n in LAGS]
        out.append("| " + " | ".join(cells) + " |")
    return "\n".join(out)


def sample(moelab, folder, prompt, seed):
    text = call(moelab, "run", "--model", folder, "--chat", "none", "--temperature", "0.7",
                "--seed", str(seed), "-n", "60", "-p", prompt)
    return prompt + text.rstrip("\n")


def sources(card):
    groups = {}
    for name, size in card["characters"].items():
        key = "MMLU (MIT, hendrycks/test)" if name.startswith("mmlu") else {
            "gsm8k.jsonl": "GSM8K (MIT)", "humaneval.jsonl": "HumanEval (MIT)",
            "tinyshakespeare.txt": "Shakespeare (public domain)"}.get(
                name, "Jane Austen's six novels (public domain)")
        groups[key] = groups.get(key, 0) + size
    return ", ".join(f"{key} {size / 1e6:.2f}" for key, size in sorted(groups.items()))


def main():
    moelab, folder = sys.argv[1], sys.argv[2].rstrip("/")
    card = json.load(open(folder + "/card.json"))
    config = json.load(open(folder + "/config.json"))
    name = folder.split("/")[-1]
    curve = card["held_out"]
    shown = [x for i, x in enumerate(curve) if x["step"] % 1000 == 0 or i == len(curve) - 1]
    prompts = ["It was generally agreed in the village that", "ROMEO:\nThe night is long,"]
    samples = "\n\n".join("    " + sample(moelab, folder, p, 3).replace("\n", "\n    ")
                          for p in prompts)
    with open(folder + "/README.md", "w", encoding="utf-8") as out:
        out.write(f"""# {name}

A small real model of the architecture {config["architectures"][0]}, for tests and demonstrations of routing: its router was
learned, its text is English without much sense. Made by `experiments/tiny/train.py`, this card by
`experiments/tiny/card.py`. Weights: MIT licence, as moelab.

- Shape: {config["num_hidden_layers"]} layers, {config["num_local_experts"]} experts, top-{config["num_experts_per_tok"]}, D {config["hidden_size"]}, F {config["intermediate_size"]}, vocabulary {config["vocab_size"]} (its own SentencePiece, BPE with byte
  fallback); {card["parameters"]} parameters in BF16.
- Text, millions of characters: {sources(card)}; {card["train_tokens"]} tokens. The last 5 % of
  every file, {card["held_out_tokens"]} tokens, were held out.
- Training: {card["tokens_trained"] / 1e6:.1f} million tokens, AdamW, with a load-balancing loss for each layer in the last {card["tokens_trained"] // 2048 - 3500} steps
  (the first 3,500 used that of transformers, which balances the sum over layers). PyTorch {card["torch"]},
  transformers {card["transformers"]}.
- Loss on held-out text, nats a token: **{card["held_out_loss"]:.3f}** (uniform: {math.log(config["vocab_size"]):.2f}). By step of 2,048 tokens: {", ".join(f'{x["step"]}: {x["held_out_loss"]:.3f}' for x in shown)}.

## Routing

`moelab record --model {name} --prompts {PROMPTS} {" ".join(RECORD)} --out t.h5`, then `moelab trace stats t.h5`. Entropy of an expert's
popularity; share of a token's experts that were among those of the token so many before; the last line
is what uniform random routing would give.

{table(routing(moelab, folder))}

## Text

At temperature 0.7; the first words are the prompt.

{samples}
""")


if __name__ == "__main__":
    main()
