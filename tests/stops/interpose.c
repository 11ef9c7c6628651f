/* Preloaded into a process: counts the calls that change files, and stops the process at one of them, or fails it.

   Only calls on files below one folder count, from `stops_arm` on, in this process and in those that it forks. The
   flushes (fsync, fdatasync) are counted and can fail, but are not carried out: a power cut is not tried here, and
   everything else is faster without them. Changes through a shared mapping are not seen.
*/
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum how { COUNT, BEFORE, TORN, AFTER, NO_SPACE, IO_ERROR };
enum verdict { GO_ON, FAIL, HALF, HALF_AND_DIE, DIE_AFTER };

static char root[PATH_MAX];
static size_t root_length; /* 0: not armed */
static enum how how;
static long at;
static int trace = -1;
static atomic_long *count; /* shared with forked processes */

/* Count calls on files below `folder`. `number` is the call to stop at or to fail, from 1 on. A line for each call is
   written to the descriptor `record`, unless it is -1: its kind, whether it takes up space, its length, its file. */
void stops_arm(const char *folder, int what, long number, int record)
{
    void *shared = mmap(NULL, sizeof *count, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED)
        abort();
    count = shared;
    atomic_init(count, 0);
    how = what;
    at = number;
    trace = record;
    snprintf(root, sizeof root, "%s", folder);
    root_length = strlen(root);
}

/* The number of calls so far. */
long stops_count(void)
{
    return count ? atomic_load(count) : 0;
}

static void *next(const char *name)
{
    void *found = dlsym(RTLD_NEXT, name);
    if (!found)
        abort();
    return found;
}

#define REAL(name) \
    static __typeof__(&name) real; \
    if (!real) \
    real = (__typeof__(&name))next(#name)

_Noreturn static void die(void)
{
    kill(0, SIGKILL); /* our process group: as if the machine's memory had run out, or the service was killed */
    for (;;)
        pause();
}

static int below_root(const char *path)
{
    return root_length && !strncmp(path, root, root_length) && (path[root_length] == '/' || !path[root_length]);
}

/* The absolute path of an open file, or "". */
static const char *of_descriptor(int descriptor, char *buffer)
{
    char link[64];
    buffer[0] = 0;
    if (!root_length)
        return buffer;
    int before = errno;
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, buffer, PATH_MAX - 1);
    buffer[length < 0 ? 0 : length] = 0;
    errno = before;
    return buffer;
}

/* The absolute path of a name in a folder (`AT_FDCWD`: the current one). */
static const char *of_name(int folder, const char *name, char *buffer)
{
    char at_folder[PATH_MAX];
    buffer[0] = 0;
    if (!root_length || !name)
        return buffer;
    int before = errno;
    if (name[0] == '/')
        snprintf(buffer, PATH_MAX, "%s", name);
    else {
        if (folder == AT_FDCWD) {
            if (!getcwd(at_folder, sizeof at_folder))
                at_folder[0] = 0;
        } else
            of_descriptor(folder, at_folder);
        if (snprintf(buffer, PATH_MAX, "%s/%s", at_folder, name) >= PATH_MAX)
            buffer[0] = 0;
    }
    errno = before;
    return buffer;
}

static void record(const char *kind, int takes_space, size_t length, const char *path)
{
    char line[PATH_MAX + 64];
    const char *below = path[root_length] ? path + root_length + 1 : ".";
    int written = snprintf(line, sizeof line, "%s %d %zu %s\n", kind, takes_space, length, below);
    if (written > 0 && syscall(SYS_write, trace, line, (size_t)written) < 0)
        die();
}

/* Decide on one call. `length`: the bytes that a write can tear, else 0. */
static enum verdict decide(const char *kind, int takes_space, size_t length, const char *path)
{
    if (!below_root(path))
        return GO_ON;
    long number = atomic_fetch_add(count, 1) + 1;
    if (trace >= 0)
        record(kind, takes_space, length, path);
    if (how == NO_SPACE && takes_space && number > at) { /* a full disk stays full; a flush may still succeed */
        errno = ENOSPC;
        return strcmp(kind, "sync") ? FAIL : GO_ON;
    }
    if (number != at)
        return GO_ON;
    switch (how) {
    case BEFORE:
        die();
    case TORN:
        if (length < 2)
            die();
        return HALF_AND_DIE;
    case AFTER:
        return DIE_AFTER;
    case NO_SPACE:
        errno = ENOSPC;
        return length < 2 ? FAIL : HALF; /* a disk takes what still fits */
    case IO_ERROR:
        errno = EIO;
        return FAIL;
    default:
        return GO_ON;
    }
}

static long finish(enum verdict verdict, long result)
{
    if (verdict == HALF_AND_DIE || verdict == DIE_AFTER)
        die();
    return result;
}

#define CHANGE(kind, takes_space, path, call) \
    enum verdict verdict = decide(kind, takes_space, 0, path); \
    return verdict == FAIL ? -1 : (int)finish(verdict, call)

/* files that are made or emptied */

static int opened(int folder, const char *name, int flags)
{
    char path[PATH_MAX];
    of_name(folder, name, path);
    if (!below_root(path))
        return GO_ON;
    int before = errno;
    int exists = !access(path, F_OK);
    errno = before;
    int makes = (flags & O_CREAT && !exists) || (flags & O_TMPFILE) == O_TMPFILE;
    int empties = exists && flags & O_TRUNC && (flags & O_ACCMODE) != O_RDONLY;
    return makes || empties ? decide(makes ? "create" : "empty", makes, 0, path) : GO_ON;
}

static mode_t given_mode(int flags, va_list arguments)
{
    return flags & O_CREAT || (flags & O_TMPFILE) == O_TMPFILE ? va_arg(arguments, mode_t) : 0;
}

#define OPEN(name) \
    int name(const char *file, int flags, ...) \
    { \
        REAL(name); \
        va_list arguments; \
        va_start(arguments, flags); \
        mode_t mode = given_mode(flags, arguments); \
        va_end(arguments); \
        enum verdict verdict = opened(AT_FDCWD, file, flags); \
        return verdict == FAIL ? -1 : (int)finish(verdict, real(file, flags, mode)); \
    }
#define OPEN_AT(name) \
    int name(int folder, const char *file, int flags, ...) \
    { \
        REAL(name); \
        va_list arguments; \
        va_start(arguments, flags); \
        mode_t mode = given_mode(flags, arguments); \
        va_end(arguments); \
        enum verdict verdict = opened(folder, file, flags); \
        return verdict == FAIL ? -1 : (int)finish(verdict, real(folder, file, flags, mode)); \
    }
OPEN(open)
OPEN(open64)
OPEN_AT(openat)
OPEN_AT(openat64)

/* bytes */

#define WRITE(fd, length, whole, half) \
    char path[PATH_MAX]; \
    enum verdict verdict = decide("write", 1, length, of_descriptor(fd, path)); \
    if (verdict == FAIL) \
        return -1; \
    if (verdict == HALF || verdict == HALF_AND_DIE) \
        return finish(verdict, half); \
    return finish(verdict, whole)

ssize_t write(int fd, const void *bytes, size_t length)
{
    REAL(write);
    WRITE(fd, length, real(fd, bytes, length), real(fd, bytes, length / 2));
}

ssize_t pwrite(int fd, const void *bytes, size_t length, off_t place)
{
    REAL(pwrite);
    WRITE(fd, length, real(fd, bytes, length, place), real(fd, bytes, length / 2, place));
}

ssize_t pwrite64(int fd, const void *bytes, size_t length, off64_t place)
{
    REAL(pwrite64);
    WRITE(fd, length, real(fd, bytes, length, place), real(fd, bytes, length / 2, place));
}

ssize_t writev(int fd, const struct iovec *parts, int number)
{
    REAL(writev);
    WRITE(fd, number > 1 ? 2 : 1, real(fd, parts, number), real(fd, parts, number / 2));
}

ssize_t pwritev(int fd, const struct iovec *parts, int number, off_t place)
{
    REAL(pwritev);
    WRITE(fd, number > 1 ? 2 : 1, real(fd, parts, number, place), real(fd, parts, number / 2, place));
}

ssize_t pwritev64(int fd, const struct iovec *parts, int number, off64_t place)
{
    REAL(pwritev64);
    WRITE(fd, number > 1 ? 2 : 1, real(fd, parts, number, place), real(fd, parts, number / 2, place));
}

ssize_t sendfile(int fd, int from, off_t *place, size_t length)
{
    REAL(sendfile);
    WRITE(fd, length, real(fd, from, place, length), real(fd, from, place, length / 2));
}

ssize_t sendfile64(int fd, int from, off64_t *place, size_t length)
{
    REAL(sendfile64);
    WRITE(fd, length, real(fd, from, place, length), real(fd, from, place, length / 2));
}

ssize_t copy_file_range(int from, off64_t *source, int fd, off64_t *place, size_t length, unsigned flags)
{
    REAL(copy_file_range);
    WRITE(fd, length, real(from, source, fd, place, length, flags), real(from, source, fd, place, length / 2, flags));
}

#define TRUNCATE(name, type) \
    int name(int fd, type length) \
    { \
        REAL(name); \
        char path[PATH_MAX]; \
        struct stat now; \
        of_descriptor(fd, path); \
        int grows = below_root(path) && !fstat(fd, &now) && now.st_size < length; \
        CHANGE("truncate", grows, path, real(fd, length)); \
    }
TRUNCATE(ftruncate, off_t)
TRUNCATE(ftruncate64, off64_t)

#define ALLOCATE(name, type) /* returns the error */ \
    int name(int fd, type place, type length) \
    { \
        REAL(name); \
        char path[PATH_MAX]; \
        enum verdict verdict = decide("allocate", 1, 0, of_descriptor(fd, path)); \
        return verdict == FAIL ? errno : (int)finish(verdict, real(fd, place, length)); \
    }
ALLOCATE(posix_fallocate, off_t)
ALLOCATE(posix_fallocate64, off64_t)

#define FLUSH(name) \
    int name(int fd) \
    { \
        char path[PATH_MAX]; \
        REAL(name); \
        of_descriptor(fd, path); \
        CHANGE("sync", 1, path, below_root(path) ? 0 : real(fd)); \
    }
FLUSH(fsync)
FLUSH(fdatasync)

/* names */

#define NAMED(kind, takes_space, folder, name, call) \
    char path[PATH_MAX]; \
    of_name(folder, name, path); \
    CHANGE(kind, takes_space, path, call)

int rename(const char *from, const char *to)
{
    REAL(rename);
    NAMED("rename", 1, AT_FDCWD, to, real(from, to));
}

int renameat(int from_folder, const char *from, int to_folder, const char *to)
{
    REAL(renameat);
    NAMED("rename", 1, to_folder, to, real(from_folder, from, to_folder, to));
}

int renameat2(int from_folder, const char *from, int to_folder, const char *to, unsigned flags)
{
    REAL(renameat2);
    NAMED("rename", 1, to_folder, to, real(from_folder, from, to_folder, to, flags));
}

int link(const char *from, const char *to)
{
    REAL(link);
    NAMED("link", 1, AT_FDCWD, to, real(from, to));
}

int linkat(int from_folder, const char *from, int to_folder, const char *to, int flags)
{
    REAL(linkat);
    NAMED("link", 1, to_folder, to, real(from_folder, from, to_folder, to, flags));
}

int symlink(const char *from, const char *to)
{
    REAL(symlink);
    NAMED("link", 1, AT_FDCWD, to, real(from, to));
}

int symlinkat(const char *from, int folder, const char *to)
{
    REAL(symlinkat);
    NAMED("link", 1, folder, to, real(from, folder, to));
}

int unlink(const char *name)
{
    REAL(unlink);
    NAMED("unlink", 0, AT_FDCWD, name, real(name));
}

int unlinkat(int folder, const char *name, int flags)
{
    REAL(unlinkat);
    NAMED(flags & AT_REMOVEDIR ? "rmdir" : "unlink", 0, folder, name, real(folder, name, flags));
}

int rmdir(const char *name)
{
    REAL(rmdir);
    NAMED("rmdir", 0, AT_FDCWD, name, real(name));
}

int mkdir(const char *name, mode_t mode)
{
    REAL(mkdir);
    NAMED("mkdir", 1, AT_FDCWD, name, real(name, mode));
}

int mkdirat(int folder, const char *name, mode_t mode)
{
    REAL(mkdirat);
    NAMED("mkdir", 1, folder, name, real(folder, name, mode));
}

int chmod(const char *name, mode_t mode)
{
    REAL(chmod);
    NAMED("chmod", 0, AT_FDCWD, name, real(name, mode));
}

int fchmodat(int folder, const char *name, mode_t mode, int flags)
{
    REAL(fchmodat);
    NAMED("chmod", 0, folder, name, real(folder, name, mode, flags));
}

int fchmod(int fd, mode_t mode)
{
    REAL(fchmod);
    char path[PATH_MAX];
    CHANGE("chmod", 0, of_descriptor(fd, path), real(fd, mode));
}
