/* Check, for programs that do not fork, and the end of each. */
#ifndef MOELAB_TESTS_RUN_SUITE_H
#define MOELAB_TESTS_RUN_SUITE_H

#include <check.h>

/* Check writes into a file at every assertion that holds, so that whoever waits for a fork knows
 * where that ended. Nobody does here, and it was most of the time of some tests. A failed assertion
 * writes its own place. */
#define _mark_point(file, line) ((void)0) /* NOLINT: Check's name for it */

/* Exit code of main. Takes the suite. Nothing forks: OpenMP's threads would not survive it. */
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
