/* Generates docs/policies.md from the tables that the program itself uses. */
#ifndef MOELAB_CLI_LIST_DOCS_H
#define MOELAB_CLI_LIST_DOCS_H

/* Writes the page to standard output. */
void cli_list_docs(void);

#endif
