/* Writes the streams of tests/unit/peer_streams.h as NAME.oracleGeneral.bin in libCacheSim's
 * oracleGeneral format into the working folder. Used by make.sh only. */
#include "tests/unit/peer_streams.h"

#include <stdio.h>

/* Little endian: u32 time, u64 object, u32 size, i64 next request of the object or -1. */
static void put(FILE *out, uint64_t value, int bytes)
{
    for (int i = 0; i < bytes; i++)
        fputc((int)(value >> (8 * i) & 255), out);
}

int main(void)
{
    static uint16_t id[PEER_REQUESTS];
    static int64_t next[PEER_REQUESTS];
    for (int s = 0; s < N_PEER_STREAMS; s++) {
        char path[64];
        int64_t last[PEER_KEYS];
        peer_streams[s].make(id);
        for (int k = 0; k < PEER_KEYS; k++)
            last[k] = -1;
        for (int i = PEER_REQUESTS; i-- > 0;) {
            next[i] = last[id[i]];
            last[id[i]] = i + 1; /* cachesim counts requests from 1 */
        }
        snprintf(path, sizeof path, "%s.oracleGeneral.bin", peer_streams[s].name);
        FILE *out = fopen(path, "wb");
        if (!out)
            return 1;
        for (int i = 0; i < PEER_REQUESTS; i++) {
            put(out, (uint64_t)i, 4);
            put(out, id[i], 8);
            put(out, 1, 4);
            put(out, (uint64_t)next[i], 8);
        }
        if (fclose(out) != 0)
            return 1;
    }
    return 0;
}
