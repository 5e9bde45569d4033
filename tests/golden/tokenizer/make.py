#!/usr/bin/env python3
"""Makes the files beside this one; by hand, in an environment of its own:

    pip install 'transformers==4.57.6' 'tokenizers==0.22.2' sentencepiece protobuf jinja2
    python make.py SHAKESPEARE.txt

tokenizer.model    SentencePiece, BPE of 500 pieces with byte fallback, trained on the first 200,000
                   characters of a text (public domain: Shakespeare)
plain.json         texts, their ids and what the ids decode to, by the sentencepiece package
transformers.json  for several sets of files beside the model: texts and their ids by transformers'
                   LlamaTokenizer (the slow one, except where the set says "fast")
fast.json          the tokenizer.json that transformers makes of the model, for Phi's files
bytes-KIND.json    the tokenizer.json of a small byte-level BPE tokenizer with the normalizer and
                   pre-tokenizer of KIND (qwen, olmoe, llama), trained on the texts written here
bytes.json         for each: settings beside it, texts, their ids by transformers' fast tokenizer,
                   and what ids decode to
chat.json          chat templates, messages, and the text that jinja2 makes of them; null where the
                   template refuses
"""

import json
import os
import random
import shutil
import sys
import tempfile

import jinja2
import sentencepiece
from tokenizers import (AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers,
                        processors, trainers)
from transformers import AutoTokenizer, LlamaTokenizer, LlamaTokenizerFast

HERE = os.path.dirname(os.path.abspath(__file__))
MODEL = HERE + "/tokenizer.model"
VOCAB = 500

ODD = ["", " ", "  ", "a", " a", "a ", "\t", "\n", "\n\n", "a\nb", "\r\n", "a\tb\t\tc", " " * 40,
       "x" + " " * 17 + "y", "the the the", "Hello, world!", "don't", "1234567890", "3.14159",
       "\u00e9t\u00e9 na\u00efve \u00fcber", "e\u0301", "\u4f60\u597d\uff0c\u4e16\u754c",
       "\u65e5\u672c\u8a9e\u306e\u6587", "\ud55c\uad6d\uc5b4", "\u0410\u0411\u0412",
       "\U0001f600", "\U0001f468\u200d\U0001f469\u200d\U0001f467", "\U0001f1e9\U0001f1ea ok",
       "\x00", "a\x00b", "\x01\x02\x1f\x7f", "\u200b", "\ufeff", "\ufffd", "\ufffe",
       "\U0010ffff", "\u00a0", "\u3000x", "\u2028", "<0x41>", "<unk>", "<s>", "</s>", "a<s>b",
       "<s> [INST] hi [/INST]", "\u2581", "\u2581a", "a\u2581b", "\\n", "{\"k\": [1, 2]}",
       "def f(x):\n    return x\n", "ALL CAPS", "thee thou thy", "\u0e2a\u0e27\u0e31\u0e2a",
       "\u05e9\u05dc\u05d5\u05dd", "\u0645\u0631\u062d\u0628\u0627", "\ud7ff\ue000"]
ALPHABET = [" ", " ", " ", "e", "t", "th", "the ", "\n", "\t", "A", "7", "\u00e9", "\u4e16",
            "\U0001f680", "\x00", "\x7f", "\u200d", "'", ",", ".", "ing", "  ", "\u0301"]
TAGS = ["<|user|>", "<|end|>", "<|assistant|>", "<|system|>", "<|endoftext|>", "<s>", "</s>",
        "<unk>", "<x", "<x>", "<x>>", "[[", "b[[", "\n", " ", "  ", "\u3000", "hi", "the end", "."]


def texts_of(rng, text, n_lines, n_random):
    lines = [line for line in text.split("\n") if line]
    picked = [rng.choice(lines) for _ in range(n_lines)]
    return ODD + picked + ["".join(rng.choice(ALPHABET) for _ in range(rng.randrange(1, 30)))
                           for _ in range(n_random)]


def tagged(rng, n):
    """Texts full of added tokens."""
    fixed = ["<|user|>\nHi there<|end|>\n<|assistant|>\n", "<|system|>\nBe.<|end|>\n<|user|>\n a",
             "<s> [INST] the [/INST] of</s> [INST] b [/INST]", "a <x> b", " <x>", "<x>", "<x>>",
             "<x>>>", "b[[", "ab[[ c", "  <|end|>  ", "<|end|><|end|>", "\u2581<s>", "\u2581<x>"]
    return fixed + ["".join(rng.choice(TAGS) for _ in range(rng.randrange(1, 9)))
                    for _ in range(n)]


def token(content, lstrip=False, rstrip=False, special=True):
    return dict(content=content, lstrip=lstrip, rstrip=rstrip, single_word=False, normalized=False,
                special=special)


BASIC = {"0": token("<unk>"), "1": token("<s>"), "2": token("</s>")}
# The ids have no holes: the fast tokenizer would close them.
PHI_ADDED = ["<|endoftext|>", "<|assistant|>", "<|placeholder1|>", "<|system|>", "<|end|>",
             "<|user|>"]
PHI = BASIC | {"2": token("</s>", rstrip=True, special=False)} | {
    str(VOCAB + i): token(name, rstrip=i > 0) for i, name in enumerate(PHI_ADDED)}
OVERLAP = BASIC | {"500": token("<x", special=False), "501": token("<x>", lstrip=True),
                   "502": token("<x>>", lstrip=True, rstrip=True, special=False),
                   "503": token("[["), "504": token("b[[")}
NAMES = dict(bos_token="<s>", eos_token="</s>", unk_token="<unk>")
PHI_NAMES = NAMES | dict(eos_token="<|endoftext|>", pad_token="<|endoftext|>", add_bos_token=False)
ADDED = {"<|user|>": 500, "<|end|>": 501, "<|system|>": 503}

SETS = {
    "model only": {},
    "phi, legacy": {"tokenizer_config.json": PHI_NAMES | dict(added_tokens_decoder=PHI,
                                                              legacy=True)},
    "phi, not legacy": {"tokenizer_config.json": PHI_NAMES | dict(added_tokens_decoder=PHI,
                                                                  legacy=False)},
    "phi, with a map that does not count": {
        "tokenizer_config.json": PHI_NAMES | dict(added_tokens_decoder=PHI, legacy=False),
        "special_tokens_map.json": NAMES | dict(additional_special_tokens=["<|user|>"])},
    "phi as published, fast": {"tokenizer_config.json": PHI_NAMES | dict(
        added_tokens_decoder=PHI, legacy=False), "tokenizer.json": None},
    "mixtral, not legacy": {"tokenizer_config.json": NAMES | dict(added_tokens_decoder=BASIC,
                                                                  legacy=False)},
    "mixtral, not legacy, fast": {"tokenizer_config.json": NAMES | dict(
        added_tokens_decoder=BASIC, legacy=False), "tokenizer.json": None},
    "no prefix": {"tokenizer_config.json": NAMES | dict(
        added_tokens_decoder=PHI, legacy=False, add_prefix_space=False)},
    "overlapping": {"tokenizer_config.json": NAMES | dict(added_tokens_decoder=OVERLAP)},
    "overlapping, not legacy": {"tokenizer_config.json": NAMES | dict(
        added_tokens_decoder=OVERLAP, legacy=False,
        additional_special_tokens=["<x>", "<|none|>"][:1])},
    "older files": {"added_tokens.json": ADDED, "special_tokens_map.json": dict(
        bos_token=token("<s>", rstrip=True), eos_token="</s>", unk_token="<unk>",
        additional_special_tokens=["<|user|>"])},
    "older files with a configuration": {
        "tokenizer_config.json": NAMES | dict(legacy=False, model_max_length=int(1e30)),
        "added_tokens.json": ADDED},
}


def make_fast_file(folder, config):
    """tokenizer.json as published: with the prefix in front of every part for Phi, else as the
    conversion of this version makes it."""
    with open(folder + "/tokenizer_config.json", "w") as f:
        json.dump(config | dict(legacy=config["added_tokens_decoder"] is PHI), f)
    with tempfile.TemporaryDirectory() as out:
        LlamaTokenizerFast.from_pretrained(folder, from_slow=True).save_pretrained(out)
        shutil.copy(out + "/tokenizer.json", folder)
    with open(folder + "/tokenizer.json") as f:
        made = json.load(f)
    if config["added_tokens_decoder"] is PHI:
        write("fast.json", made)
    return {key: made[key] for key in ("added_tokens", "normalizer", "pre_tokenizer")}


def run_set(name, files, texts):
    files = dict(files)
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(MODEL, folder)
        if "tokenizer.json" in files:
            files["tokenizer.json"] = make_fast_file(folder, files["tokenizer_config.json"])
        for file, content in files.items():
            if file != "tokenizer.json":
                with open(folder + "/" + file, "w") as f:
                    json.dump(content, f)
        kind = LlamaTokenizerFast if name.endswith("fast") else LlamaTokenizer
        made = kind.from_pretrained(folder)
        cases = [[text, made(text, add_special_tokens=False).input_ids] for text in texts]
        return dict(name=name, files=files, bos=made.bos_token_id,
                    adds_bos=made("a").input_ids[0] == made.bos_token_id, cases=cases)


# ---- byte-level BPE ----

SPLIT = ("(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}%s| "
         "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+")
# Made up for this file, in several scripts.
SAMPLE = """The miller's daughter didn't say that they'd come; she said she'll think about it, and
that we're all welcome. I've seen 12 boats, 365 days, 2024 stars. It's what I'm told, isn't it?
THE MILLER'S DAUGHTER DIDN'T SAY. Caf\u00e9, na\u00efve, \u00fcber, \u00e9t\u00e9, \u1e69.
def add(left, right):
        return left + right  # the sum
\u4f60\u597d\uff0c\u4e16\u754c\u3002\u6211\u4eec\u5728\u4e00\u8d77\u3002
\u65e5\u672c\u8a9e\u306e\u6587\u7ae0\u3067\u3059\u3002 \u30ab\u30bf\u30ab\u30ca
\u0645\u0631\u062d\u0628\u0627 \u0628\u0627\u0644\u0639\u0627\u0644\u0645
\u041f\u0440\u0438\u0432\u0435\u0442, \u043c\u0438\u0440! \u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35
\ud55c\uad6d\uc5b4 \ubb38\uc7a5 \U0001f600 \U0001f468\u200d\U0001f469\u200d\U0001f467
"""
MARKS = ["e\u0301", "\u0301", "s\u0323\u0307", "\u1e69", "\u1100\u1161\u11a8", "\uac00\u11a8",
         "\u212b", "\u0928\u093c", "\uf900", "a\u0301\u07fd\u0323", "e\u08d3\u0301",
         "\U00011935\U00011930", "\u0344"]
PARTS = ["'s", "'S", "'\u017f", "'Ll", "'RE", "'t", "n't", " ", "  ", "     ", "\n", "\n\n",
         "\r\n", "\r", "\t", "\u00a0", "\u3000", "\u2028", "\u0085", "\u180e", "\u200b",
         "\ufeff", "\x00", "\x1c", "\x7f", "1", "12", "12345", "\u0661\u0662\u0663\u0664",
         "\u00bd", "\u2167", "\U0001d2c0", "the",
         " the", "The", "daughter", "\u4e16\u754c", "\u65e5\u672c", "\u0645\u0631", "\U0001f600",
         "\U0001f468\u200d\U0001f469", "\U0001f1e9\U0001f1ea", "\U00031350", "!", "!!\n", "--",
         "_", "<", "|", ">", "\u0120", "\u010a", "\u00e9", "\u2581"] + MARKS
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


def byte_kind(kind):
    """Pre-tokenizer, normalizer, post-processor, and the other settings of a published file."""
    level = dict(add_prefix_space=False, use_regex=False)
    if kind == "olmoe":
        return (pre_tokenizers.ByteLevel(add_prefix_space=False), normalizers.NFC(),
                processors.ByteLevel(trim_offsets=True))
    split = pre_tokenizers.Split(Regex(SPLIT % ("" if kind == "qwen" else "{1,3}")), "isolated")
    cutting = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(**level)])
    if kind == "qwen":
        return cutting, normalizers.NFC(), processors.ByteLevel(trim_offsets=False)
    return cutting, None, None


def train_bytes(kind):
    tokenizer = Tokenizer(models.BPE(ignore_merges=kind == "llama"))
    tokenizer.pre_tokenizer, normalizer, processor = byte_kind(kind)
    if normalizer:
        tokenizer.normalizer = normalizer
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator([SAMPLE] * 3, trainers.BpeTrainer(
        vocab_size=640, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    if kind == "llama": # a piece that no merges make
        made = json.loads(tokenizer.to_str())
        made["model"]["vocab"]["\u0120zq"] = len(made["model"]["vocab"])
        tokenizer = Tokenizer.from_str(json.dumps(made))
    tokenizer.add_tokens([AddedToken(text, special=True, normalized=False) for text in SPECIAL] + [
        AddedToken("<think>", normalized=False), AddedToken("<l>", lstrip=True, normalized=False),
        AddedToken("<r>", rstrip=True, special=True, normalized=False)])
    if kind == "olmoe":
        tokenizer.add_tokens([AddedToken(" " * n, normalized=True) for n in range(8, 1, -1)] + [
            AddedToken("|||E\u0301|||", normalized=True), AddedToken("\u00e9!", normalized=True)])
    if kind == "llama":
        bos = SPECIAL[0]
        processor = processors.Sequence([
            processors.ByteLevel(trim_offsets=True), processors.TemplateProcessing(
                single=bos + " $A", pair=bos + " $A " + bos + ":1 $B:1",
                special_tokens=[(bos, tokenizer.token_to_id(bos))])])
    tokenizer.post_processor = processor
    return json.loads(tokenizer.to_str())


def byte_file(kind):
    made = train_bytes(kind)
    if kind == "llama": # as older files write them
        made["model"]["merges"] = [" ".join(pair) for pair in made["model"]["merges"]]
    return made


def byte_texts(rng):
    tags = SPECIAL + ["<think>", "<l>", "<r>", " zq", "zq", "|||E\u0301|||", "|||\u00c9|||",
                      "e\u0301!", "\u00e9!"]
    fixed = ["<think> <l>", "x'DAUGHTER 'MILLER 'SAY 'THE 'daughter 'miller'\u017fay"] + [
        "'" + word for word in SAMPLE.split()[:60]] + ODD + MARKS + PARTS + tags + [
        *SAMPLE.split("\n"),
        "a <l> b <r> c", " <r> <l> ", "<r>\x1c\u00a0\n<l>", "<|im_start|>user\nHi<|im_end|>\n",
        "x" * 300, " " * 50, "\n" * 20, "a" + " " * 30 + "b", "zq zq  zq"]
    pool = PARTS * 3 + tags
    return fixed + ["".join(rng.choice(pool) for _ in range(rng.randrange(1, 25)))
                    for _ in range(90)]


def char(text, **flags):
    return token(text, **flags) | dict(normalized=False)


def byte_configs(kind, ids):
    """Settings to put beside tokenizer.json, as published or as they may be."""
    qwen = dict(tokenizer_class="Qwen2Tokenizer", bos_token=None, eos_token="<|im_end|>",
                pad_token="<|endoftext|>", unk_token=None, add_bos_token=False)
    decoder = {str(ids[text]): char(text) for text in SPECIAL} | {
        str(ids["<think>"]): char("<think>", special=False),
        str(ids["<l>"]): char("<l>", lstrip=True, special=False),
        str(ids["<r>"]): char("<r>", rstrip=True)}
    word = next(text for text in ("the", "th", "he") if text in ids)
    other = decoder | {str(ids["<think>"]): char("<think>"),
                       str(ids["<l>"]): char("<l>", rstrip=True, special=True),
                       str(ids[word]): char(word, special=False)}
    neox = dict(tokenizer_class="GPTNeoXTokenizer", bos_token="<|endoftext|>",
                eos_token="<|endoftext|>", pad_token="<think>")
    plain = dict(tokenizer_class="PreTrainedTokenizerFast")
    return {
        "qwen": [qwen, qwen | dict(added_tokens_decoder=decoder),
                 plain | dict(added_tokens_decoder=other, eos_token="<l>")],
        "olmoe": [neox, neox | dict(add_bos_token=True), neox | dict(add_prefix_space=True),
                  dict(tokenizer_class="GPTNeoXTokenizer", add_bos_token=True, bos_token="<r>")],
        "llama": [plain | dict(bos_token="<|endoftext|>"), dict(
            tokenizer_class="LlamaTokenizer", bos_token="<|im_start|>", add_bos_token=True,
            eos_token="<|im_end|>", unk_token="<|endoftext|>")],
    }[kind]


def run_bytes(rng, kind, made, config, step):
    texts = byte_texts(rng)[::step]
    ids = made["model"]["vocab"] | {entry["content"]: entry["id"] for entry in made["added_tokens"]}
    with tempfile.TemporaryDirectory() as folder:
        for name, content in (("tokenizer.json", made), ("tokenizer_config.json", config)):
            with open(folder + "/" + name, "w") as f:
                json.dump(content, f)
        fast = AutoTokenizer.from_pretrained(folder, use_fast=True)
        cases = [[text, fast(text, add_special_tokens=False).input_ids] for text in texts]
        first = fast("a").input_ids[0]
        adds = first != fast("a", add_special_tokens=False).input_ids[0]
        alone = [fast.decode([i], skip_special_tokens=True, clean_up_tokenization_spaces=False)
                 for i in range(max(ids.values()) + 1)]
        picks = [[rng.randrange(len(alone)) for _ in range(rng.randrange(2, 12))]
                 for _ in range(100)]
        decoded = [[picked, fast.decode(picked, skip_special_tokens=True,
                                        clean_up_tokenization_spaces=False)] for picked in picks]
        return dict(kind=kind, config=config, adds_bos=adds, bos=first if adds else None,
                    cases=cases, alone=alone, decoded=decoded)


def byte_level():
    rng, rows = random.Random(2), []
    for kind in ("qwen", "olmoe", "llama"):
        made = byte_file(kind)
        ids = made["model"]["vocab"] | {entry["content"]: entry["id"]
                                        for entry in made["added_tokens"]}
        write("bytes-%s.json" % kind, made)
        for i, config in enumerate(byte_configs(kind, ids)):
            rows.append(run_bytes(rng, kind, made, config, 2 if i else 1))
    write("bytes.json", rows)


MIXTRAL_2023 = (
    "{{ bos_token }}{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 "
    "% 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}"
    "{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}"
    "{% elif message['role'] == 'assistant' %}{{ message['content'] + eos_token}}{% else %}"
    "{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}{% endfor %}")
MIXTRAL = (
    "{%- if messages[0][\"role\"] == \"system\" %}\n    {%- set system_message = "
    "messages[0][\"content\"] %}\n    {%- set loop_messages = messages[1:] %}\n{%- else %}\n"
    "    {%- set loop_messages = messages %}\n{%- endif %}\n\n{{- bos_token }}\n"
    "{%- for message in loop_messages %}\n    {%- if (message['role'] == 'user') != (loop.index0 % "
    "2 == 0) %}\n        {{- raise_exception('roles must alternate') }}\n    {%- endif %}\n"
    "    {%- if message[\"role\"] == \"user\" %}\n        {%- if loop.first and system_message is "
    "defined %}\n            {{- \" [INST] \" + system_message + \"\\n\\n\" + message[\"content\"] "
    "+ \" [/INST]\" }}\n        {%- else %}\n            {{- \" [INST] \" + message[\"content\"] + "
    "\" [/INST]\" }}\n        {%- endif %}\n    {%- elif message[\"role\"] == \"assistant\" %}\n"
    "        {{- \" \" + message[\"content\"] + eos_token}}\n    {%- else %}\n"
    "        {{- raise_exception('Only user and assistant roles are supported') }}\n"
    "    {%- endif %}\n{%- endfor %}\n")
PHI_TEMPLATE = (
    "{% for message in messages %}{% if message['role'] == 'system' and message['content'] %}"
    "{{'<|system|>\\n' + message['content'] + '<|end|>\\n'}}{% elif message['role'] == 'user' %}"
    "{{'<|user|>\\n' + message['content'] + '<|end|>\\n'}}"
    "{% elif message['role'] == 'assistant' %}{{'<|assistant|>\\n' + message['content'] + "
    "'<|end|>\\n'}}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}"
    "{% else %}{{ eos_token }}{% endif %}")
PHI_SLIM = (
    "{% for message in messages %}{{'<|' + message['role'] + '|>' + '\n' + message['content'] + "
    "'<|end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}"
    "{{ eos_token }}{% endif %}")
# Without what they have for tools and for other messages than these three kinds.
QWEN3_SYSTEM = (
    "{%- if tools %}\n    {{- '<|im_start|>system\\n' }}\n{%- else %}\n"
    "    {%- if messages[0].role == 'system' %}\n        {{- '<|im_start|>system\\n' + "
    "messages[0].content + '<|im_end|>\\n' }}\n    {%- endif %}\n{%- endif %}\n")
QWEN3 = QWEN3_SYSTEM + (
    "{%- set ns = namespace(multi_step_tool=true, last_query_index=messages|length - 1) %}\n"
    "{%- for message in messages[::-1] %}\n    {%- set index = (messages|length - 1) - loop.index0 "
    "%}\n    {%- if ns.multi_step_tool and message.role == \"user\" and not("
    "message.content.startswith('<tool_response>') and message.content.endswith("
    "'</tool_response>')) %}\n        {%- set ns.multi_step_tool = false %}\n        {%- set "
    "ns.last_query_index = index %}\n    {%- endif %}\n{%- endfor %}\n{%- for message in "
    "messages %}"
    "\n    {%- if (message.role == \"user\") or (message.role == \"system\" and not loop.first) "
    "%}\n"
    "        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' "
    "}}\n"
    "    {%- elif message.role == \"assistant\" %}\n        {%- set content = message.content %}\n"
    "        {%- set reasoning_content = '' %}\n        {%- if '</think>' in message.content %}\n"
    "            {%- set content = message.content.split('</think>')[-1].lstrip('\\n') %}\n"
    "            {%- set reasoning_content = message.content.split('</think>')[0].rstrip('\\n')"
    ".split('<think>')[-1].lstrip('\\n') %}\n        {%- endif %}\n"
    "        {%- if loop.index0 > ns.last_query_index %}\n            {%- if loop.last or (not "
    "loop.last and reasoning_content) %}\n                {{- '<|im_start|>' + message.role + "
    "'\\n<think>\\n' + reasoning_content.strip('\\n') + '\\n</think>\\n\\n' + "
    "content.lstrip('\\n') "
    "}}\n            {%- else %}\n                {{- '<|im_start|>' + message.role + '\\n' + "
    "content "
    "}}\n            {%- endif %}\n        {%- else %}\n            {{- '<|im_start|>' + "
    "message.role + '\\n' + content }}\n        {%- endif %}\n        {{- '<|im_end|>\\n' }}\n"
    "    {%- endif %}\n{%- endfor %}\n{%- if add_generation_prompt %}\n    {{- "
    "'<|im_start|>assistant\\n' }}\n    {%- if enable_thinking is defined and enable_thinking is "
    "false %}\n        {{- '<think>\\n\\n</think>\\n\\n' }}\n    {%- endif %}\n{%- endif %}")
QWEN3_2507 = QWEN3_SYSTEM + (
    "{%- for message in messages %}\n    {%- if message.content is string %}\n        {%- set "
    "content "
    "= message.content %}\n    {%- else %}\n        {%- set content = '' %}\n    {%- endif %}\n"
    "    {%- if (message.role == \"user\") or (message.role == \"system\" and not loop.first) %}\n"
    "        {{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>' + '\\n' }}\n"
    "    {%- elif message.role == \"assistant\" %}\n        {{- '<|im_start|>' + message.role + "
    "'\\n' "
    "+ content }}\n        {{- '<|im_end|>\\n' }}\n    {%- endif %}\n{%- endfor %}\n"
    "{%- if add_generation_prompt %}\n    {{- '<|im_start|>assistant\\n' }}\n{%- endif %}")
QWEN3_CODER = (
    "{%- if messages[0][\"role\"] == \"system\" %}\n    {%- set system_message = "
    "messages[0][\"content\"] %}\n    {%- set loop_messages = messages[1:] %}\n{%- else %}\n"
    "    {%- set loop_messages = messages %}\n{%- endif %}\n\n{%- if not tools is defined %}\n"
    "    {%- set tools = [] %}\n{%- endif %}\n\n{%- if system_message is defined %}\n"
    "    {{- \"<|im_start|>system\\n\" + system_message }}\n{%- else %}\n    {%- if tools is "
    "iterable and "
    "tools | length > 0 %}\n        {{- \"<|im_start|>system\\nYou are Qwen, \" }}\n    {%- "
    "endif %}\n"
    "{%- endif %}\n{%- if system_message is defined %}\n    {{- '<|im_end|>\\n' }}\n{%- endif %}\n"
    "{%- for message in loop_messages %}\n    {%- if message.role == \"user\" or message.role == "
    "\"system\" or message.role == \"assistant\" %}\n        {{- '<|im_start|>' + message.role + "
    "'\\n' + "
    "message.content + '<|im_end|>' + '\\n' }}\n    {%- endif %}\n{%- endfor %}\n"
    "{%- if add_generation_prompt %}\n    {{- '<|im_start|>assistant\\n' }}\n{%- endif %}\n")
OLMOE = (
    "{{ bos_token }}{% for message in messages %}\n{% if message['role'] == 'system' %}\n"
    "{{ '<|system|>\n' + message['content'] }}\n{% elif message['role'] == 'user' %}\n"
    "{{ '<|user|>\n' + message['content'] }}\n{% elif message['role'] == 'assistant' %}\n"
    "{{ '<|assistant|>\n'  + message['content'] + eos_token }}\n{% endif %}\n{% if loop.last and "
    "add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}\n{% endfor %}")
OLMO2 = (
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'system' %}"
    "{{ '<|system|>\n' + message['content'] + '\n' }}{% elif message['role'] == 'user' %}"
    "{{ '<|user|>\n' + message['content'] + '\n' }}{% elif message['role'] == 'assistant' %}"
    "{% if not loop.last %}{{ '<|assistant|>\n'  + message['content'] + eos_token + '\n' }}"
    "{% else %}{{ '<|assistant|>\n'  + message['content'] + eos_token }}{% endif %}{% endif %}"
    "{% if loop.last and add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}{% endfor %}")
TINY_MIXTRAL = (
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}"
    "{{ '[INST] ' + message['content'] + ' [/INST]' }}{% else %}"
    "{{ message['content'] + eos_token }}{% endif %}{% endfor %}")
TINY_PHI = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>\\n' + message['content'] + "
    "'<|end|>\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}")
TALKS = [
    [("user", "Hi")], [("user", "")], [("user", " two\nlines ")],
    [("user", "a"), ("assistant", "b"), ("user", "c")],
    [("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d"), ("user", "\u00e9")],
    [("system", "Be brief."), ("user", "Hi")],
    [("system", "S"), ("user", "a"), ("assistant", "b"), ("user", "c")],
]
BROKEN = [[("user", "a"), ("user", "b")], [("assistant", "a"), ("user", "b")],
          [("user", "a"), ("system", "s"), ("user", "b")]]
# What templates without rules of order make of these; a tool's answer in a user's message.
LOOSE = BROKEN + [[("system", ""), ("user", "Hi")], [("user", "a"), ("assistant", "b"), (
    "user", "<tool_response>\nc\n</tool_response>")]]


def refuse(message):
    raise jinja2.exceptions.TemplateError(message)


def render(template, talk):
    # As transformers sets it up.
    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True)
    environment.globals["raise_exception"] = refuse
    messages = [dict(role=role, content=content) for role, content in talk]
    try:
        return environment.from_string(template).render(
            messages=messages, bos_token="<s>", eos_token="</s>", add_generation_prompt=True)
    except jinja2.exceptions.TemplateError:
        return None


def chats():
    # The embedded models' templates refuse nothing, so they are tried on sound talks only.
    plain = TALKS[:5]
    return [dict(chat=chat, template=template,
                 cases=[dict(messages=talk, text=render(template, talk)) for talk in talks])
            for chat, template, talks in [
                ("mixtral", MIXTRAL, TALKS + BROKEN), ("mixtral-2023", MIXTRAL_2023,
                TALKS + BROKEN),
                ("phi", PHI_TEMPLATE, TALKS + BROKEN + [[("system", ""), ("user", "Hi")]]),
                ("phi", PHI_TEMPLATE.replace("\\n", "\n"), TALKS),
                ("mixtral-2023", TINY_MIXTRAL, plain), ("phi", TINY_PHI, TALKS + BROKEN),
                ("phi", PHI_SLIM, TALKS + BROKEN), ("chatml", QWEN3, TALKS + LOOSE),
                ("chatml", QWEN3_2507, TALKS + LOOSE), ("chatml", QWEN3_CODER, TALKS + LOOSE),
                ("olmoe", OLMOE, TALKS + LOOSE), ("olmoe", OLMO2, TALKS + LOOSE)]]


def write(name, rows):
    with open(HERE + "/" + name, "w") as f:
        json.dump(rows, f, ensure_ascii=True, indent=None, separators=(",", ":"))
        f.write("\n")


def main():
    with open(sys.argv[1]) as f:
        text = f.read()[:200000]
    rng = random.Random(1)
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(text.split("\n")), model_prefix=MODEL[:-6], vocab_size=VOCAB,
        model_type="bpe", byte_fallback=True, normalization_rule_name="identity",
        remove_extra_whitespaces=False, split_digits=True, character_coverage=0.999,
        allow_whitespace_only_pieces=True, num_threads=1)
    os.remove(MODEL[:-6] + ".vocab")
    model = sentencepiece.SentencePieceProcessor(model_file=MODEL)
    texts = texts_of(rng, text, 60, 90)
    write("plain.json", [[t, model.encode(t), model.decode(model.encode(t))] for t in texts])
    write("transformers.json", [run_set(name, files, ODD[:60:3] + tagged(rng, 60))
                                for name, files in SETS.items()])
    write("chat.json", chats())
    byte_level()


main()
