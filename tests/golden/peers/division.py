"""Makes division.tsv, by hand: division.py HYBRIMOE > division.tsv

HYBRIMOE is a checkout of github.com/PKU-SEC-Lab/HybriMoE at commit 508a85b, whose
ktransformers/operators/experts.py divides a layer's experts between GPU and CPU in HSS, which runs
as it is, each expert used by one token, at costs drawn here.
"""
import random
import sys
import textwrap
import types


def load(root):
    with open(root + "/ktransformers/operators/experts.py", encoding="utf-8") as f:
        lines = f.read().split("\n")
    first = next(i for i, line in enumerate(lines) if "def HSS(" in line)
    end = next(i for i in range(first + 1, len(lines)) if lines[i].startswith("    def "))
    names = {}
    exec(textwrap.dedent("\n".join(lines[first:end])), names)
    return names["HSS"]


divide = load(sys.argv[1])
rng = random.Random(3)
print("# HybriMoE 508a85b, made by tests/golden/peers/division.py: misses that the GPU computes")
print("hits", "misses", "gpu_ns", "cpu_ns", "copy_ns", "cpu_start_ns", "hits_on_gpu", "misses_on_gpu",
      sep="\t")
for _ in range(100):
    n = rng.choice([2, 4, 6, 8])
    hits = rng.randint(0, n)
    gpu, cpu, copy, start = (rng.randint(1, most) for most in (100, 1000, 1000, 500))
    costs = types.SimpleNamespace(model_gpu_time=lambda tokens: (gpu, 0),
                                  model_cpu_time=lambda tokens: (cpu * tokens, start),
                                  model_move_time=lambda: copy)
    queue = divide(costs, list(range(hits)), list(range(hits, n)), [1] * n)[1]
    there = sum(i < hits for i in queue)
    print(hits, n - hits, gpu, cpu, copy, start, there, len(queue) - there, sep="\t")
