/* What the tests of importers share: a temporary folder, file comparison and the round trip. */
#ifndef MOELAB_TESTS_IMPORT_HELP_H
#define MOELAB_TESTS_IMPORT_HELP_H

#include "base/file.h"
#include "tests/unit/run_suite.h"
#include "tests/unit/temp_folder.h"
#include "traces/formats.h"
#include "traces/hdf5.h"

#include <check.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define GOLDEN "tests/golden/import/"
#define SHARED "../shared/data/traces/"

static char help_folder[256];

static void help_setup(void)
{
    temporary_folder(help_folder, sizeof help_folder);
}

static void help_teardown(void)
{
    remove_folder(help_folder);
}

/* Path of a file in the temporary folder. Valid until the fourth call after this one. */
static inline const char *help_path(const char *name)
{
    static char buf[4][512];
    static int turn;
    turn = (turn + 1) % 4;
    snprintf(buf[turn], sizeof buf[turn], "%s/%s", help_folder, name);
    return buf[turn];
}

static inline void help_ok(enum moe_status status, const struct moe_err *err)
{
    ck_assert_msg(status == MOE_OK, "%s", err->text);
}

static inline void help_same_file(const char *a, const char *b)
{
    char *x = NULL, *y = NULL;
    size_t nx = 0, ny = 0;
    struct moe_err err = {0};
    help_ok(moe_file_read(a, UINT64_C(1) << 32, &x, &nx, &err), &err);
    help_ok(moe_file_read(b, UINT64_C(1) << 32, &y, &ny, &err), &err);
    ck_assert_msg(nx == ny && memcmp(x, y, nx) == 0, "'%s' and '%s' differ", a, b);
    free(x);
    free(y);
}

/* Imports path and saves it as NAME in the temporary folder. */
static inline void help_import(const char *format, const char *path,
                               const struct moe_import_options *options, const char *name)
{
    const struct moe_format *f = NULL;
    struct moe_trace trace;
    struct moe_err err = {0};
    help_ok(moe_format_find(format, &f, &err), &err);
    help_ok(f->import(path, options, &trace, &err), &err);
    help_ok(moe_trace_save(help_path(name), &trace, &err), &err);
    moe_trace_release(&trace);
}

/* Loads the .h5 file called name from the temporary folder and exports it. */
static inline void help_export(const char *format, const char *name, const char *path)
{
    const struct moe_format *f = NULL;
    struct moe_trace trace;
    struct moe_err err = {0};
    unsigned all = MOE_HAS_WEIGHT | MOE_HAS_SCORE | MOE_HAS_LOOKAHEAD | MOE_HAS_LOG;
    help_ok(moe_format_find(format, &f, &err), &err);
    help_ok(moe_trace_load(help_path(name), all, &trace, &err), &err);
    help_ok(f->export(&trace, path, &err), &err);
    moe_trace_release(&trace);
}

/* Exports the .h5 file to jsonl and imports that as c.h5, which must be the same file. */
static inline void help_jsonl_trip(const char *name)
{
    const struct moe_import_options none = {0};
    help_export("jsonl", name, help_path("x.jsonl"));
    help_import("jsonl", help_path("x.jsonl"), &none, "c.h5");
    help_same_file(help_path(name), help_path("c.h5"));
}

/* Imports the file as a.h5, exports that, and imports the export as b.h5, which must equal a.h5. */
static inline void help_round_trip(const char *format, const char *path,
                                   const struct moe_import_options *options)
{
    help_import(format, path, options, "a.h5");
    help_export(format, "a.h5", help_path("exported"));
    help_import(format, help_path("exported"), options, "b.h5");
    help_same_file(help_path("a.h5"), help_path("b.h5"));
}

/* Returns whether the shared data is there; if not, prints that the test is skipped. */
static inline bool help_shared(const char *path)
{
    if (access(path, R_OK) == 0)
        return true;
    printf("skipped: '%s' is not there\n", path);
    return false;
}

/* Expects the text to be refused with a message that contains `expected`. */
static inline void help_refused(moe_parse_fn *parse, const char *text, size_t size,
                                const struct moe_import_options *options, const char *expected)
{
    struct moe_trace trace;
    struct moe_err err = {0};
    enum moe_status status = parse("x", text, size, options, &trace, &err);
    if (status == MOE_OK)
        moe_trace_release(&trace);
    ck_assert_msg(status != MOE_OK, "not refused; expected: %s", expected);
    ck_assert_msg(strstr(err.text, expected) != NULL, "'%s' instead of '%s'", err.text, expected);
}

static inline int help_run(const char *name, void (*add)(TCase *))
{
    Suite *suite = suite_create(name);
    TCase *tcase = tcase_create(name);
    tcase_add_checked_fixture(tcase, help_setup, help_teardown);
    add(tcase);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}

#endif
