#include "base/file.h"

#include "base/progress.h"
#include "base/units.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* The end of the component that begins at or behind path[from]; 0: there is none. */
static size_t component_end(const char *path, size_t from)
{
    from += strspn(path + from, "/");
    return path[from] ? from + strcspn(path + from, "/") : 0;
}

/* Writes what an errno means for a path. ENOTDIR names the part of the path that is a file. */
static void describe_errno(int number, const char *path, char *buf, size_t size)
{
    const size_t end = number == ENOTDIR ? component_end(path, moe_directories_there(path)) : 0;
    if (end && path[end])
        snprintf(buf, size, "'%.*s' is not a directory", end < 200 ? (int)end : 200, path);
    else
        snprintf(buf, size, "%s", number == EEXIST ? "exists, not a directory" : strerror(number));
}

static enum moe_status fail_errno(struct moe_err *err, const char *verb, const char *path)
{
    const int number = errno ? errno : EIO;
    char reason[256];
    describe_errno(number, path, reason, sizeof reason);
    return moe_fail(err, number == ENOMEM ? MOE_ERR_MEMORY : MOE_ERR_IO, "cannot %s '%.300s': %s",
                    verb, path, reason);
}

/* Waits until there is something to read or the writers have gone; for a FIFO that was opened
 * before its writer this includes waiting for the writer. An interrupt ends the wait. */
static enum moe_status await_writer(int fd, const char *path, struct moe_err *err)
{
    struct pollfd pipe = {.fd = fd, .events = POLLIN};
    int n;
    while ((n = poll(&pipe, 1, 50)) == 0 || (n < 0 && errno == EINTR))
        if (moe_interrupted())
            return moe_fail(err, MOE_ERR_INTERRUPTED, "interrupted: nobody writes to '%.300s'",
                            path);
    return n < 0 ? fail_errno(err, "read", path) : MOE_OK;
}

/* Reads to the end of the file: the size fstat() tells is 0 for files of /proc. */
static enum moe_status read_all(int fd, bool is_pipe, const char *path, uint64_t max_bytes,
                                char **out, size_t *size, struct moe_err *err)
{
    char *data = NULL;
    size_t used = 0, room = 0;
    for (;;) {
        if (used == room) {
            room = room ? 2 * room : 65536;
            char *more = realloc(data, room + 1);
            if (!more) {
                free(data);
                return moe_fail_memory(err, path);
            }
            data = more;
        }
        enum moe_status s = is_pipe ? await_writer(fd, path, err) : MOE_OK;
        if (s) {
            free(data);
            return s;
        }
        ssize_t n = read(fd, data + used, room - used);
        if (n < 0 && (errno == EINTR || (is_pipe && errno == EAGAIN)))
            continue;
        if (n < 0) {
            free(data);
            return fail_errno(err, "read", path);
        }
        if (n == 0)
            break;
        used += (size_t)n;
        if (used > max_bytes) {
            free(data);
            return moe_fail(err, MOE_ERR_IO, "cannot read '%.300s': more than %" PRIu64 " bytes",
                            path, max_bytes);
        }
    }
    data[used] = 0;
    *out = data;
    *size = used;
    return MOE_OK;
}

bool moe_is_gzip(const void *data, size_t size)
{
    return size > 2 && memcmp(data, "\x1f\x8b\x08", 3) == 0;
}

static enum moe_status refuse_gzip(const char *path, char *data, size_t size, struct moe_err *err)
{
    if (!moe_is_gzip(data, size))
        return MOE_OK;
    free(data);
    return moe_fail(err, MOE_ERR_INPUT, "cannot read '%.300s': compressed by gzip; gunzip it first",
                    path);
}

static enum moe_status read_path(const char *path, bool pipes, uint64_t max_bytes, char **out,
                                 size_t *size, struct moe_err *err)
{
    /* O_NONBLOCK: opening a FIFO would wait for its writer, before we could refuse it and through
     * an interrupt. */
    int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return fail_errno(err, "open", path);
    struct stat st;
    enum moe_status s;
    char *data = NULL;
    size_t n = 0;
    if (fstat(fd, &st))
        s = fail_errno(err, "read", path);
    else if (!S_ISREG(st.st_mode) && !(pipes && S_ISFIFO(st.st_mode)))
        s = moe_fail(err, MOE_ERR_IO, "cannot read '%.300s': not a regular file%s", path,
                     pipes ? " or pipe" : "");
    else
        s = read_all(fd, S_ISFIFO(st.st_mode), path, max_bytes, &data, &n, err);
    close(fd);
    if (!s)
        s = refuse_gzip(path, data, n, err);
    if (s)
        return s;
    *out = data;
    *size = n;
    return MOE_OK;
}

enum moe_status moe_file_read(const char *path, uint64_t max_bytes, char **out, size_t *size,
                              struct moe_err *err)
{
    return read_path(path, false, max_bytes, out, size, err);
}

enum moe_status moe_input_read(const char *path, uint64_t max_bytes, char **out, size_t *size,
                               struct moe_err *err)
{
    return read_path(path, true, max_bytes, out, size, err);
}

/* The name holds the process id, so that programs that write the same file do not share it; the
 * last one to commit wins. A base name that leaves no room for more is replaced by its hash. */
static char *temporary_name(const char *path)
{
    const size_t size = strlen(path) + 64;
    const char *slash = strrchr(path, '/'), *base = slash ? slash + 1 : path;
    char *text = malloc(size);
    if (!text)
        return NULL;
    const int n = snprintf(text, size, "%s.%ld.part", path, (long)getpid());
    if (n - (base - path) > NAME_MAX)
        snprintf(text, size, "%.*s%016" PRIx64 ".%ld.part", (int)(base - path), path,
                 moe_hash_bytes(MOE_HASH_SEED, base, strlen(base)), (long)getpid());
    return text;
}

static void release(struct moe_output *out)
{
    free(out->path);
    free(out->temporary);
    *out = (struct moe_output){0};
}

/* Opens a FIFO for writing. A blocking open() would wait for a reader even through a signal, so it
 * is tried again and again without blocking, and Ctrl-C ends the wait. NULL: see errno; EINTR:
 * interrupted. */
static FILE *open_fifo(const char *path)
{
    const struct timespec pause = {.tv_nsec = 50000000};
    int fd;
    while ((fd = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC)) < 0 && errno == ENXIO) {
        if (moe_interrupted()) {
            errno = EINTR;
            return NULL;
        }
        nanosleep(&pause, NULL);
    }
    if (fd < 0)
        return NULL;
    int flags = fcntl(fd, F_GETFL);
    FILE *stream =
        flags < 0 || fcntl(fd, F_SETFL, flags & ~O_NONBLOCK) < 0 ? NULL : fdopen(fd, "w");
    if (!stream)
        close(fd);
    return stream;
}

/* Standard output or error if it goes to this very file, else -1. /dev/stdout is a link to what may
 * be a log: were that replaced, what it holds and what is still to come would be lost. */
static int standard_descriptor(const struct stat *file)
{
    struct stat own;
    for (int fd = STDOUT_FILENO; fd <= STDERR_FILENO; fd++) {
        const int flags = fcntl(fd, F_GETFL);
        if (flags >= 0 && (flags & O_ACCMODE) != O_RDONLY && fstat(fd, &own) == 0 &&
            own.st_dev == file->st_dev && own.st_ino == file->st_ino)
            return fd;
    }
    return -1;
}

/* stdout itself, so that what is printed comes in the order of the calls. */
static FILE *open_standard(int fd)
{
    if (fd == STDOUT_FILENO)
        return stdout;
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    FILE *stream = copy < 0 ? NULL : fdopen(copy, "w");
    if (!stream && copy >= 0)
        close(copy);
    return stream;
}

/* replaced: the file that it will replace, or NULL; who cannot read that must not read this. */
static FILE *open_temporary(const char *name, const struct stat *replaced)
{
    int fd = open(name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, replaced ? 0600 : 0666);
    if (fd < 0)
        return NULL;
    FILE *stream = replaced && fchmod(fd, replaced->st_mode & 0777) != 0 ? NULL : fdopen(fd, "w");
    if (!stream) {
        const int number = errno;
        close(fd);
        unlink(name);
        errno = number;
    }
    return stream;
}

enum moe_status moe_output_create(struct moe_output *out, const char *path, struct moe_err *err)
{
    if (strcmp(path, "-") == 0) {
        char *name = strdup(path);
        if (!name)
            return moe_fail_memory(err, "an output name");
        *out = (struct moe_output){.stream = stdout, .path = name};
        return MOE_OK;
    }
    if (!*path) {
        errno = ENOENT; /* else ".part" would be made, and only the rename would fail */
        return fail_errno(err, "create", path);
    }
    /* Through a link we replace what it points to. */
    struct stat st;
    int linked = lstat(path, &st) == 0 && S_ISLNK(st.st_mode);
    int exists = stat(path, &st) == 0;
    if (!exists && errno == ENAMETOOLONG) /* else only the rename would tell */
        return fail_errno(err, "create", path);
    const int standard = exists ? standard_descriptor(&st) : -1;
    /* Devices and FIFOs have no content to protect, and cannot be renamed over. */
    int direct = exists && (standard >= 0 || !S_ISREG(st.st_mode));
    errno = 0;
    struct moe_output made = {.path = linked && !direct ? realpath(path, NULL) : strdup(path)};
    if (!made.path)
        return fail_errno(err, "create", path);
    if (!direct && !(made.temporary = temporary_name(made.path))) {
        release(&made);
        return moe_fail_memory(err, "an output name");
    }
    if (standard >= 0)
        made.stream = open_standard(standard);
    else if (direct && S_ISFIFO(st.st_mode))
        made.stream = open_fifo(made.path);
    else
        made.stream =
            direct ? fopen(made.path, "we") : open_temporary(made.temporary, exists ? &st : NULL);
    if (!made.stream) {
        enum moe_status s = errno == EINTR ? moe_fail(err, MOE_ERR_INTERRUPTED,
                                                      "interrupted: nobody reads '%.300s'", path)
                                           : fail_errno(err, "create", path);
        release(&made);
        return s;
    }
    *out = made;
    return MOE_OK;
}

/* The errno of a write that failed earlier, found by writing one more byte: the file is given up
 * anyway. */
static int find_write_error(const struct moe_output *out)
{
    return out->temporary && write(fileno(out->stream), "", 1) < 0 ? errno : EIO;
}

/* Flushes and closes; 0 or the errno of the first thing that failed. */
static int close_stream(struct moe_output *out)
{
    errno = 0;
    int bad = fflush(out->stream) != 0 || ferror(out->stream);
    int number = bad ? (errno ? errno : find_write_error(out)) : 0;
    if (!number && out->temporary && fsync(fileno(out->stream)))
        number = errno;
    if (out->stream != stdout && fclose(out->stream) && !number)
        number = errno;
    out->stream = NULL;
    return number;
}

enum moe_status moe_output_commit(struct moe_output *out, struct moe_err *err)
{
    int number = close_stream(out);
    if (!number && out->temporary && rename(out->temporary, out->path))
        number = errno;
    enum moe_status s = MOE_OK;
    if (number) {
        errno = number;
        s = strcmp(out->path, "-") == 0
                ? moe_fail(err, MOE_ERR_IO, "cannot write to standard output: %s", strerror(number))
                : fail_errno(err, "write", out->path);
        if (out->temporary)
            unlink(out->temporary);
    }
    release(out);
    return s;
}

void moe_output_abandon(struct moe_output *out)
{
    if (out->stream && out->stream != stdout)
        fclose(out->stream);
    if (out->temporary)
        unlink(out->temporary);
    release(out);
}

enum moe_status moe_output_end(struct moe_output *out, enum moe_status status, struct moe_err *err)
{
    if (!status)
        return moe_output_commit(out, err);
    moe_output_abandon(out);
    return status;
}

enum moe_status moe_output_check(const char *path, struct moe_err *err)
{
    struct moe_output out;
    struct stat st;
    if (stat(path, &st) == 0 && !S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode))
        return MOE_OK;
    enum moe_status s = moe_output_create(&out, path, err);
    if (!s)
        moe_output_abandon(&out);
    return s;
}

bool moe_is_directory(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

enum moe_status moe_make_directories(const char *path, struct moe_err *err)
{
    char *copy = strdup(path);
    if (!copy)
        return moe_fail_memory(err, "a folder name");
    enum moe_status s = MOE_OK;
    for (char *c = copy; !s; c++) {
        char kept = *c;
        if ((kept == '/' && c != copy) || !kept) {
            *c = 0;
            const int number = mkdir(copy, 0777) ? errno : 0;
            if (number && !moe_is_directory(copy)) {
                errno = number;
                s = fail_errno(err, "make folder", copy);
            }
            *c = kept;
        }
        if (!kept)
            break;
    }
    free(copy);
    return s;
}

size_t moe_directories_there(const char *path)
{
    char *copy = strdup(path);
    size_t there = 0;
    for (size_t end; copy && (end = component_end(path, there)); there = end) {
        copy[end] = 0;
        if (!moe_is_directory(copy))
            break;
        copy[end] = path[end];
    }
    if (!copy)
        return strlen(path); /* then nothing will be removed */
    free(copy);
    return there;
}

void moe_remove_directories(const char *path, size_t there)
{
    char *copy = strdup(path);
    for (size_t n = strlen(path); copy && n > there; n--) {
        const bool ends = copy[n] == '/' || !copy[n];
        copy[n] = 0;
        if (ends && copy[n - 1] != '/' && rmdir(copy) != 0 && errno != ENOENT)
            break;
    }
    free(copy);
}
