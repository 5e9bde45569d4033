#!/usr/bin/env python3
"""Makes the golden logits beside this file, with Hugging Face transformers in float32. By hand:

    python make.py [CASE...]          random models that the installed version of transformers makes
    python make.py --model DIR NAME   goldens of three prompts for the model in DIR, as ./NAME
                                      (DIR may be what `moelab quantize` wrote: then such weights are
                                      made float32 here, by the layout that exec/dtype.h documents,
                                      and there is one prompt and one greedy text)
    python make.py --slim DIR         those of Phi-tiny-MoE's and Phi-mini-MoE's own code: DIR has the
                                      modeling_slimmoe.py and configuration_slimmoe.py published with
                                      them (needs einops)

The committed files were made with torch 2.15: the cases of version 4 and the slim ones with
transformers 4.57.6, the others with 5.23.0. PhiMoE with LongRoPE is computed with version 4 only: in
5.x PhimoeRotaryEmbedding calls its initialiser without the length of the sequence and so never uses
the long factors, which version 4 and Microsoft's own modelling code do; long_factors_are_used() below
checks that. Heads of another size than hidden_size / num_attention_heads are known to Microsoft's code
and to version 5, not to version 4. The two differ in one thing: how many keys a sliding_window of W
lets a token see, W + 1 in Microsoft's code (eager, and flash_attn's window of W keys before the
token's own), W in transformers. (With sdpa Microsoft's code forgets the window.)

A case is a model directory, and in it a folder for each run:
    ids.npy     i32 [T]        the tokens
    prompt.npy  i32 [1]        how many of them were known when the first pass was made; the rest
                               came one by one, as generate() does
    logits.npy  f32 [N, V]     of the last N positions
    router.npy  f32 [T, L, E]  router logits
    expert.npy  i32 [T, L, K]  in gate order
    weight.npy  f32 [T, L, K]
Weights are rounded to the stored type first, so the float32 results are those of the stored weights.
"""

import glob
import importlib
import json
import os
import shutil
import sys
import tempfile
import types

import numpy as np
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import (MixtralConfig, MixtralForCausalLM, OlmoeConfig, OlmoeForCausalLM,
                          PhimoeConfig, PhimoeForCausalLM, Qwen3MoeConfig, Qwen3MoeForCausalLM)

HERE = os.path.dirname(os.path.abspath(__file__))
VERSION = int(transformers.__version__.split(".")[0])
torch.set_num_threads(1)

MIXTRAL = dict(vocab_size=61, num_hidden_layers=2, num_experts_per_tok=2, rms_norm_eps=1e-5,
               max_position_embeddings=128, tie_word_embeddings=False, bos_token_id=1,
               eos_token_id=2)
PHIMOE = dict(MIXTRAL, attention_bias=True, lm_head_bias=True)
CLASSES = dict(mixtral=(MixtralConfig, MixtralForCausalLM), phimoe=(PhimoeConfig, PhimoeForCausalLM),
               qwen3=(Qwen3MoeConfig, Qwen3MoeForCausalLM), olmoe=(OlmoeConfig, OlmoeForCausalLM))


def longrope(head_dim, original, short_mscale, long_mscale):
    n = head_dim // 2
    return dict(rope_type="longrope", original_max_position_embeddings=original,
                short_factor=[1.0 + 0.05 * i for i in range(n)],
                long_factor=[1.5 + 0.5 * i for i in range(n)],
                short_mscale=short_mscale, long_mscale=long_mscale)


def theta(value):
    return (dict(rope_theta=value) if VERSION == 4
            else dict(rope_parameters=dict(rope_type="default", rope_theta=value)))


# name, version of transformers, type, arguments of the configuration, runs {name: (T, prompt)}, and
# extra: gain of the router, layout of the file.
CASES = [
    ("mixtral-gqa2", 4, "float32", dict(
        MIXTRAL, **theta(1e4), hidden_size=40, intermediate_size=17, num_attention_heads=4,
        num_key_value_heads=2, head_dim=12, num_local_experts=4, vocab_size=50),
     dict(whole=(40, 40)), {}),
    ("mixtral-mha-top1", 4, "float32", dict(
        MIXTRAL, **theta(1e6), hidden_size=24, intermediate_size=19, num_attention_heads=3,
        num_key_value_heads=3, num_local_experts=5, num_experts_per_tok=1),
     dict(whole=(40, 40)), {}),
    ("mixtral-mqa8-top3-tied", 4, "bfloat16", dict(
        MIXTRAL, **theta(5e5), hidden_size=72, intermediate_size=9, num_attention_heads=8,
        num_key_value_heads=1, head_dim=10, num_local_experts=9, num_experts_per_tok=3,
        tie_word_embeddings=True, rms_norm_eps=1e-6), dict(whole=(40, 40)), {}),
    ("mixtral-gqa4-window", 4, "float16", dict(
        MIXTRAL, **theta(1e4), hidden_size=40, intermediate_size=33, num_attention_heads=8,
        num_key_value_heads=2, head_dim=6, num_local_experts=6, sliding_window=9),
     dict(whole=(40, 40)), {}),
    ("mixtral-long", 4, "bfloat16", dict(
        MIXTRAL, **theta(1e6), hidden_size=32, intermediate_size=24, num_attention_heads=4,
        num_key_value_heads=1, head_dim=16, num_local_experts=4, max_position_embeddings=512,
        vocab_size=40), dict(whole=(300, 300)), dict(logits=24)),
    ("mixtral-v5-sharded", 5, "bfloat16", dict(
        MIXTRAL, **theta(2e4), hidden_size=48, intermediate_size=24, num_attention_heads=4,
        num_key_value_heads=2, num_local_experts=6), dict(whole=(32, 32)), dict(layout="shards")),
    ("mixtral-v5-fused", 5, "float32", dict(
        MIXTRAL, **theta(1e4), hidden_size=36, intermediate_size=19, num_attention_heads=3,
        num_key_value_heads=1, num_local_experts=5), dict(whole=(32, 32)), dict(layout="fused")),
    ("qwen3-renormalised", 4, "float32", dict(
        MIXTRAL, **theta(1e6), hidden_size=40, intermediate_size=50, moe_intermediate_size=17,
        num_attention_heads=4, num_key_value_heads=2, head_dim=12, num_experts=10,
        num_experts_per_tok=3, norm_topk_prob=True, rms_norm_eps=1e-6, sliding_window=None),
     dict(whole=(40, 40)), {}),
    ("qwen3-bias-tied", 4, "bfloat16", dict(
        MIXTRAL, **theta(1e4), hidden_size=36, intermediate_size=50, moe_intermediate_size=21,
        num_attention_heads=6, num_key_value_heads=1, num_experts=5, attention_bias=True,
        tie_word_embeddings=True), dict(whole=(40, 40)), dict(layout="shards")),
    ("qwen3-v5-fused", 5, "bfloat16", dict(
        MIXTRAL, **theta(2e4), hidden_size=32, intermediate_size=50, moe_intermediate_size=19,
        num_attention_heads=4, num_key_value_heads=2, head_dim=14, num_experts=6,
        num_experts_per_tok=4), dict(whole=(32, 32)), dict(layout="fused")),
    ("olmoe-mha", 4, "float16", dict(
        MIXTRAL, **theta(1e4), hidden_size=48, intermediate_size=15, num_attention_heads=4,
        num_experts=7, num_experts_per_tok=3), dict(whole=(40, 40)), {}),
    ("olmoe-v5-gqa", 5, "float32", dict(
        MIXTRAL, **theta(1e4), hidden_size=40, intermediate_size=18, num_attention_heads=4,
        num_key_value_heads=2, num_experts=6, norm_topk_prob=True, attention_bias=True),
     dict(whole=(32, 32)), {}),
    ("phimoe-plain", 4, "float32", dict(
        PHIMOE, rope_theta=1e4, hidden_size=40, intermediate_size=21, num_attention_heads=4,
        num_key_value_heads=2, num_local_experts=3, router_jitter_noise=0.2,
        attention_bias=False, lm_head_bias=False), dict(whole=(40, 40)), {}),
    ("phimoe-longrope", 4, "float32", dict(
        PHIMOE, rope_theta=1e4, rope_scaling=longrope(8, 24, 1.1, 1.25), hidden_size=32,
        intermediate_size=15, num_attention_heads=4, num_key_value_heads=1, num_local_experts=6,
        router_jitter_noise=0.12), dict(below=(24, 24), past=(40, 40), cross=(34, 18)), {}),
    ("phimoe-window", 4, "bfloat16", dict(
        PHIMOE, rope_theta=1e4, rope_scaling=longrope(14, 16, 1.0, 1.19), hidden_size=56,
        intermediate_size=14, num_attention_heads=4, num_key_value_heads=4, num_local_experts=6,
        sliding_window=7, router_jitter_noise=0.15), dict(past=(36, 36), cross=(24, 12)),
     dict(layout="shards")),
    ("phimoe-v5-heads", 5, "bfloat16", dict(
        PHIMOE, **theta(1e4), hidden_size=40, intermediate_size=18, num_attention_heads=4,
        num_key_value_heads=2, head_dim=14, num_local_experts=5, sliding_window=9,
        router_jitter_noise=0.12), dict(whole=(24, 24)), dict(logits=16)),
    ("phimoe-slim", "slim", "bfloat16", dict(
        PHIMOE, rope_theta=1e4, hidden_size=40, intermediate_size=18, num_attention_heads=4,
        num_key_value_heads=2, head_dim=14, num_local_experts=5, sliding_window=9,
        router_jitter_noise=0.12, input_jitter_noise=0.01, use_cache=False),
     dict(whole=(24, 24)), dict(logits=16)),
]

# A gap below this between what is chosen and what is not (relative to the largest score) could be
# decided by rounding: such random models are thrown away.
MARGIN = 3e-4


def randomise(model, generator, dtype):
    """Every tensor random, large enough that a fault in any of them moves the logits, and rounded
    to dtype. (model.to(dtype) would round the frequencies of RoPE as well, which are no weights.)
    """
    for name, p in model.named_parameters():
        r = torch.randn(p.shape, generator=generator)
        if "norm" in name:
            r = 0.3 * r + (0.0 if name.endswith("bias") else 1.0)
        elif name.endswith("bias"):
            r = 0.4 * r
        elif "embed" not in name:
            gain = 2.0 if "q_proj" in name or "k_proj" in name else 1.2
            r = gain * r / p.shape[-1] ** 0.5
        p.data.copy_(r.to(dtype))


def gates(model, logits):
    """Experts and weights of router logits [T, E], and the smallest margin of the decisions."""
    if model.config.model_type == "phimoe":
        sparsemixer = sys.modules[type(model).__module__].sparsemixer
        eps = model.config.router_jitter_noise
        weight, expert = sparsemixer(logits, top_k=2, jitter_eps=eps, training=False)
        scale = logits.abs().amax(dim=-1)
        margin = (logits.topk(3).values.diff(dim=-1).abs().amin(dim=-1) / scale).min().item()
        for drop in (False, True): # the mask of the first and of the second expert
            rest = logits.scatter(-1, expert[:, :1], -torch.inf) if drop else logits
            top = rest.amax(dim=-1, keepdim=True)
            ratio = (top - rest) / logits.abs().clamp(min=top)
            margin = min(margin, (ratio - 2 * eps).abs().min().item())
        return expert, weight, margin
    k = model.config.num_experts_per_tok
    weight, expert = logits.softmax(dim=-1).topk(k, dim=-1)
    gap = logits.topk(k + 1).values.diff(dim=-1).abs().amin(dim=-1)
    margin = (gap / logits.abs().amax(dim=-1)).min().item()
    if getattr(model.config, "norm_topk_prob", True): # Mixtral has no such key
        weight = weight / weight.sum(dim=-1, keepdim=True)
    return expert, weight, margin


class RouterWatch:
    """Router logits of every forward pass, by hooks on the routers."""

    def __init__(self, model):
        self.passes = []
        self.hooks = []
        for layer in model.model.layers:
            moe = layer.block_sparse_moe if hasattr(layer, "block_sparse_moe") else layer.mlp
            gate = moe.gate if hasattr(moe, "gate") else moe.router
            self.hooks.append(gate.register_forward_hook(self.see))
        self.n_layers = len(model.model.layers)

    def see(self, module, inputs, output):
        self.passes.append((output[0] if isinstance(output, tuple) else output).detach().float())

    def close(self):
        """Router logits [T, L, E]: of every pass, the tokens that it was the first to see."""
        for hook in self.hooks:
            hook.remove()
        parts = []
        for i in range(0, len(self.passes), self.n_layers):
            scores = torch.stack(self.passes[i:i + self.n_layers], dim=1)
            # Passes after the first repeat all tokens but the last.
            parts.append(scores if i == 0 else scores[-1:])
        return torch.cat(parts)


@torch.no_grad()
def compute(model, ids, prompt, n_logits):
    """logits [N, V], router logits [T, L, E]. Greedy generation fills ids from `prompt` on, without
    a cache, so that every step is computed as a sequence of its length is."""
    watch = RouterWatch(model)
    logits = model(torch.tensor([ids[:prompt]])).logits[0]
    for n in range(prompt, len(ids)):
        ids[n] = int(logits[-1].argmax())
        step = model(torch.tensor([ids[:n + 1]])).logits[0]
        logits = torch.cat([logits, step[-1:]])
    return logits[-n_logits:].float(), watch.close()


@torch.no_grad()
def long_factors_are_used(model, ids, prompt, logits):
    """Past the switch the logits must change when the long factors do, and not with the short."""
    scaling = model.config.rope_scaling
    for key, moves in (("long_factor", True), ("short_factor", False)):
        old = scaling[key]
        scaling[key] = [2.0 * f for f in old]
        other = model(torch.tensor([ids])).logits[0][-1]
        scaling[key] = old
        assert (not torch.equal(other, logits[-1])) == moves, key
    # generate() makes its cache again when it crosses the switch, and ends where a sequence of this
    # length ends. (With a sliding window or eager attention, 4.57.6 makes the mask of that pass
    # from a stale cache_position and lets tokens see later ones: not followed.)
    if prompt < len(ids) and model.config.sliding_window is None:
        out = model.generate(
            torch.tensor([ids[:prompt]]), max_new_tokens=len(ids) - prompt + 1, do_sample=False,
            eos_token_id=None, pad_token_id=0, return_dict_in_generate=True, output_logits=True)
        assert out.sequences[0, :len(ids)].tolist() == ids
        error = (torch.cat(out.logits) - logits).abs().max() / logits.abs().max()
        assert error < 1e-5, error


def write_run(model, folder, ids, prompt, n_logits):
    """False: a decision too close to call, and nothing is written."""
    logits, router = compute(model, ids, prompt, n_logits)
    tokens, layers, experts = router.shape
    expert, weight, margin = gates(model, router.reshape(-1, experts))
    if margin < MARGIN:
        return False
    scaling = getattr(model.config, "rope_scaling", None) or {}
    if len(ids) > scaling.get("original_max_position_embeddings", len(ids)):
        long_factors_are_used(model, ids, prompt, logits)
    os.makedirs(folder)
    save = lambda name, array, kind: np.save(f"{folder}/{name}.npy", np.asarray(array, dtype=kind))
    save("ids", ids, "<i4")
    save("prompt", [prompt], "<i4")
    save("logits", logits, "<f4")
    save("router", router, "<f4")
    save("expert", expert.reshape(tokens, layers, -1), "<i4")
    save("weight", weight.reshape(tokens, layers, -1), "<f4")
    alone = (weight == 1.0).float().mean().item()
    print(f"  {os.path.basename(folder)}: margin {margin:.1e}, weights of exactly 1: {alone:.0%}, "
          f"tokens with no positive router logit: {(router.amax(-1) < 0).float().mean():.0%}")
    return True


def save_model(model, folder, dtype, layout):
    model = model.to(dtype)
    model.config.dtype = dtype
    model.save_pretrained(folder, **(dict(max_shard_size="60KB") if layout == "shards" else {}))
    if layout == "fused": # as the modules of version 5 name and shape them
        save_file(model.state_dict(), f"{folder}/model.safetensors", metadata=dict(format="pt"))


def slim_classes(folder):
    """The published classes; their files import each other as parts of one package."""
    package = sys.modules["slim"] = types.ModuleType("slim")
    package.__path__ = [folder]
    return (importlib.import_module("slim.configuration_slimmoe").PhiMoEConfig,
            importlib.import_module("slim.modeling_slimmoe").PhiMoEForCausalLM)


def new_model(model_class, config):
    model = model_class(config).eval()
    if model_class.__name__ == "PhiMoEForCausalLM":
        # Their eager attention joins its heads to rows of hidden_size, which fails on their own
        # models, where that is not heads * head_dim; it uses hidden_size for nothing else.
        for layer in model.model.layers:
            layer.self_attn.hidden_size = layer.self_attn.num_heads * layer.self_attn.head_dim
    return model


def make_case(name, dtype, config, runs, extra, classes=None):
    phimoe = name.startswith("phimoe") and not classes
    config_class, model_class = classes or CLASSES[name.split("-")[0]]
    config = config_class(**config)
    config._attn_implementation = "sdpa" if phimoe else "eager"
    if VERSION > 4:
        config._experts_implementation = "eager" # grouped_mm refuses odd sizes
    folder = f"{HERE}/{name}"
    for seed in range(1000):
        generator = torch.Generator().manual_seed(seed)
        model = new_model(model_class, config)
        dtype_t = getattr(torch, dtype)
        randomise(model, generator, dtype_t)
        shutil.rmtree(folder, ignore_errors=True)
        done = all(
            write_run(model, f"{folder}/{run}",
                      torch.randint(3, config.vocab_size, (t,), generator=generator).tolist(),
                      prompt, extra.get("logits", t) if prompt == t else t - prompt + 1)
            for run, (t, prompt) in runs.items())
        if done:
            save_model(model, folder, dtype_t, extra.get("layout"))
            size = sum(os.path.getsize(f"{folder}/{f}") for f in os.listdir(folder))
            print(f"{name}: seed {seed}, model {size} bytes")
            return
    raise SystemExit(f"{name}: no seed gives clear decisions")


# The first three whose routing leaves no doubt are taken.
PROMPTS = [
    "It was a dark and stormy night, and the two sisters sat by the fire.",
    "Mr. Bennet, said his wife, how can you be so tiresome?",
    "The ship turned slowly into the wind; 3 men were on deck.",
    "She had never been so happy in all her life.",
    "You must know, sir, that I am not to be trifled with.",
    "In the morning they walked to the village.",
    "What do you mean? cried Emma.",
    "He bowed, and left the room.",
]


def dequantized(rows, kind):
    """uint8 [..., bytes of a row] as float32 [..., weights of a row]."""
    blocks = rows.shape[-1] // dict(Q8=34, Q4=18)[kind]
    numbers, scales = rows[..., :-2 * blocks], rows[..., -2 * blocks:]
    scales = np.ascontiguousarray(scales).view("<f2").astype(np.float32)
    numbers = np.ascontiguousarray(numbers).reshape(*rows.shape[:-1], blocks, -1)
    if kind == "Q4": # the low halves are the first 16 weights of a block
        numbers = np.concatenate([numbers & 15, numbers >> 4], axis=-1) - np.float32(8)
    else:
        numbers = numbers.view(np.int8)
    weights = numbers.astype(np.float32) * scales[..., None]
    return weights.reshape(*rows.shape[:-1], blocks * 32)


def dequantized_model(model_dir, folder):
    """What moelab quantize wrote, as a model of float32 that transformers loads."""
    with open(f"{model_dir}/config.json") as f:
        config = json.load(f)
    kind = config.pop("quantization_config")
    assert kind.pop("quant_method") == "moelab" and set(kind) <= {"experts", "dense"}
    with open(f"{folder}/config.json", "w") as f:
        json.dump(config, f)
    tensors = {}
    for file in sorted(glob.glob(f"{model_dir}/*.safetensors")):
        tensors.update(load_file(file))
    for name, t in tensors.items():
        dense = name == "lm_head.weight" or ("_proj." in name and name.endswith("weight"))
        of = kind.get("experts" if ".experts." in name else "dense" if dense else "other")
        assert (t.dtype == torch.uint8) == (of is not None), name
        tensors[name] = torch.from_numpy(dequantized(t.numpy(), of)) if of else t.float()
    save_file(tensors, f"{folder}/model.safetensors", metadata=dict(format="pt"))


def load_model(model_dir):
    """In float32, whatever it is stored as."""
    with open(f"{model_dir}/config.json") as f:
        config = json.load(f)
    phimoe = "phi" in config["architectures"][0].lower()
    assert not phimoe or VERSION == 4
    load = (PhimoeForCausalLM if phimoe else MixtralForCausalLM).from_pretrained
    if "quantization_config" not in config:
        return load(model_dir, torch_dtype=torch.float32).eval()
    with tempfile.TemporaryDirectory() as folder:
        dequantized_model(model_dir, folder)
        return load(folder, torch_dtype=torch.float32).eval()


def make_model(model_dir, name):
    """Goldens of three prompts for a real model, with the logits of their last 4 positions; or of
    one prompt and a text of 8 tokens after another, where its experts are quantized."""
    import sentencepiece
    with open(f"{model_dir}/config.json") as f:
        quantized = "quantization_config" in json.load(f)
    sp = sentencepiece.SentencePieceProcessor(model_file=f"{model_dir}/tokenizer.model")
    model = load_model(model_dir)
    folder = f"{HERE}/{name}"
    shutil.rmtree(folder, ignore_errors=True)
    runs = [("prompt0", 0), ("text", 8)] if quantized else [(f"prompt{i}", 0) for i in range(3)]
    for prompt in PROMPTS:
        ids = [sp.bos_id()] + sp.encode(prompt)
        if runs and write_run(model, f"{folder}/{runs[0][0]}", ids + runs[0][1] * [0], len(ids),
                              runs[0][1] + 1 if runs[0][1] else 4):
            runs.pop(0)
    assert not runs


if __name__ == "__main__":
    if sys.argv[1:2] == ["--model"]:
        make_model(sys.argv[2], sys.argv[3])
    else:
        slim = slim_classes(sys.argv[2]) if sys.argv[1:2] == ["--slim"] else None
        wanted = [] if slim else sys.argv[1:]
        for case, version, *rest in CASES:
            if version == ("slim" if slim else VERSION) and (not wanted or case in wanted):
                make_case(case, *rest, classes=slim)
