/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/process/daemon.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

static struct {
    int ready_fd; /* write end to the waiting parent; -1: no parent waits */
    int null_fd;  /* opened while /dev is accessible; or -1 */
} daemon_state = {.ready_fd = -1, .null_fd = -1};

static bool daemon_fail(GError **error, const char *what)
{
    int err = errno;
    g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(err), "-daemonize: %s%s", what,
                g_strerror(err));
    return false;
}

/* Waits for the child's report. */
static void daemon_run_parent(int fd)
{
    uint8_t status = EXIT_STATUS_INTERNAL; /* the child died without a report */
    ssize_t n = read(fd, &status, 1);
    (void)n;
    _exit(status);
}

bool daemon_fork(GError **error)
{
    int fds[2];
    if (pipe2(fds, O_CLOEXEC) != 0) {
        return daemon_fail(error, "");
    }
    pid_t pid = fork();
    if (pid < 0) {
        return daemon_fail(error, "fork: ");
    }
    if (pid > 0) {
        close(fds[1]);
        daemon_run_parent(fds[0]);
    }
    close(fds[0]);
    daemon_state.ready_fd = fds[1];
    daemon_state.null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    setsid();
    return true;
}

void daemon_report(ExitStatus status)
{
    if (daemon_state.ready_fd < 0) {
        return;
    }
    /* first: a process that waits for the parent may read its output */
    if (status == EXIT_STATUS_OK) {
        for (int fd = 0; daemon_state.null_fd >= 0 && fd <= STDERR_FILENO; fd++) {
            dup2(daemon_state.null_fd, fd);
        }
    }
    uint8_t byte = (uint8_t)status;
    ssize_t n = write(daemon_state.ready_fd, &byte, 1);
    (void)n;
    close(daemon_state.ready_fd);
    daemon_state.ready_fd = -1;
}
