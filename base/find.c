#include "base/file.h"

#include "base/units.h"

#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { N_ROOTS = 7 };

/* The i-th folder to search for "experiments" and "plots": the working folder, the program's folder
 * and four above it (a build tree), the installed one. Returns 0 where there is no i-th. */
static int search_root(int i, char *buf, size_t size)
{
    if (i == 0) {
        snprintf(buf, size, ".");
        return 1;
    }
    ssize_t n = readlink("/proc/self/exe", buf, size - 1);
    if (n <= 0 || (size_t)n + sizeof "/../share/moelab" > size)
        return 0;
    buf[n] = 0;
    int up = i == N_ROOTS - 1 ? 1 : i;
    while (up--) {
        char *slash = strrchr(buf, '/');
        if (!slash)
            return 0;
        *slash = 0;
    }
    if (i == N_ROOTS - 1)
        snprintf(buf + strlen(buf), size - strlen(buf), "%s", "/../share/moelab");
    return 1;
}

struct names {
    char **items;
    size_t n;
};

static void add_name(struct names *names, const char *name, size_t length)
{
    for (size_t i = 0; i < names->n; i++)
        if (strlen(names->items[i]) == length && memcmp(names->items[i], name, length) == 0)
            return;
    char **items = realloc(names->items, (names->n + 1) * sizeof *items);
    if (!items)
        return; /* a shorter list in a message is no error of its own */
    names->items = items;
    items[names->n] = strndup(name, length);
    names->n += items[names->n] != NULL;
}

static void list_folder(const char *folder, struct names *names)
{
    DIR *dir = opendir(folder);
    if (!dir)
        return;
    for (struct dirent *e; (e = readdir(dir));) {
        size_t length = strlen(e->d_name);
        if (e->d_name[0] != '.' && length > 5 && strcmp(e->d_name + length - 5, ".yaml") == 0)
            add_name(names, e->d_name, length - 5);
    }
    closedir(dir);
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static struct names list_known(const char *kind)
{
    struct names names = {0};
    char root[PATH_MAX], folder[PATH_MAX + 300];
    for (int i = 0; i < N_ROOTS; i++) {
        if (!search_root(i, root, sizeof root))
            continue;
        snprintf(folder, sizeof folder, "%s/experiments/%.250s", root, kind);
        list_folder(folder, &names);
    }
    if (names.n)
        qsort(names.items, names.n, sizeof *names.items, compare_names);
    return names;
}

char **moe_config_names(const char *kind, size_t *n)
{
    struct names names = list_known(kind);
    *n = names.n;
    return names.items;
}

void moe_free_names(char **names, size_t n)
{
    for (size_t i = 0; i < n; i++)
        free(names[i]);
    free(names);
}

/* No name of the kind is known: the folders are missing, rather than the name wrong. */
static enum moe_status fail_none(const char *kind, const char *name, struct moe_err *err)
{
    char here[PATH_MAX] = "?", program[PATH_MAX] = "?";
    ssize_t n = readlink("/proc/self/exe", program, sizeof program - 1);
    if (n > 0)
        program[n] = 0;
    char *slash = strrchr(program, '/');
    if (slash)
        *slash = 0;
    return moe_fail(err, MOE_ERR_USAGE,
                    "unknown name '%.60s' in %s (known: none; no folder experiments/%.60s in "
                    "'%.120s', in the program's '%.120s', above it, or installed: start moelab in "
                    "its checkout, or give a file)",
                    name, kind, kind, getcwd(here, sizeof here) ? here : "?", program);
}

static enum moe_status fail_unknown(const char *kind, const char *name, struct moe_err *err)
{
    struct names names = list_known(kind);
    if (names.n == 0) {
        moe_free_names(names.items, 0);
        return fail_none(kind, name, err);
    }
    const char *const *items = (const char *const *)names.items;
    char known[300], where[40];
    snprintf(where, sizeof where, ": moelab list %.20s", kind);
    moe_join_names(items, names.n, ", ", where, known, sizeof known);
    const char *near = moe_nearest_name(name, items, names.n);
    enum moe_status s =
        moe_fail(err, MOE_ERR_USAGE, "unknown name '%.60s' in %s (%s%s%sknown: %s)", name, kind,
                 near ? "did you mean '" : "", near ? near : "", near ? "'? " : "", known);
    moe_free_names(names.items, names.n);
    return s;
}

static enum moe_status copy_path(const char *path, char *buf, size_t size, struct moe_err *err)
{
    size_t length = strlen(path);
    if (length >= size)
        return moe_fail(err, MOE_ERR_USAGE, "path '%.60s' has %zu bytes, the limit is %zu", path,
                        length, size - 1);
    memcpy(buf, path, length + 1);
    return MOE_OK;
}

static int is_path(const char *name)
{
    size_t length = strlen(name);
    return strchr(name, '/') || (length >= 5 && strcmp(name + length - 5, ".yaml") == 0) ||
           (length >= 4 && strcmp(name + length - 4, ".yml") == 0);
}

enum moe_status moe_find_config(const char *kind, const char *name, char *buf, size_t size,
                                struct moe_err *err)
{
    if (is_path(name))
        return copy_path(name, buf, size, err);
    char root[PATH_MAX], path[PATH_MAX + 600];
    struct stat st;
    for (int i = 0; i < N_ROOTS; i++) {
        if (!search_root(i, root, sizeof root))
            continue;
        snprintf(path, sizeof path, "%s/experiments/%.250s/%.250s.yaml", root, kind, name);
        if (stat(path, &st) == 0 && S_ISREG(st.st_mode))
            return copy_path(path, buf, size, err);
    }
    if (stat(name, &st) == 0 && S_ISREG(st.st_mode))
        return moe_fail(err, MOE_ERR_USAGE,
                        "file '%.300s' does not end in .yaml or .yml, as a file of %s does", name,
                        kind);
    return fail_unknown(kind, name, err);
}

enum moe_status moe_find_folder(const char *name, char *buf, size_t size, struct moe_err *err)
{
    char root[PATH_MAX], path[PATH_MAX + 300];
    for (int i = 0; i < N_ROOTS; i++) {
        if (!search_root(i, root, sizeof root))
            continue;
        snprintf(path, sizeof path, "%s/%.250s", root, name);
        if (moe_is_directory(path))
            return copy_path(path, buf, size, err);
    }
    return moe_fail(err, MOE_ERR_IO,
                    "cannot find folder '%.60s': neither here nor beside or above the program",
                    name);
}

const char *moe_find_data(const char *path, char *buf, size_t size)
{
    static const char prefix[] = "experiments/";
    char root[PATH_MAX];
    if (access(path, R_OK) == 0 || strncmp(path, prefix, sizeof prefix - 1) != 0)
        return path;
    for (int i = 0; i < N_ROOTS; i++) {
        if (!search_root(i, root, sizeof root))
            continue;
        int n = snprintf(buf, size, "%s/%s", root, path);
        if (n > 0 && (size_t)n < size && access(buf, R_OK) == 0)
            return buf;
    }
    return path;
}
