#include "exec/model_folder.h"

#include "base/progress.h"
#include "base/units.h"
#include "exec/json.h"
#include "exec/weights.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum { MAX_TEXT_BYTES = 100000000, AT_ONCE = 1 << 16 };

static enum moe_status path_in(const char *dir, const char *name, char path[PATH_MAX],
                               struct moe_err *err)
{
    const int n = snprintf(path, PATH_MAX, "%s/%s", dir, name);
    if (n < 0 || n >= PATH_MAX)
        return moe_fail(err, MOE_ERR_IO, "path too long: '%.200s/%.100s'", dir, name);
    return MOE_OK;
}

/* Removes the files in the folder; nothing else is ever created in it. */
static void remove_files(const char *dir)
{
    char path[PATH_MAX];
    DIR *stream = opendir(dir);
    for (struct dirent *e; stream && (e = readdir(stream));)
        if (path_in(dir, e->d_name, path, NULL) == MOE_OK)
            unlink(path);
    if (stream)
        closedir(stream);
}

static void release(struct moe_model_folder *folder)
{
    free(folder->path);
    free(folder->temporary);
    *folder = (struct moe_model_folder){0};
}

static void remove_all(struct moe_model_folder *folder)
{
    remove_files(folder->temporary);
    moe_remove_directories(folder->temporary, folder->there);
}

/* Checked before anything is created. */
static enum moe_status check_new(const char *path, const char *from, struct moe_err *err)
{
    struct stat is, model;
    if (lstat(path, &is) != 0)
        return MOE_OK;
    if (stat(path, &is) == 0 && stat(from, &model) == 0 && is.st_dev == model.st_dev &&
        is.st_ino == model.st_ino)
        return moe_fail(err, MOE_ERR_USAGE,
                        "'%.300s' is the folder of the model itself; name a new one", path);
    return moe_fail(err, MOE_ERR_USAGE,
                    "'%.300s' exists; name a folder that does not, or remove it", path);
}

/* Is the folder the same as the other one, or inside it? */
static bool is_inside(const char *folder, const char *other)
{
    char *a = realpath(folder, NULL), *b = realpath(other, NULL);
    const size_t n = b ? strlen(b) : 0;
    const bool inside = a && b && strncmp(a, b, n) == 0 && (a[n] == '/' || !a[n]);
    free(a);
    free(b);
    return inside;
}

/* Does the part of the path that already exists, or the folder where the path begins, lie inside
 * `from`? */
static bool begins_inside(const struct moe_model_folder *folder, const char *from)
{
    char *path = folder->temporary;
    const char kept = path[folder->there];
    path[folder->there] = 0;
    const bool inside = is_inside(*path ? path : kept == '/' ? "/" : ".", from);
    path[folder->there] = kept;
    return inside;
}

/* Refused, as programs that search a model's folder would find the new model in it. */
static enum moe_status fail_inside(const struct moe_model_folder *folder, const char *from,
                                   struct moe_err *err)
{
    return moe_fail(err, MOE_ERR_USAGE,
                    "'%.200s' lies inside the folder of the model, '%.200s'; name one outside",
                    folder->path, from);
}

/* Creates the folder. Whether it lies inside `from` is checked before, so that the model's folder
 * is not touched, and again after, as `..` behind a folder that did not exist yet may lead into it.
 */
static enum moe_status make(struct moe_model_folder *folder, const char *from, struct moe_err *err)
{
    folder->there = moe_directories_there(folder->temporary);
    if (begins_inside(folder, from))
        return fail_inside(folder, from, err);
    remove_files(folder->temporary); /* left by a killed process with the same PID */
    enum moe_status s = moe_make_directories(folder->temporary, err);
    if (!s && is_inside(folder->temporary, from))
        s = fail_inside(folder, from, err);
    if (s)
        remove_all(folder);
    return s;
}

enum moe_status moe_model_folder_begin(struct moe_model_folder *folder, const char *path,
                                       const char *from, struct moe_err *err)
{
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/')
        n--;
    struct moe_model_folder made = {.path = strndup(path, n), .temporary = malloc(n + 32)};
    if (!made.path || !made.temporary) {
        release(&made);
        return moe_fail_memory(err, "a folder's name");
    }
    snprintf(made.temporary, n + 32, "%s.%ld.part", made.path, (long)getpid());
    enum moe_status s = check_new(made.path, from, err);
    if (!s)
        s = make(&made, from, err);
    if (s)
        release(&made);
    else
        *folder = made;
    return s;
}

enum moe_status moe_model_folder_end(struct moe_model_folder *folder, enum moe_status status,
                                     struct moe_err *err)
{
    if (!status && rename(folder->temporary, folder->path) != 0)
        status = moe_fail(err, MOE_ERR_IO, "cannot rename '%.200s' to '%.200s': %s",
                          folder->temporary, folder->path, strerror(errno));
    if (status)
        remove_all(folder);
    release(folder);
    return status;
}

enum moe_status moe_model_folder_room(const struct moe_model_folder *folder, uint64_t bytes,
                                      struct moe_err *err)
{
    struct statvfs disk;
    char needed[32], left[32];
    if (statvfs(folder->temporary, &disk) != 0)
        return MOE_OK; /* unknown: a full disk shows when writing */
    const uint64_t free_bytes = (uint64_t)disk.f_bavail * disk.f_frsize;
    if (bytes <= free_bytes)
        return MOE_OK;
    return moe_fail(err, MOE_ERR_IO, "'%.300s' needs %s of disk space, and %s are left",
                    folder->path, moe_format_bytes(bytes, needed, sizeof needed),
                    moe_format_bytes(free_bytes, left, sizeof left));
}

enum moe_status moe_model_folder_create(const struct moe_model_folder *folder, const char *name,
                                        struct moe_output *file, struct moe_err *err)
{
    char path[PATH_MAX];
    enum moe_status s = path_in(folder->temporary, name, path, err);
    return s ? s : moe_output_create(file, path, err);
}

static bool begins_with(const char *text, const char *begin)
{
    return strncmp(text, begin, strlen(begin)) == 0;
}

static bool ends_with(const char *text, const char *end)
{
    const size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

static int is_copied(const struct dirent *e)
{
    static const char *const begins[] = {"LICENSE", "LICENCE", "NOTICE"};
    static const char *const ends[] = {".json", ".model", ".jinja", ".md", ".txt"};
    const char *name = e->d_name;
    bool copied = false;
    for (size_t i = 0; i < sizeof begins / sizeof *begins; i++)
        copied = copied || begins_with(name, begins[i]);
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
        copied = copied || ends_with(name, ends[i]);
    return copied && name[0] != '.' && strcmp(name, "config.json") != 0 &&
           !ends_with(name, ".index.json") && !ends_with(name, ".safetensors");
}

static enum moe_status copy_stream(FILE *in, const char *path, FILE *out, struct moe_err *err)
{
    char block[AT_ONCE];
    size_t n;
    while ((n = fread(block, 1, sizeof block, in)) > 0 && !moe_interrupted())
        fwrite(block, 1, n, out);
    if (ferror(in))
        return moe_fail(err, MOE_ERR_IO, "cannot read '%.300s': %s", path, strerror(errno));
    return moe_interrupted() ? moe_fail(err, MOE_ERR_INTERRUPTED, "interrupted") : MOE_OK;
}

static enum moe_status copy_file(const struct moe_model_folder *folder, const char *from,
                                 const char *name, struct moe_err *err)
{
    char path[PATH_MAX];
    struct stat st;
    struct moe_output out;
    enum moe_status s = path_in(from, name, path, err);
    if (s || (stat(path, &st) == 0 && !S_ISREG(st.st_mode)))
        return s;
    FILE *in = fopen(path, "re");
    if (!in)
        return moe_fail(err, MOE_ERR_IO, "cannot open '%.300s': %s", path, strerror(errno));
    s = moe_model_folder_create(folder, name, &out, err);
    if (!s)
        s = moe_output_end(&out, copy_stream(in, path, out.stream, err), err);
    fclose(in);
    return s;
}

enum moe_status moe_model_folder_copy(const struct moe_model_folder *folder, const char *from,
                                      struct moe_err *err)
{
    struct dirent **list;
    enum moe_status s = MOE_OK;
    const int n = scandir(from, &list, is_copied, alphasort);
    if (n < 0)
        return moe_fail(err, errno == ENOMEM ? MOE_ERR_MEMORY : MOE_ERR_IO,
                        "cannot read '%.300s': %s", from, strerror(errno));
    for (int i = 0; i < n; i++) {
        if (!s)
            s = copy_file(folder, from, list[i]->d_name, err);
        free(list[i]);
    }
    free(list);
    return s;
}

static enum moe_status read_text(const char *from, const char *name, char **text, size_t *size,
                                 struct moe_err *err)
{
    char path[PATH_MAX];
    enum moe_status s = path_in(from, name, path, err);
    return s ? s : moe_file_read(path, MAX_TEXT_BYTES, text, size, err);
}

/* Writes JSON to a file; whole numbers keep their form. */
static enum moe_status write_json(const struct moe_model_folder *folder, const char *name,
                                  const json_t *root, struct moe_err *err)
{
    struct moe_output out;
    enum moe_status s = moe_model_folder_create(folder, name, &out, err);
    if (s)
        return s;
    if (json_dumpf(root, out.stream, JSON_INDENT(2) | JSON_REAL_PRECISION(17)) != 0 &&
        !ferror(out.stream))
        s = moe_fail_memory(err, name);
    fputc('\n', out.stream);
    return moe_output_end(&out, s, err);
}

/* Inserts the new key before the last brace of the text. */
static enum moe_status add_key(const struct moe_model_folder *folder, const char *text, size_t size,
                               const json_t *types, struct moe_err *err)
{
    struct moe_output out;
    size_t end = size;
    while (end > 0 && text[end - 1] != '}')
        end--;
    size_t last = end - 1;
    while (last > 0 && strchr(" \t\r\n", text[last - 1]))
        last--;
    enum moe_status s = moe_model_folder_create(folder, "config.json", &out, err);
    if (s)
        return s;
    fwrite(text, 1, last, out.stream);
    fputs(",\n  \"quantization_config\": ", out.stream);
    if (json_dumpf(types, out.stream, 0) != 0 && !ferror(out.stream))
        s = moe_fail_memory(err, "config.json");
    fputc('\n', out.stream);
    fwrite(text + end - 1, 1, size - end + 1, out.stream);
    return moe_output_end(&out, s, err);
}

/* Parses JSON; unlike moe_json_parse it keeps whole numbers as such. */
static enum moe_status parse(const char *from, const char *name, const char *text, size_t size,
                             json_t **root, struct moe_err *err)
{
    json_error_t error;
    *root = json_loadb(text, size, JSON_REJECT_DUPLICATES, &error);
    if (!*root && json_error_code(&error) == json_error_out_of_memory)
        return moe_fail_memory(err, name);
    if (!*root)
        return moe_fail(err, MOE_ERR_INPUT, "'%.200s/%s': line %d: %s", from, name, error.line,
                        error.text);
    return MOE_OK;
}

/* For a file that has the key, with a value that asks for nothing (such as null): replaces the
 * value and writes the whole file anew. */
static enum moe_status replace_key(const struct moe_model_folder *folder, const char *from,
                                   const char *text, size_t size, json_t *types,
                                   struct moe_err *err)
{
    json_t *root;
    enum moe_status s = parse(from, "config.json", text, size, &root, err);
    if (s)
        return s;
    if (json_object_set(root, "quantization_config", types) != 0)
        s = moe_fail_memory(err, "config.json");
    if (!s)
        s = write_json(folder, "config.json", root, err);
    json_decref(root);
    return s;
}

enum moe_status moe_model_folder_config(const struct moe_model_folder *folder, const char *from,
                                        enum moe_dtype experts, enum moe_dtype dense,
                                        struct moe_err *err)
{
    json_t *types = json_pack("{s:s, s:s, s:s*}", "quant_method", "moelab", "experts",
                              moe_dtype_info(experts)->name, "dense",
                              moe_dtype_plain(dense) ? NULL : moe_dtype_info(dense)->name);
    char *text = NULL;
    size_t size;
    json_t *root = NULL;
    enum moe_status s = types ? MOE_OK : moe_fail_memory(err, "config.json");
    if (!s)
        s = read_text(from, "config.json", &text, &size, err);
    if (!s)
        s = moe_json_parse(text, size, &root, err);
    if (!s)
        s = json_object_get(root, "quantization_config")
                ? replace_key(folder, from, text, size, types, err)
                : add_key(folder, text, size, types, err);
    json_decref(root);
    json_decref(types);
    free(text);
    return s;
}

enum moe_status moe_model_folder_index(const struct moe_model_folder *folder, const char *from,
                                       uint64_t total_size, struct moe_err *err)
{
    char *text;
    size_t size;
    json_t *root;
    enum moe_status s = read_text(from, MOE_WEIGHTS_INDEX, &text, &size, err);
    if (s)
        return s;
    s = parse(from, MOE_WEIGHTS_INDEX, text, size, &root, err);
    free(text);
    if (s)
        return s;
    json_t *metadata = json_object_get(root, "metadata");
    if (!json_is_object(metadata)) {
        metadata = json_object();
        if (json_object_set_new(root, "metadata", metadata) != 0)
            metadata = NULL;
    }
    if (!metadata ||
        json_object_set_new(metadata, "total_size", json_integer((json_int_t)total_size)) != 0)
        s = moe_fail_memory(err, MOE_WEIGHTS_INDEX);
    if (!s)
        s = write_json(folder, MOE_WEIGHTS_INDEX, root, err);
    json_decref(root);
    return s;
}
