/* Version of the program, as it stands in results and traces. */
#ifndef MOELAB_BASE_VERSION_H
#define MOELAB_BASE_VERSION_H

#define MOELAB_VERSION "0.1.0"

#endif
