#include "cli/inference.h"

#include "base/progress.h"
#include "base/units.h"
#include "exec/cpu.h"
#include "exec/memory_limits.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

static enum moe_status find_folder(const char *name, char *buf, size_t size, struct moe_err *err)
{
    char found[CLI_PATH_MAX];
    if (!*name)
        return moe_fail(err, MOE_ERR_USAGE,
                        "option '--model' is required: a model's folder, or tiny-mixtral");
    if (moe_is_directory(name)) {
        snprintf(buf, size, "%s", name);
        for (size_t n = strlen(buf); n > 1 && buf[n - 1] == '/';)
            buf[--n] = 0; /* a slash is added before the names of files in it */
        return MOE_OK;
    }
    if (strchr(name, '/'))
        return moe_fail(err, MOE_ERR_IO, "cannot open model '%s': no such folder", name);
    enum moe_status s = moe_find_config("models", name, found, sizeof found, err);
    if (s && strncmp(name, "tiny-", 5) == 0)
        return moe_fail_prefix(err, "cannot open model '%s': no such folder", name);
    if (s)
        return moe_fail(err, s,
                        "cannot open model '%.200s': no such folder; give that of a downloaded "
                        "model (config.json, *.safetensors), or tiny-mixtral, tiny-phimoe",
                        name);
    found[strlen(found) - strlen(".yaml")] = 0;
    if (!moe_is_directory(found))
        return moe_fail(err, MOE_ERR_IO,
                        "model '%s' is here as a description only: give the folder with its "
                        "config.json and *.safetensors",
                        name);
    snprintf(buf, size, "%s", found);
    return MOE_OK;
}

/* Refuses a tokenizer of another model at once, not at the first prompt with an id outside the
 * vocabulary. */
static enum moe_status check_vocabulary(const char *folder, const struct moe_llm *llm,
                                        const struct moe_tokenizer *tokenizer, struct moe_err *err)
{
    uint32_t size = moe_tokenizer_size(tokenizer);
    if (size <= llm->config.n_vocab)
        return MOE_OK;
    return moe_fail(err, MOE_ERR_INPUT, "'%s': the tokenizer has %u tokens, but vocab_size is %u",
                    folder, size, llm->config.n_vocab);
}

/* Warns of tensors that are not used: a model with more than its architecture and configuration say
 * may be another one. */
static void tell_unused(const char *folder, const struct moe_llm *llm)
{
    const char *first;
    uint64_t n = moe_llm_unused(llm, &first);
    if (n)
        moe_log("'%s': %" PRIu64 " tensor%s not used, %s'%s'", folder, n, n == 1 ? " is" : "s are",
                n == 1 ? "" : "the first is ", first);
}

/* Warns of a model larger than memory; it runs all the same, at the speed of the disk. */
static void tell_larger_than_memory(const char *folder, const struct moe_llm *llm)
{
    struct moe_memory_limits limits;
    uint64_t bytes = 0;
    char weights[32], memory[32];
    moe_memory_limits_read(&limits);
    for (uint64_t i = 0; i < moe_weights_n(llm->weights); i++)
        if (moe_weights_taken(llm->weights, i))
            bytes += moe_weights_at(llm->weights, i)->bytes;
    if (bytes <= limits.available)
        return;
    moe_log("'%s': weights of %s, available memory %s: experts are read from disk again and "
            "again%s",
            folder, moe_format_bytes(bytes, weights, sizeof weights),
            moe_format_bytes(limits.available, memory, sizeof memory),
            moe_dtype_plain(llm->layers[0].experts[0].w1.dtype)
                ? "; `moelab quantize` makes them smaller"
                : "");
}

enum moe_status cli_open_llm(const char *name, bool interleave, char *buf, size_t size,
                             struct moe_llm **llm, struct moe_err *err)
{
    enum moe_status s = find_folder(name, buf, size, err);
    if (!s && interleave)
        moe_cpu_interleave_memory();
    if (s || (s = moe_llm_open(llm, buf, err)))
        return s;
    tell_unused(buf, *llm);
    return MOE_OK;
}

enum moe_status cli_open_model(const struct cli_inference *o, char *buf, size_t size,
                               struct moe_llm **llm, struct moe_tokenizer **tokenizer,
                               struct moe_err *err)
{
    *llm = NULL;
    *tokenizer = NULL;
    enum moe_status s = cli_open_llm(o->model, o->interleave, buf, size, llm, err);
    if (!s)
        s = moe_tokenizer_open(tokenizer, buf, err);
    if (!s)
        s = check_vocabulary(buf, *llm, *tokenizer, err);
    if (!s)
        tell_larger_than_memory(buf, *llm);
    if (s) {
        moe_tokenizer_free(*tokenizer);
        moe_llm_close(*llm);
        *tokenizer = NULL;
        *llm = NULL;
    }
    return s;
}

enum moe_status cli_chat(const struct cli_inference *o, const char *folder, enum moe_chat *out,
                         struct moe_err *err)
{
    if (o->chat == CLI_CHAT_AUTO)
        return moe_chat_detect(folder, out, err);
    *out = (enum moe_chat)(o->chat - 1);
    return MOE_OK;
}

struct moe_session_options cli_session_options(const struct cli_inference *o)
{
    return (struct moe_session_options){
        .context = (uint32_t)o->context,
        .chunk = (uint32_t)o->chunk,
        .threads = (uint32_t)o->threads,
        .kernels = o->kernels,
        .pin = o->pin,
    };
}

uint64_t cli_peak_memory(void)
{
    struct rusage usage;
    return getrusage(RUSAGE_SELF, &usage) == 0 ? (uint64_t)usage.ru_maxrss * 1024 : 0;
}
