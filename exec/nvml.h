/* The energy of one NVIDIA GPU through NVML, loaded at run time (its header is not needed: the
 * few functions are declared here by their documented types). Inside exec/power.c only. */
#ifndef MOELAB_EXEC_NVML_H
#define MOELAB_EXEC_NVML_H

#include <stddef.h>

struct moe_nvml; /* opaque */

/* NULL where there is none; note: how it is measured, or why not. */
struct moe_nvml *moe_nvml_open(const char *library, const char *pci, char *note, size_t size);

/* Joules since the opening; NaN once it cannot be read. */
double moe_nvml_joules(struct moe_nvml *nvml);
void moe_nvml_close(struct moe_nvml *nvml); /* NULL: no-op */

#endif
