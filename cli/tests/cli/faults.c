/* Preloaded into the engine by its tests: makes the system worse than it is, as the environment
 * says. What is not named there goes through unchanged.
 *
 *   FAULT_FILE=PART              which files: those whose path has it
 *   FAULT_READS=eio:SKIP         their reads fail with EIO, the first SKIP ones apart
 *   FAULT_READS=short:SKIP       they bring a third of what was asked for
 *   FAULT_READS=slow:SKIP:MS     they take MS milliseconds longer
 *   FAULT_WRITES=full:BYTES      their writes fail with ENOSPC once there are BYTES bytes
 *   FAULT_WRITES=slow:MS         their writes take MS milliseconds longer
 *   FAULT_THREADS=COUNT          threads are refused, the first COUNT ones apart
 *
 * io_uring is refused while reads are faulty: its completions pass no function that could be
 * replaced here.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define IO_URING_SETUP 425

static int is_meant(int fd) {
    const char *end = getenv("FAULT_FILE");
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = end ? readlink(link, path, sizeof path - 1) : -1;
    if (length < (ssize_t)(end ? strlen(end) : 0)) return 0;
    path[length] = 0;
    return strstr(path, end) != NULL;
}

static void sleep_ms(long ms) {
    struct timespec left = {ms / 1000, ms % 1000 * 1000000};
    while (nanosleep(&left, &left) == -1 && errno == EINTR) {
    }
}

/* What becomes of a read: 0 nothing, 'e' it fails, 's' it is short. Sleeps where it is slow. */
static char read_fault(int fd) {
    static atomic_long reads;
    const char *what = getenv("FAULT_READS");
    long skip = 0, ms = 0;
    char kind[8];
    if (!what || !is_meant(fd) || sscanf(what, "%7[a-z]:%ld:%ld", kind, &skip, &ms) < 2) return 0;
    if (atomic_fetch_add(&reads, 1) < skip) return 0;
    if (kind[0] == 'e') return 'e';
    if (!strcmp(kind, "short")) return 's';
    sleep_ms(ms);
    return 0;
}

/* Never nothing: that would be the end of the file. */
static size_t third(size_t bytes) { return bytes / 3 + (bytes > 0); }

static ssize_t cut(char fault, ssize_t got) {
    return fault == 's' && got > 0 ? (ssize_t)third((size_t)got) : got;
}

#define FAULTY_READ(fd, call)                  \
    char fault = read_fault(fd);               \
    if (fault == 'e') {                        \
        errno = EIO;                           \
        return -1;                             \
    }                                          \
    return cut(fault, call)

ssize_t pread64(int fd, void *to, size_t bytes, off64_t at) {
    FAULTY_READ(fd, NEXT(pread64)(fd, to, bytes, at));
}

ssize_t pread(int fd, void *to, size_t bytes, off_t at) {
    FAULTY_READ(fd, NEXT(pread)(fd, to, bytes, at));
}

ssize_t preadv64(int fd, const struct iovec *to, int count, off64_t at) {
    FAULTY_READ(fd, NEXT(preadv64)(fd, to, count, at));
}

/* Moves the file's own position, so a short one must really be short. */
ssize_t read(int fd, void *to, size_t bytes) {
    char fault = read_fault(fd);
    if (fault == 'e') {
        errno = EIO;
        return -1;
    }
    return NEXT(read)(fd, to, fault == 's' ? third(bytes) : bytes);
}

ssize_t write(int fd, const void *from, size_t bytes) {
    static atomic_long written;
    const char *what = getenv("FAULT_WRITES");
    long number = 0;
    if (what && is_meant(fd)) {
        if (sscanf(what, "full:%ld", &number) == 1 &&
            atomic_fetch_add(&written, (long)bytes) + (long)bytes > number) {
            errno = ENOSPC;
            return -1;
        }
        if (sscanf(what, "slow:%ld", &number) == 1) sleep_ms(number);
    }
    return NEXT(write)(fd, from, bytes);
}

int pthread_create(pthread_t *thread, const pthread_attr_t *how, void *(*run)(void *), void *with) {
    static atomic_long threads;
    const char *most = getenv("FAULT_THREADS");
    if (most && atomic_fetch_add(&threads, 1) >= atol(most)) return EAGAIN;
    return NEXT(pthread_create)(thread, how, run, with);
}

long syscall(long number, ...) {
    long args[6];
    va_list all;
    va_start(all, number);
    for (int i = 0; i < 6; i++) args[i] = va_arg(all, long);
    va_end(all);
    if (number == IO_URING_SETUP && getenv("FAULT_READS")) {
        errno = ENOSYS;
        return -1;
    }
    return NEXT(syscall)(number, args[0], args[1], args[2], args[3], args[4], args[5]);
}
