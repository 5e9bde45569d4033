// The misses of a stream under the eviction of MoE-Infinity's dispatcher, whose own block is
// block.inc (make.sh). One layer of 256 experts; a budget of slots, one byte each.
#include <cassert>
#include <climits>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <vector>

struct Device {
    bool cuda;
    bool is_cuda() const
    {
        return cuda;
    }
};

struct Mutex {
    bool locked = false;
    bool try_lock()
    {
        return !locked && (locked = true);
    }
    void unlock()
    {
        locked = false;
    }
};

struct Node {
    Device device{false}, default_host{false};
    int64_t byte_size = 1;
    int incache_visit_count = 0;
    Mutex mutex;
    void SetDevice(Device to, bool = false, int = 0)
    {
        device = to;
    }
};
using NodePtr = std::shared_ptr<Node>;

struct Expert {
    NodePtr node = std::make_shared<Node>();
    void SetTensorsFromBlob(Device)
    {
    }
};

#define CUDA_DEVICE(id) (Device{true})

int main(int argc, char **argv)
{
    std::vector<std::vector<std::shared_ptr<Expert>>> experts_(256);
    std::vector<int64_t> cache_sizes_{argc > 1 ? atoi(argv[1]) : 0};
    std::vector<int> fetch_streams_{0};
    const int gpu_id = 0;
    const Device device{true};
    unsigned char request[24]; // oracleGeneral: the object's number begins at byte 4
    int misses = 0;
    for (auto &expert : experts_)
        expert.push_back(std::make_shared<Expert>());
    while (fread(request, sizeof request, 1, stdin) == 1) {
        auto expert_node = experts_[request[4]][0];
        bool cache_hit = expert_node->node->device.is_cuda();
        expert_node->node->mutex.try_lock();
#include "block.inc"
        expert_node->node->mutex.unlock();
        cache_sizes_[gpu_id] += cache_hit;
        misses += !cache_hit;
    }
    printf("%d\n", misses);
}
