/* Numbers and units in text: strict parsing (the whole string, no overflow, no blanks). */
#ifndef MOELAB_BASE_UNITS_H
#define MOELAB_BASE_UNITS_H

#include "base/error.h"

#include <stddef.h>
#include <stdint.h>

/* Decimal digits only, value in [min, max]. Errors: MOE_ERR_USAGE naming value and limit. */
enum moe_status moe_parse_u64(const char *text, uint64_t min, uint64_t max, uint64_t *out,
                              struct moe_err *err);

/* Finite decimal or scientific number in [min, max]; no nan, inf or hex. */
enum moe_status moe_parse_f64(const char *text, double min, double max, double *out,
                              struct moe_err *err);

/* "4096", "4000MiB", "20GiB", "1.5GB": bytes. Units B KB MB GB TB (powers of 1000) and
 * KiB MiB GiB TiB (powers of 1024). A fraction is allowed where the result is rounded down. */
enum moe_status moe_parse_bytes(const char *text, uint64_t *out, struct moe_err *err);

/* "true", "yes", "on", "1" and "false", "no", "off", "0". */
enum moe_status moe_parse_bool(const char *text, int *out, struct moe_err *err);

/* Writes e.g. "3.9 GiB", "340 MB" style text (binary units) into buf; returns buf. */
const char *moe_format_bytes(uint64_t bytes, char *buf, size_t size);

/* Writes e.g. "118 M" or "23.4 k" (three significant digits, decimal prefixes) into buf. */
const char *moe_format_count(double value, char *buf, size_t size);

/* The entry of names[0..n) nearest to text by edit distance, in which case does not count; if none
 * is near, the shortest that begins with text, if that has three letters or more; else NULL. */
const char *moe_nearest_name(const char *text, const char *const *names, size_t n);

/* Joins names with `between`: "a, b, c". Where they do not fit into buf: as many whole names as do,
 * the number left out, and `where`, which says where to find them: "a, b and 7 more: moelab list
 * models". buf needs some 40 bytes. Returns buf. */
const char *moe_join_names(const char *const *names, size_t n, const char *between,
                           const char *where, char *buf, size_t size);

/* Product and sum with overflow check: false when the result does not fit. */
int moe_mul_u64(uint64_t a, uint64_t b, uint64_t *out);
int moe_add_u64(uint64_t a, uint64_t b, uint64_t *out);

/* FNV-1a, 64 bit: identifies content, as of a source file in provenance (not cryptographic). */
#define MOE_HASH_SEED 0xcbf29ce484222325u
uint64_t moe_hash_bytes(uint64_t hash, const void *data, size_t n);

#endif
