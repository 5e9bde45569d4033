"""Makes predictions.tsv, by hand: predictions.py MOE_INFINITY > predictions.tsv

MOE_INFINITY is a checkout of github.com/TorchMoE/MoE-Infinity at commit cca059c; python needs numpy
and torch. What PredictEAM of arXiv 2401.14361v3 wants prefetched, put together from the released
functions: the cosine of ExpertTracer.find_most_similar, given whole matrices as one row and hiding
no layer; the factor of ExpertPredictor, which divides by L + 1, given L - 1; the order of
ExpertPrefetcher.prefetch_experts. Their text is run as it is, but on the CPU.
"""
import random
import sys
import types

import numpy as np
import torch

TIE = 1e-9  # theirs rounds, ours does not


def load(root):
    """The released classes, without what else the package imports."""
    found = {}
    for path in "utils/hf_config", "memory/expert_entry", "memory/expert_tracer", \
            "memory/expert_predictor", "memory/expert_prefetcher":
        for name in "transformers", "moe_infinity.utils", "moe_infinity." + path.replace("/", "."):
            sys.modules.setdefault(name, types.ModuleType(name))
        module = sys.modules["moe_infinity." + path.replace("/", ".")]
        sys.modules["transformers"].PretrainedConfig = object
        with open(f"{root}/moe_infinity/{path}.py", encoding="utf-8") as f:
            text = f.read().replace('"cuda:0"', '"cpu"')
        module.print = lambda *_: None
        exec(compile(text, path, "exec"), module.__dict__)
        found.update(vars(module))
        sys.modules["moe_infinity.utils"].parse_moe_param = found["parse_moe_param"]
    return types.SimpleNamespace(**found)


def config(n_layers, n_experts):
    return types.SimpleNamespace(architectures=["mixtral"], num_hidden_layers=n_layers,
                                 num_local_experts=n_experts)


class Collection:
    """The matrices of one phase; theirs is one tracer for all instances."""

    def __init__(self, code, n_keys, capacity):
        self.code, self.n_keys, self.capacity, self.members = code, n_keys, capacity, []
        self.mine = np.zeros(n_keys)

    def matches(self, matrix):
        """The released code's match, and all that are as similar."""
        tracer = self.code.ExpertTracer(len(self.members), config(1, self.n_keys))
        tracer.trace_collection = torch.tensor(np.array(self.members))[:, None]
        tracer.find_most_similar(matrix[None], -1)
        rows = torch.tensor(matrix / matrix.sum()).expand(len(self.members), 1, -1)
        cosines = tracer.cos(rows, tracer.trace_collection)[:, 0].numpy()
        near = np.flatnonzero(cosines > cosines.max() - TIE)
        assert np.argmax(tracer.collection_access) in near
        return near

    def collect(self):
        if len(self.members) < self.capacity:
            self.members.append(self.mine)
        else:
            self.members[self.matches(self.mine)[0]] = self.mine
        self.mine = np.zeros(self.n_keys)


def wanted(code, collection, matrix, layer, n_layers, n_experts):
    if not collection.members:
        return []
    uses = sum(collection.members[j] for j in collection.matches(matrix))
    share = uses.reshape(n_layers, n_experts)
    share = share / share.sum(axis=1, keepdims=True)
    share[:layer + 1] = 0
    near = code.ExpertPredictor(config(n_layers, n_experts)).layer_decay_func
    for i in range(layer + 1, n_layers):
        share[i] *= near(i, layer, n_layers - 1)
    prefetcher, queue = code.ExpertPrefetcher(config(n_layers, n_experts)), []
    prefetcher.expert_tensor_map = {(i, j): i * n_experts + j for i in range(n_layers)
                                    for j in range(n_experts)}
    prefetcher.archer_engine = types.SimpleNamespace(
        replace_cache_candidates=lambda ids: None, get_node_default_device=lambda ids: 0,
        enqueue_prefetch=lambda key, gpu: queue.append(key))
    prefetcher.prefetch_experts(layer, np.round(share, 12))  # equal ones by number
    return queue


def run(code, rng, n_layers, n_experts, top_k, capacity, n_sequences, prompts):
    groups = [[[rng.random() ** 3 for _ in range(n_experts)] for _ in range(n_layers)]
              for _ in range(3)]
    collections = [Collection(code, n_layers * n_experts, capacity) for _ in "pd"]
    for sequence in range(n_sequences):
        group = rng.choice(groups)
        for phase in [0] * (prompts > 0) + [1] * 3:
            collection, used, want = collections[phase], [], []
            matrix = np.zeros(n_layers * n_experts)
            for layer in range(n_layers):
                chance = group[layer]
                tokens = [sorted(range(n_experts), key=lambda e: -rng.random() * (chance[e] + .05))
                          for _ in range(1 if phase else prompts)]
                experts = [e for token in tokens for e in token[:top_k]]
                for e in experts:
                    matrix[layer * n_experts + e] += 1
                used.append(",".join(map(str, experts)))
                want.append(",".join(map(str, wanted(code, collection, matrix, layer, n_layers,
                                                     n_experts))) or "-")
            collection.mine = collection.mine + matrix
            print(n_layers, n_experts, capacity, sequence, phase, "/".join(used), "/".join(want),
                  sep="\t")
        for collection in collections:
            if collection.mine.any():
                collection.collect()


def main():
    code = load(sys.argv[1])
    print("# MoE-Infinity cca059c, made by tests/golden/peers/predictions.py: keys wanted after each"
          " layer")
    print("layers", "experts", "capacity", "sequence", "phase", "used", "wanted", sep="\t")
    run(code, random.Random(1), 4, 8, 2, 3, 12, 5)
    run(code, random.Random(2), 3, 3, 1, 8, 30, 2)  # many are equally similar


main()
