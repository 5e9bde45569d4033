/* Parameters: one table describes an option once, and drives YAML, the command line and the help.
 *
 * A table is an array of struct moe_param ended by a record whose name is NULL. Each record says
 * where in a struct the value lies (offset), so that the same table fills any instance. */
#ifndef MOELAB_BASE_PARAM_H
#define MOELAB_BASE_PARAM_H

#include "base/error.h"

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum moe_param_type {
    MOE_PARAM_U64,    /* uint64_t, limits min..max */
    MOE_PARAM_F64,    /* double, limits min..max */
    MOE_PARAM_BOOL,   /* int: 0 or 1 */
    MOE_PARAM_BYTES,  /* uint64_t, written as 4000MiB */
    MOE_PARAM_CHOICE, /* int: index into the words of `choices` ("a|b|c") */
    MOE_PARAM_STRING, /* char[size] inside the struct, always NUL-terminated */
};

enum moe_param_flags {
    MOE_PARAM_REQUIRED = 1, /* no default: absence in a file is an error */
    MOE_PARAM_CONSTANT = 2, /* in YAML a mapping {value, unit, origin}; implies REQUIRED */
    /* Added when results existed already: descriptions leave it out at its default, so that those
     * results keep their identities. */
    MOE_PARAM_LATER = 4,
};

struct moe_param {
    const char *name; /* YAML key; the command line says --name with '_' as '-' */
    enum moe_param_type type;
    size_t offset;            /* offsetof(struct, member) */
    const char *default_text; /* NULL with MOE_PARAM_REQUIRED */
    double min, max;          /* U64 and F64; both 0: no limit (0..2^63 for U64) */
    const char *unit;         /* shown in help; must match the file's `unit` when CONSTANT */
    const char *help;
    const char *choices; /* CHOICE only */
    size_t size;         /* STRING only: bytes of the buffer */
    /* STRING only: names an output, whose form is one of these endings ("txt|tsv"; "": a folder, or
     * the stem of file names). NULL: it is no output. */
    const char *endings;
    unsigned flags;
};

/* Writes every default into base, and 0 or "" where there is none. Never fails for a well-formed
 * table. A table that is NULL is empty, here and below. */
void moe_params_default(const struct moe_param *table, void *base);

/* The record called name ('-' and '_' are equal), or NULL. */
const struct moe_param *moe_param_find(const struct moe_param *table, const char *name);

/* Parses text into the record's member. Errors name the parameter, the value and the limit. */
enum moe_status moe_param_set(const struct moe_param *param, void *base, const char *text,
                              struct moe_err *err);

/* As moe_param_set by name; an unknown name is an error that tells the nearest known one. */
enum moe_status moe_params_set(const struct moe_param *table, void *base, const char *name,
                               const char *text, struct moe_err *err);

/* Writes the member's value as text that moe_param_set reads back to the same value. */
const char *moe_param_format(const struct moe_param *param, const void *base, char *buf,
                             size_t size);

/* The words of choices: index of text or -1; and the word at index, copied into buf. */
int moe_choice_index(const char *choices, const char *text);
const char *moe_choice_name(const char *choices, int index, char *buf, size_t size);

/* "key=value,key=value" into base by the table. An empty string sets nothing; of a key given twice
 * the last counts; on an error nothing is set. */
enum moe_status moe_params_parse_list(const struct moe_param *table, void *base, const char *text,
                                      struct moe_err *err);

/* Help lines "  --name VALUE   help (default: X; unit)" for the whole table, wrapped at 100
 * columns. prefix stands before the name: with "--" the line says --name-of-it VALUE, with anything
 * else ("" or "admission.") prefix, name_of_it=VALUE. */
void moe_params_help(const struct moe_param *table, const char *prefix, FILE *out);

#endif
