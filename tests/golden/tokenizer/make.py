#!/usr/bin/env python3
"""Makes the files beside this one; by hand, in an environment of its own:

    pip install 'transformers==4.57.6' sentencepiece protobuf jinja2
    python make.py SHAKESPEARE.txt

tokenizer.model    SentencePiece, BPE of 500 pieces with byte fallback, trained on the first 200,000
                   characters of a text (public domain: Shakespeare)
plain.json         texts, their ids and what the ids decode to, by the sentencepiece package
transformers.json  for several sets of files beside the model: texts and their ids by transformers'
                   LlamaTokenizer (the slow one, except where the set says "fast")
fast.json          the tokenizer.json that transformers makes of the model, for Phi's files
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
from transformers import LlamaTokenizer, LlamaTokenizerFast

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
                ("mixtral", MIXTRAL, TALKS + BROKEN), ("mixtral-2023", MIXTRAL_2023, TALKS + BROKEN),
                ("phi", PHI_TEMPLATE, TALKS + BROKEN + [[("system", ""), ("user", "Hi")]]),
                ("phi", PHI_TEMPLATE.replace("\\n", "\n"), TALKS),
                ("mixtral-2023", TINY_MIXTRAL, plain), ("phi", TINY_PHI, TALKS + BROKEN),
                ("phi", PHI_SLIM, TALKS + BROKEN)]]


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


main()
