/* Runs a Check suite without forking. Every test program ends with it. */
#ifndef MOELAB_TESTS_RUN_SUITE_H
#define MOELAB_TESTS_RUN_SUITE_H

#include <check.h>

/* Check writes to a file at every assertion that holds, so that the parent of a forked test knows
 * where it died. Nothing forks here, and those writes took most of the time of some tests. Failed
 * assertions still report their place. */
#define _mark_point(file, line) ((void)0) /* NOLINT: Check's name for it */

/* Runs and frees the suite; returns the exit code of main. Nothing forks, because OpenMP's threads
 * would not survive it. */
static inline int run_suite(Suite *suite)
{
    SRunner *runner = srunner_create(suite);
    srunner_set_fork_status(runner, CK_NOFORK);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}

#endif
