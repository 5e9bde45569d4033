#!/usr/bin/env python3
"""Measures what the embedded models lose with weights in 8 and 4 bits, with transformers (4.x) in
place of moelab's own kernels. Run by hand:

    python fewer_bits.py MOELAB MODEL TEXT

MODEL is a folder such as experiments/models/tiny-mixtral. TEXT is a file of which the last 5 %,
which the models did not see in training, is read in windows of 256 tokens. Prints for the model as
it is, with experts in Q8 and in Q4, and with Q4 and dense weights in Q8 and in Q4: mean loss in nats a token, its difference from the unchanged model with
standard error, perplexity, the share of routed experts that differ, and the share of positions
whose most likely token differs.
"""

import os
import subprocess
import sys
import tempfile

import numpy as np
import sentencepiece
import torch

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, f"{HERE}/../../tests/golden/logits")
import make

WINDOW = 256


@torch.no_grad()
def measure(folder, windows):
    """Loss [N, WINDOW], most likely token [N, WINDOW], experts [N, WINDOW, L, K]."""
    model = make.load_model(folder)
    loss, best, routes = [], [], []
    for ids in windows:
        watch = make.RouterWatch(model)
        logits = model(torch.tensor([ids[:-1]])).logits[0]
        scores = watch.close()
        loss.append(torch.nn.functional.cross_entropy(
            logits, torch.tensor(ids[1:]), reduction="none"))
        best.append(logits.argmax(-1))
        tokens, layers, experts = scores.shape
        expert = make.gates(model, scores.reshape(-1, experts))[0]
        routes.append(expert.reshape(tokens, layers, -1).sort(-1).values)
    return torch.stack(loss).numpy(), torch.stack(best).numpy(), torch.stack(routes).numpy()


def main(moelab, model_dir, text_file):
    sp = sentencepiece.SentencePieceProcessor(model_file=f"{model_dir}/tokenizer.model")
    with open(text_file, encoding="utf-8") as f:
        text = f.read()
    ids = sp.encode(text[-len(text) // 20:])
    windows = [[sp.bos_id()] + ids[i:i + WINDOW] for i in range(0, len(ids) - WINDOW + 1, WINDOW)]
    print(f"{model_dir}: {len(windows) * WINDOW} tokens of {text_file}")
    plain = measure(model_dir, windows)
    for kind in ("BF16", "Q8", "Q4", "Q4, dense Q8", "Q4, dense Q4"):
        with tempfile.TemporaryDirectory() as folder:
            if kind == "BF16":
                loss, best, routes = plain
            else:
                experts, *dense = kind.split(", dense ")
                more = ["--dense", *dense] if dense else []
                subprocess.run([moelab, "quantize", "--model", model_dir, "--experts", experts,
                                *more, "-o", f"{folder}/model"], check=True)
                loss, best, routes = measure(f"{folder}/model", windows)
        more = (loss - plain[0]).mean(axis=1) # by window, as the tokens of one are not independent
        same = (routes[..., :, None] == plain[2][..., None, :]).any(axis=-1)
        print(f"  {kind}: loss {loss.mean():.4f}, {more.mean():+.4f} +- "
              f"{more.std(ddof=1) / len(more) ** 0.5:.4f}, "
              f"perplexity {np.exp(loss.mean()):.3f}, other experts {1 - same.mean():.2%}, "
              f"other best token {(best != plain[1]).mean():.2%}")


if __name__ == "__main__":
    main(*sys.argv[1:])
