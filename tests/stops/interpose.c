/* Preloaded into a process: counts the calls that change files, and stops the process at one of them, or fails it.

   Only calls on files below one folder count, from `stops_arm` on, in this process and in those that it forks. The
   flushes (fsync, fdatasync) are counted and can fail, but are not carried out: a power cut is not tried here, and
   everything else is faster without them. Changes through a shared mapping are not seen.

   With `stops_set_clock` the time of day stands still, and with `stops_seed` random bytes can be repeated, so that
   two processes that do the same leave the same files.
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
#include <stdint.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum how { COUNT, BEFORE, TORN, AFTER, NO_SPACE, IO_ERROR };
enum verdict { GO_ON, FAIL, HALF, HALF_AND_DIE, DIE_AFTER, HALVES };

static char root[PATH_MAX];
static size_t root_length; /* 0: not armed */
static enum how how;
static long at;
static int trace = -1;
static int resume = -1; /* -1: no call waits */
static atomic_long *count; /* shared with forked processes */
static time_t now;         /* 0: the time of day is the real one */
static uint64_t seed;      /* 0: random bytes are random */
static atomic_long *drawn; /* random words so far, shared with forked processes */

static atomic_long *shared_count(void)
{
    void *shared = mmap(NULL, sizeof(atomic_long), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED)
        abort();
    atomic_init((atomic_long *)shared, 0);
    return shared;
}

/* Let the time of day be `seconds` after 1970. */
void stops_set_clock(long seconds)
{
    now = seconds;
}

/* Draw random bytes from a sequence that `number` determines. */
void stops_seed(uint64_t number)
{
    drawn = shared_count();
    seed = number;
}

/* Count calls on files below `folder`. `number` is the call to stop at or to fail, from 1 on. A line for each call is
   written to the descriptor `record`, unless it is -1: its kind, whether it takes up space, its length, its file. If
   `answers` is not -1, the call then waits for a byte from it; and a write waits, with a line "half", once more when
   half of its bytes are written. */
void stops_arm(const char *folder, int what, long number, int record, int answers)
{
    count = shared_count();
    how = what;
    at = number;
    trace = record;
    resume = answers;
    snprintf(root, sizeof root, "%s", folder);
    root_length = strlen(root);
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

/* Write a line to the trace, and wait if calls do. */
static void tell(const char *line, size_t length)
{
    char answer;
    int before = errno;
    if (syscall(SYS_write, trace, line, length) < 0)
        die();
    if (resume >= 0 && syscall(SYS_read, resume, &answer, (size_t)1) != 1)
        die();
    errno = before;
}

static void record(const char *kind, int takes_space, size_t length, const char *path)
{
    char line[PATH_MAX + 64];
    const char *below = path[root_length] ? path + root_length + 1 : ".";
    int written = snprintf(line, sizeof line, "%s %d %zu %s\n", kind, takes_space, length, below);
    tell(line, (size_t)written);
}

/* Decide on one call. `length`: the bytes that a write can tear, else 0. */
static enum verdict decide(const char *kind, int takes_space, size_t length, const char *path)
{
    if (!below_root(path))
        return GO_ON;
    long number = atomic_fetch_add(count, 1) + 1;
    if (trace >= 0)
        record(kind, takes_space, length, path);
    if (resume >= 0 && length > 1)
        return HALVES;
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

/* After the first half of a write that waits: wait, and write the rest. Both return the bytes that were written. */
#define SECOND_HALF(done, rest) \
    if (done < 0) \
        return done; \
    tell("half\n", 5); \
    ssize_t more = rest; \
    return more < 0 ? done : done + more

static long finish(enum verdict verdict, long result)
{
    if (verdict == HALF_AND_DIE || verdict == DIE_AFTER)
        die();
    return result;
}

#define CHANGE(kind, takes_space, path, call) \
    enum verdict verdict = decide(kind, takes_space, 0, path); \
    return verdict == FAIL ? -1 : (int)finish(verdict, call)

/* time and chance */

int clock_gettime(clockid_t clock, struct timespec *time)
{
    REAL(clock_gettime);
    if (!now || (clock != CLOCK_REALTIME && clock != CLOCK_REALTIME_COARSE))
        return real(clock, time);
    *time = (struct timespec){.tv_sec = now};
    return 0;
}

int gettimeofday(struct timeval *restrict time, void *restrict zone)
{
    REAL(gettimeofday);
    if (!now)
        return real(time, zone);
    *time = (struct timeval){.tv_sec = now};
    return 0;
}

time_t time(time_t *place)
{
    struct timespec found;
    clock_gettime(CLOCK_REALTIME, &found);
    if (place)
        *place = found.tv_sec;
    return found.tv_sec;
}

static uint64_t draw(void) /* SplitMix64 */
{
    uint64_t word = seed + 0x9e3779b97f4a7c15 * (uint64_t)(atomic_fetch_add(drawn, 1) + 1);
    word = (word ^ (word >> 30)) * 0xbf58476d1ce4e5b9;
    word = (word ^ (word >> 27)) * 0x94d049bb133111eb;
    return word ^ (word >> 31);
}

static void draw_bytes(void *place, size_t length)
{
    for (size_t done = 0; done < length; done += sizeof(uint64_t)) {
        uint64_t word = draw();
        size_t rest = length - done;
        memcpy((char *)place + done, &word, rest < sizeof word ? rest : sizeof word);
    }
}

ssize_t getrandom(void *place, size_t length, unsigned flags)
{
    REAL(getrandom);
    if (!seed)
        return real(place, length, flags);
    draw_bytes(place, length);
    return (ssize_t)length;
}

int getentropy(void *place, size_t length)
{
    REAL(getentropy);
    if (!seed)
        return real(place, length);
    draw_bytes(place, length);
    return 0;
}

/* Return a descriptor of drawn bytes in place of /dev/urandom, which SQLite reads; -1 for any other file. */
static int drawn_file(const char *file)
{
    unsigned char bytes[4096];
    if (!seed || strcmp(file, "/dev/urandom"))
        return -1;
    int found = memfd_create("urandom", MFD_CLOEXEC);
    draw_bytes(bytes, sizeof bytes);
    if (found < 0 || syscall(SYS_pwrite64, found, bytes, sizeof bytes, 0L) < 0)
        abort();
    return found;
}

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
        int instead = drawn_file(file); \
        if (instead >= 0) \
            return instead; \
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

#define WRITE(fd, length, whole, half, rest) \
    char path[PATH_MAX]; \
    enum verdict verdict = decide("write", 1, length, of_descriptor(fd, path)); \
    if (verdict == FAIL) \
        return -1; \
    if (verdict == HALF || verdict == HALF_AND_DIE) \
        return finish(verdict, half); \
    if (verdict == HALVES) { \
        ssize_t done = half; \
        SECOND_HALF(done, rest); \
    } \
    return finish(verdict, whole)

ssize_t write(int fd, const void *bytes, size_t length)
{
    REAL(write);
    WRITE(fd, length, real(fd, bytes, length), real(fd, bytes, length / 2),
          real(fd, (const char *)bytes + done, length - done));
}

ssize_t pwrite(int fd, const void *bytes, size_t length, off_t place)
{
    REAL(pwrite);
    WRITE(fd, length, real(fd, bytes, length, place), real(fd, bytes, length / 2, place),
          real(fd, (const char *)bytes + done, length - done, place + done));
}

ssize_t pwrite64(int fd, const void *bytes, size_t length, off64_t place)
{
    REAL(pwrite64);
    WRITE(fd, length, real(fd, bytes, length, place), real(fd, bytes, length / 2, place),
          real(fd, (const char *)bytes + done, length - done, place + done));
}

ssize_t writev(int fd, const struct iovec *parts, int number)
{
    REAL(writev);
    WRITE(fd, number > 1 ? 2 : 1, real(fd, parts, number), real(fd, parts, number / 2),
          real(fd, parts + number / 2, number - number / 2));
}

ssize_t pwritev(int fd, const struct iovec *parts, int number, off_t place)
{
    REAL(pwritev);
    WRITE(fd, number > 1 ? 2 : 1, real(fd, parts, number, place), real(fd, parts, number / 2, place),
          real(fd, parts + number / 2, number - number / 2, place + done));
}

ssize_t pwritev64(int fd, const struct iovec *parts, int number, off64_t place)
{
    REAL(pwritev64);
    WRITE(fd, number > 1 ? 2 : 1, real(fd, parts, number, place), real(fd, parts, number / 2, place),
          real(fd, parts + number / 2, number - number / 2, place + done));
}

ssize_t sendfile(int fd, int from, off_t *place, size_t length)
{
    REAL(sendfile);
    WRITE(fd, length, real(fd, from, place, length), real(fd, from, place, length / 2),
          real(fd, from, place, length - done));
}

ssize_t sendfile64(int fd, int from, off64_t *place, size_t length)
{
    REAL(sendfile64);
    WRITE(fd, length, real(fd, from, place, length), real(fd, from, place, length / 2),
          real(fd, from, place, length - done));
}

ssize_t copy_file_range(int from, off64_t *source, int fd, off64_t *place, size_t length, unsigned flags)
{
    REAL(copy_file_range);
    WRITE(fd, length, real(from, source, fd, place, length, flags), real(from, source, fd, place, length / 2, flags),
          real(from, source, fd, place, length - done, flags));
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
