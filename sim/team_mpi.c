#include "sim/team_mpi.h"

#include <stdio.h>

#ifdef MOELAB_HAVE_MPI

#include "base/progress.h"
#include "base/units.h"

#include <limits.h>
#include <mpi.h>
#include <sched.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { TAG = 1 };

/* A message under way; MPI reads its bytes until the request is complete. */
struct sent {
    struct sent *next;
    MPI_Request request;
    char *bytes;
};

struct mpi_link {
    struct sent *sent;
};

static enum moe_status fail_mpi(int code, const char *what, struct moe_err *err)
{
    char text[MPI_MAX_ERROR_STRING] = "";
    int length = 0;
    MPI_Error_string(code, text, &length);
    return moe_fail(err, MOE_ERR_IO, "MPI cannot %s: %s", what, text);
}

static void drop_complete(struct mpi_link *link)
{
    for (struct sent **at = &link->sent; *at;) {
        struct sent *sent = *at;
        int complete = 0;
        if (MPI_Test(&sent->request, &complete, MPI_STATUS_IGNORE) == MPI_SUCCESS && !complete) {
            at = &sent->next;
            continue;
        }
        *at = sent->next;
        free(sent->bytes);
        free(sent);
    }
}

/* NOLINTBEGIN(clang-analyzer-optin.mpi.MPI-Checker): drop_complete tests every request */
static enum moe_status mpi_send(void *self, uint32_t to, char *bytes, size_t size,
                                struct moe_err *err)
{
    struct mpi_link *link = self;
    struct sent *sent = size > INT_MAX ? NULL : malloc(sizeof *sent);
    if (!sent) {
        free(bytes);
        return moe_fail_memory(err, "a message");
    }
    sent->bytes = bytes;
    int code = MPI_Isend(bytes, (int)size, MPI_BYTE, (int)to, TAG, MPI_COMM_WORLD, &sent->request);
    if (code != MPI_SUCCESS) {
        free(bytes);
        free(sent);
        return fail_mpi(code, "send", err);
    }
    sent->next = link->sent;
    link->sent = sent;
    return MOE_OK;
}
/* NOLINTEND(clang-analyzer-optin.mpi.MPI-Checker) */

static enum moe_status mpi_poll(void *self, uint32_t *from, char **bytes, size_t *size,
                                struct moe_err *err)
{
    MPI_Status status;
    int there = 0, n = 0;
    *bytes = NULL;
    drop_complete(self);
    int code = MPI_Iprobe(MPI_ANY_SOURCE, TAG, MPI_COMM_WORLD, &there, &status);
    if (code != MPI_SUCCESS)
        return fail_mpi(code, "look for messages", err);
    if (!there)
        return MOE_OK;
    MPI_Get_count(&status, MPI_BYTE, &n);
    char *block = malloc((size_t)n + 1);
    if (!block)
        return moe_fail_memory(err, "a message");
    code = MPI_Recv(block, n, MPI_BYTE, status.MPI_SOURCE, TAG, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    if (code != MPI_SUCCESS) {
        free(block);
        return fail_mpi(code, "receive", err);
    }
    *from = (uint32_t)status.MPI_SOURCE;
    *bytes = block;
    *size = (size_t)n;
    return MOE_OK;
}

/* What cannot be delivered belongs to ranks that are lost: their requests are left to MPI. With
 * such a rank MPI_Finalize may wait for ever (Open MPI 4.1.4 does, in its fence); a launcher that
 * lets a job outlive a process lets the others go without it, too. */
static void mpi_close(void *self, uint64_t wait_ns, enum moe_leave how)
{
    struct mpi_link *link = self;
    uint64_t begin = moe_clock_ns();
    while (how != MOE_LEAVE_BROKEN && link->sent && moe_clock_ns() - begin < wait_ns) {
        char *bytes;
        size_t size;
        uint32_t from;
        if (!mpi_poll(link, &from, &bytes, &size, NULL))
            free(bytes);
        nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
    }
    free(link);
    if (how == MOE_LEAVE_BROKEN)
        MPI_Abort(MPI_COMM_WORLD, 1);
    else if (how == MOE_LEAVE_TOGETHER)
        MPI_Finalize();
}

static const struct moe_team_link_ops mpi_ops = {
    .send = mpi_send, .poll = mpi_poll, .close = mpi_close};

/* The same on processes of one machine. Not MPI_COMM_TYPE_SHARED, which over UCX put each process
 * on a machine of its own in MPICH 5.0.0 to 5.0.2 (its issue 7814). */
static int machine_colour(void)
{
    char name[MPI_MAX_PROCESSOR_NAME] = "";
    int length = 0;
    FILE *boot = fopen("/proc/sys/kernel/random/boot_id", "re");
    if (!boot || !fgets(name, sizeof name, boot))
        MPI_Get_processor_name(name, &length);
    if (boot)
        fclose(boot);
    return (int)(moe_hash_bytes(MOE_HASH_SEED, name, strlen(name)) & INT_MAX);
}

/* This process's part of the processors of its machine: of the n that it may run on, as many as
 * there are for each of those who may use them. */
static uint32_t fair_threads(void)
{
    cpu_set_t mine, all;
    MPI_Comm machine;
    int n = 0, sum = 0;
    if (sched_getaffinity(0, sizeof mine, &mine) ||
        MPI_Comm_split(MPI_COMM_WORLD, machine_colour(), 0, &machine))
        return 0;
    n = CPU_COUNT(&mine);
    MPI_Allreduce(&n, &sum, 1, MPI_INT, MPI_SUM, machine);
    MPI_Allreduce(&mine, &all, (int)sizeof mine, MPI_BYTE, MPI_BOR, machine);
    MPI_Comm_free(&machine);
    int threads = sum > 0 ? (int)((long)n * CPU_COUNT(&all) / sum) : 1;
    return threads > 1 ? (uint32_t)threads : 1;
}

enum moe_status moe_team_mpi_open(struct moe_team_link *out, struct moe_err *err)
{
    int level, rank = 0, size = 1;
    int code = MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &level);
    if (code != MPI_SUCCESS)
        return moe_fail(err, MOE_ERR_IO, "MPI does not start (code %d)", code);
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    struct mpi_link *link = calloc(1, sizeof *link);
    if (size == 1 || level < MPI_THREAD_FUNNELED || !link) {
        const bool broken = size > 1 && !link; /* the others would wait for it in vain */
        free(link);
        if (!broken)
            MPI_Finalize();
        if (broken)
            return moe_fail_memory(err, "a team");
        if (size > 1)
            return moe_fail(err, MOE_ERR_UNSUPPORTED,
                            "this MPI library does not support threads (MPI_THREAD_FUNNELED)");
        *out = (struct moe_team_link){.size = 1};
        return MOE_OK;
    }
    *out = (struct moe_team_link){.ops = &mpi_ops,
                                  .self = link,
                                  .rank = (uint32_t)rank,
                                  .size = (uint32_t)size,
                                  .threads = fair_threads()};
    return MOE_OK;
}

const char *moe_team_library(char *buf, size_t size)
{
    char text[MPI_MAX_LIBRARY_VERSION_STRING] = "";
    int length = 0;
    MPI_Get_library_version(text, &length);
    text[strcspn(text, ",\n")] = 0;
    size_t n = 0;
    for (const char *c = text; *c && n + 1 < size; c++) /* MPICH aligns its values */
        if (*c != ' ' && *c != '\t')
            buf[n++] = *c;
        else if (n > 0 && buf[n - 1] != ' ')
            buf[n++] = ' ';
    buf[n] = 0;
    return buf;
}

#else

enum moe_status moe_team_mpi_open(struct moe_team_link *out, struct moe_err *err)
{
    (void)out;
    return moe_fail(
        err, MOE_ERR_UNSUPPORTED,
        "this build has no MPI: install libopenmpi-dev and build again, or use --shard");
}

const char *moe_team_library(char *buf, size_t size)
{
    snprintf(buf, size, "none");
    return buf;
}

#endif
