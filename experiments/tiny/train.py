#!/usr/bin/env python3
"""Trains the embedded models, whose routing is learned, not drawn, in 8 MB. Run by hand only.

    python3 -m venv /tmp/venv && /tmp/venv/bin/pip install torch transformers sentencepiece
    /tmp/venv/bin/python experiments/tiny/train.py mixtral --out experiments/models/tiny-mixtral \
        --text shakespeare.txt novels/*.txt gsm8k.jsonl humaneval.jsonl mmlu/*.csv

Text: *.txt as it is, *.jsonl with question and answer or with prompt, *.csv of MMLU (question, four
choices, index). Give only text that may be redistributed. The last 5 % of every file are held out.
Writes a Hugging Face model directory (BF16 safetensors, tokenizer.model, config) and the numbers of
its model card, card.json. Same seed and thread count, same model.

The embedded models were made in two runs: 3500 steps at rate 2.5e-3 with transformers' own load-
balancing loss (this script then had no other), and 2500 more with `--start-from FIRST --steps 2500
--rate 1e-3 --seed 2` as it is now. Text: Shakespeare (tinyshakespeare), Austen's novels (as packaged
in Debian's r-cran-janeaustenr), GSM8K, HumanEval, MMLU.
"""
import argparse, csv, json, math, os, random, re, shutil, time

import sentencepiece
import torch
import transformers
from safetensors.torch import save_file

N_LAYERS, D_MODEL, CONTEXT, BATCH, VOCAB = 8, 128, 512, 4, 1536
PHI_ADDED = ["<|endoftext|>", "<|assistant|>", "<|system|>", "<|end|>", "<|user|>"]
LONG_FACTOR = [1.0 + 3.0 * (i / 15) ** 2 for i in range(16)]


def documents(path):
    """Yields (question or None, text)."""
    if path.endswith(".csv"):
        for row in list(csv.reader(open(path, encoding="utf-8")))[1:]:
            if len(row) == 6:
                options = "\n".join(f"{'ABCD'[i]}. {row[1 + i]}" for i in range(4))
                right = int(row[5])
                yield f"{row[0]}\n{options}", f"{'ABCD'[right]}. {row[1 + right]}"
    elif path.endswith(".jsonl"):
        for line in open(path, encoding="utf-8"):
            record = json.loads(line)
            if "question" in record:
                yield record["question"], re.sub(r"<<.*?>>", "", record["answer"])
            else:
                yield None, record["prompt"] + record.get("canonical_solution", "")
    else:
        text = open(path, encoding="utf-8").read()
        # prose wraps at about 70 columns: join the lines of a paragraph; verse and plays stay
        lines = text.split("\n")
        if sum(len(x) > 60 for x in lines) > len(lines) / 3:
            text = re.sub(r"(?<=\S)\n(?=\S)", " ", text)
        text = re.sub(r"\n{3,}", "\n\n", text)
        size = 20000
        for at in range(0, len(text), size):
            yield None, text[at : at + size]


def train_tokenizer(out, docs):
    lines = [line for question, text in docs for line in ((question or "") + "\n" + text).split("\n")]
    lines = [line for line in lines if line.strip()]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_prefix=out + "/tokenizer", vocab_size=VOCAB,
        model_type="bpe", byte_fallback=True, split_digits=True, character_coverage=0.9995,
        normalization_rule_name="identity", remove_extra_whitespaces=False,
        allow_whitespace_only_pieces=True, max_sentence_length=100000, num_threads=1,
        minloglevel=2)
    os.remove(out + "/tokenizer.vocab")
    return sentencepiece.SentencePieceProcessor(model_file=out + "/tokenizer.model")


def encode(kind, sp, question, text):
    if question is None:
        return [1] + sp.encode(text) + [2]
    if kind == "mixtral":
        return [1] + sp.encode(f"[INST] {question} [/INST]") + sp.encode(text) + [2]
    added = {name: VOCAB + i for i, name in enumerate(PHI_ADDED)}
    return ([added["<|user|>"]] + sp.encode(question) + [added["<|end|>"], added["<|assistant|>"]]
            + sp.encode(text) + [added["<|end|>"], added["<|endoftext|>"]])


def make_config(kind):
    shape = dict(
        hidden_size=D_MODEL, num_hidden_layers=N_LAYERS, num_attention_heads=4,
        num_key_value_heads=2, hidden_act="silu", rms_norm_eps=1e-5, rope_theta=10000.0,
        tie_word_embeddings=False, num_experts_per_tok=2, sliding_window=None,
        attention_dropout=0.0, initializer_range=0.02, bos_token_id=1, use_cache=True)
    if kind == "mixtral":
        return shape | dict(
            architectures=["MixtralForCausalLM"], model_type="mixtral", vocab_size=VOCAB,
            intermediate_size=128, num_local_experts=8, max_position_embeddings=2048,
            eos_token_id=2, router_aux_loss_coef=0.01, router_jitter_noise=0.0)
    scale = math.sqrt(1 + math.log(4) / math.log(CONTEXT))
    return shape | dict(
        architectures=["PhiMoEForCausalLM"], model_type="phimoe",
        vocab_size=VOCAB + len(PHI_ADDED) + 3, intermediate_size=64, num_local_experts=16,
        max_position_embeddings=4 * CONTEXT, original_max_position_embeddings=CONTEXT,
        rope_scaling=dict(type="longrope", short_factor=[1.0] * 16, long_factor=LONG_FACTOR,
                          short_mscale=scale, long_mscale=scale,
                          original_max_position_embeddings=CONTEXT),
        eos_token_id=VOCAB, attention_bias=True, lm_head_bias=True, router_aux_loss_coef=0.01,
        router_jitter_noise=0.01, input_jitter_noise=0.0)


def make_model(kind, config):
    fields = {k: v for k, v in config.items() if k not in ("architectures", "model_type")}
    if kind == "mixtral":
        return transformers.MixtralForCausalLM(transformers.MixtralConfig(**fields))
    return transformers.PhimoeForCausalLM(transformers.PhimoeConfig(**fields))


def published_names(state):
    """Names and shapes as in published checkpoints: one matrix for each expert."""
    out = {}
    for name, tensor in state.items():
        tensor = tensor.to(torch.bfloat16)
        base = re.sub(r"\.mlp\.(experts|gate|router)\b.*", ".block_sparse_moe.", name)
        if name.endswith("experts.gate_up_proj"):
            for e in range(tensor.shape[0]):
                w1, w3 = tensor[e].chunk(2, dim=0)
                out[f"{base}experts.{e}.w1.weight"] = w1.contiguous()
                out[f"{base}experts.{e}.w3.weight"] = w3.contiguous()
        elif name.endswith("experts.down_proj"):
            for e in range(tensor.shape[0]):
                out[f"{base}experts.{e}.w2.weight"] = tensor[e].contiguous()
        elif re.search(r"mlp\.(gate|router)\.weight$", name):
            out[base + "gate.weight"] = tensor.contiguous()
        else:
            out[name] = tensor.contiguous()
    return out


def save(kind, model, config, out):
    state = published_names(model.state_dict())
    if kind == "mixtral":
        save_file(state, out + "/model.safetensors", metadata={"format": "pt"})
    else:  # two shards with an index, as large models have
        names = sorted(state)
        shards, where = (names[: len(names) // 2], names[len(names) // 2 :]), {}
        for i, part in enumerate(shards):
            file = f"model-{i + 1:05d}-of-00002.safetensors"
            save_file({n: state[n] for n in part}, f"{out}/{file}", metadata={"format": "pt"})
            where |= {n: file for n in part}
        size = sum(t.numel() * 2 for t in state.values())
        write_json(out + "/model.safetensors.index.json",
                   dict(metadata=dict(total_size=size), weight_map=where))
    write_json(out + "/config.json", config | dict(torch_dtype="bfloat16"))


def write_json(path, value):
    with open(path, "w", encoding="utf-8") as f:
        f.write(json.dumps(value, indent=2) + "\n")


def save_tokenizer(kind, out):
    specials = ["<unk>", "<s>", "</s>"]
    if kind == "mixtral":
        template = ("{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}"
                    "{{ '[INST] ' + message['content'] + ' [/INST]' }}{% else %}"
                    "{{ message['content'] + eos_token }}{% endif %}{% endfor %}")
        added, eos = specials, "</s>"
        generation = dict(bos_token_id=1, eos_token_id=2)
    else:
        template = ("{% for message in messages %}{{ '<|' + message['role'] + '|>\\n' + "
                    "message['content'] + '<|end|>\\n' }}{% endfor %}"
                    "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}")
        added, eos = specials + PHI_ADDED, "<|endoftext|>"
        generation = dict(bos_token_id=1, eos_token_id=[VOCAB, VOCAB + 1, VOCAB + 3])
        write_json(out + "/added_tokens.json", {n: VOCAB + i for i, n in enumerate(PHI_ADDED)})
    ids = {name: i if i < 3 else VOCAB + i - 3 for i, name in enumerate(added)}
    decoder = {str(i): dict(content=name, lstrip=False, normalized=False,
                            rstrip=name in PHI_ADDED[1:], single_word=False, special=True)
               for name, i in ids.items()}
    write_json(out + "/tokenizer_config.json", dict(
        add_bos_token=kind == "mixtral", add_eos_token=False, added_tokens_decoder=decoder,
        bos_token="<s>", eos_token=eos, unk_token="<unk>", chat_template=template, legacy=True,
        model_max_length=2048, tokenizer_class="LlamaTokenizer"))
    write_json(out + "/generation_config.json", generation)


def batch_of(stream, rng):
    starts = [rng.randrange(0, len(stream) - CONTEXT - 1) for _ in range(BATCH)]
    return torch.stack([stream[s : s + CONTEXT] for s in starts])


def imbalance(router_logits, top_k=2):
    """Mean over layers of E sum_e f_e p_e, 1 where every expert gets the same (Switch Transformer,
    arXiv 2101.03961, eq. 4-6). transformers' own loss adds the layers up before it multiplies, and
    so lets each layer have its favourite."""
    total = 0.0
    for logits in router_logits:
        n_experts = logits.shape[-1]
        used = torch.nn.functional.one_hot(logits.topk(top_k, -1).indices, n_experts)
        f = used.sum(1).float().mean(0) / top_k
        total = total + n_experts * (f * logits.float().softmax(-1).mean(0)).sum()
    return total / len(router_logits)


@torch.no_grad()
def held_out_loss(model, stream):
    model.eval()
    n = min(24, (len(stream) - 1) // CONTEXT)
    stride = (len(stream) - CONTEXT) // max(1, n - 1) if n > 1 else 1
    losses = []
    for i in range(n):
        x = stream[i * stride : i * stride + CONTEXT].unsqueeze(0)
        logits = model(input_ids=x).logits
        losses.append(torch.nn.functional.cross_entropy(logits[0, :-1], x[0, 1:]).item())
    model.train()
    return sum(losses) / len(losses)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("kind", choices=["mixtral", "phimoe"])
    parser.add_argument("--out", required=True)
    parser.add_argument("--start-from", help="folder of an earlier run to train further")
    parser.add_argument("--text", nargs="+", required=True)
    parser.add_argument("--steps", type=int, default=3500, help="2048 tokens each (default 3500)")
    parser.add_argument("--rate", type=float, default=3e-3, help="peak learning rate")
    parser.add_argument("--balance", type=float, default=0.05, help="weight of the load-balancing loss")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    rng = random.Random(args.seed)
    os.makedirs(args.out, exist_ok=True)

    train, held, sources = [], [], {}
    for path in sorted(args.text):
        docs = list(documents(path))
        cut = max(1, len(docs) * 95 // 100) if len(docs) > 1 else 1
        train += docs[:cut]
        held += docs[cut:]
        sources[os.path.basename(path)] = sum(len(t) + len(q or "") for q, t in docs)
    if args.start_from:
        shutil.copy(args.start_from + "/tokenizer.model", args.out)
        sp = sentencepiece.SentencePieceProcessor(model_file=args.out + "/tokenizer.model")
    else:
        sp = train_tokenizer(args.out, train)
    rng.shuffle(train)
    train_ids = torch.tensor([i for d in train for i in encode(args.kind, sp, *d)])
    held_ids = torch.tensor([i for d in held for i in encode(args.kind, sp, *d)])
    print(f"{len(train_ids)} tokens, {len(held_ids)} held out", flush=True)

    config = make_config(args.kind)
    model = make_model(args.kind, config)
    history = []
    if args.start_from:
        model = type(model).from_pretrained(args.start_from, dtype=torch.float32)
        history = json.load(open(args.start_from + "/card.json"))["held_out"]
    done = history[-1]["step"] if history else 0
    model.train()
    decay = [p for p in model.parameters() if p.dim() > 1]
    rest = [p for p in model.parameters() if p.dim() <= 1]
    opt = torch.optim.AdamW([dict(params=decay, weight_decay=0.1), dict(params=rest, weight_decay=0)],
                            lr=args.rate, betas=(0.9, 0.98))
    n_params = sum(p.numel() for p in model.parameters())
    print(f"{n_params} parameters", flush=True)
    began, best = time.time(), math.inf
    for step in range(args.steps):
        warm = min(1.0, (step + 1) / 200)
        rate = args.rate * warm * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * step / args.steps)))
        for group in opt.param_groups:
            group["lr"] = rate
        x = batch_of(train_ids, rng)
        out = model(input_ids=x, output_router_logits=True)
        loss = torch.nn.functional.cross_entropy(out.logits[:, :-1].flatten(0, 1), x[:, 1:].flatten())
        balance = imbalance(out.router_logits)
        opt.zero_grad()
        (loss + args.balance * balance).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        opt.step()
        if (step + 1) % 250 == 0 or step + 1 == args.steps or step == 4:
            held_loss = held_out_loss(model, held_ids)
            history.append(dict(step=done + step + 1, held_out_loss=round(held_loss, 4)))
            print(f"step {done + step + 1} loss {loss.item():.3f} imbalance {balance.item():.3f} held-out {held_loss:.4f} "
                  f"{(time.time() - began) / (step + 1):.2f} s/step", flush=True)
            if held_loss < best:  # keeps the model that is best on held-out text
                best = held_loss
                save(args.kind, model, config, args.out)
                write_json(args.out + "/card.json", dict(
                    parameters=n_params, held_out_loss=round(best, 4), step=done + step + 1,
                    tokens_trained=(done + step + 1) * CONTEXT * BATCH,
                    train_tokens=len(train_ids), held_out_tokens=len(held_ids),
                    characters=sources, seed=args.seed, torch=torch.__version__,
                    transformers=transformers.__version__, held_out=history))
    save_tokenizer(args.kind, args.out)


if __name__ == "__main__":
    main()
