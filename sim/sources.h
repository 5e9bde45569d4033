/* What computes results, as a hash: builds of the same sources have the same one, whatever their
 * documents, tests and options. The build writes its function (cmake/sources.cmake). */
#ifndef MOELAB_SIM_SOURCES_H
#define MOELAB_SIM_SOURCES_H

/* 16 hexadecimal digits, of the files of base, traces, policies and sim. */
const char *moe_sources(void);

#endif
