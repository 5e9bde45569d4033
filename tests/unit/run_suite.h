/* The end of a test program. */
#ifndef MOELAB_TESTS_RUN_SUITE_H
#define MOELAB_TESTS_RUN_SUITE_H

#include <check.h>

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
