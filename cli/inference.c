#include "cli/inference.h"

#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

static bool is_folder(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

enum moe_status cli_find_model_folder(const char *name, char *buf, size_t size, struct moe_err *err)
{
    char found[CLI_PATH_MAX];
    if (!*name)
        return moe_fail(err, MOE_ERR_USAGE,
                        "option '--model' is required: a model's folder, or tiny-mixtral");
    if (is_folder(name)) {
        snprintf(buf, size, "%s", name);
        return MOE_OK;
    }
    if (strchr(name, '/'))
        return moe_fail(err, MOE_ERR_IO, "cannot open model '%s': no such folder", name);
    enum moe_status s = moe_find_config("models", name, found, sizeof found, err);
    if (s)
        return moe_fail_prefix(err, "model '%s' is no folder", name);
    found[strlen(found) - strlen(".yaml")] = 0;
    if (!is_folder(found))
        return moe_fail(err, MOE_ERR_IO,
                        "model '%s' is here as a description only: give the folder with its "
                        "config.json and *.safetensors",
                        name);
    snprintf(buf, size, "%s", found);
    return MOE_OK;
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
