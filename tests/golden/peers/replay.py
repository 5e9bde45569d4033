"""Misses of one stream under moe-cache-eval's policies, one access after another; see make.sh."""
import struct
import sys
import types

import numpy as np

SLOTS = 8, 32, 64, 128
OURS = {"lru": "lru", "lfu": "lfru:reading=ties", "lfru": "lfru", "least_stale": "least-stale",
        "belady": "opt"}


class Trace:
    """What the simulation asks of its EventTrace: events of one expert of one layer."""

    num_layers = 1
    num_experts_per_layer = num_expert_blocks = 256

    def __init__(self, ids):
        n = len(ids)
        self.num_events = self.num_accesses = n
        self.expert_ids = np.array(ids, dtype=np.int32)
        self.offsets = np.arange(n + 1)
        self.layer_ids = np.zeros(n, dtype=np.int32)
        self.token_counts = np.ones(n, dtype=np.int32)
        self.scheduler_steps = self.forward_cycles = np.arange(n, dtype=np.int32)


root, path, stream = sys.argv[1:]
sys.modules["torch"] = types.ModuleType("torch")
files = types.ModuleType("safetensors.torch")
files.load_file = files.save_file = None
sys.modules["safetensors"] = types.ModuleType("safetensors")
sys.modules["safetensors.torch"] = files
package = types.ModuleType("moe_controller")
package.__path__ = [root + "/moe_controller"]
sys.modules["moe_controller"] = package
from moe_controller.simulation import simulate  # noqa: E402

with open(path, "rb") as f:
    requests = [key for _, key, _, _ in struct.iter_unpack("<IQIq", f.read())]
for theirs, ours in OURS.items():
    for slots in SLOTS:
        result = simulate(Trace(requests), policy=theirs, capacity_blocks=slots)
        print(stream, ours, slots, result.misses, sep="\t")
