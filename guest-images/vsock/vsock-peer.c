/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For Linux guests: one end of AF_VSOCK connections (vsock(7)), which busybox does not have.
 *
 *   vsock-peer echo PORT       accepts connections, one after the other, and sends back what comes
 *   vsock-peer cat CID PORT    connects; standard input goes to the peer, what it sends to standard output
 */
#include <linux/vm_sockets.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static char buffer[65536];

static void peer_fail(const char *what)
{
    perror(what);
    exit(1);
}

static void peer_write_all(int fd, const char *from, ssize_t bytes)
{
    while (bytes > 0) {
        ssize_t put = write(fd, from, (size_t)bytes);
        if (put < 0) {
            peer_fail("write");
        }
        from += put;
        bytes -= put;
    }
}

static void peer_echo(int s)
{
    for (;;) {
        int c = accept(s, NULL, NULL);
        ssize_t got;
        if (c < 0) {
            peer_fail("accept");
        }
        while ((got = read(c, buffer, sizeof(buffer))) > 0 &&
               write(c, buffer, (size_t)got) == got) {
        }
        close(c);
    }
}

static void peer_cat(int s)
{
    struct pollfd fds[2] = {{.fd = 0, .events = POLLIN}, {.fd = s, .events = POLLIN}};
    for (;;) {
        if (poll(fds, 2, -1) < 0) {
            peer_fail("poll");
        }
        if (fds[0].revents != 0) {
            ssize_t got = read(0, buffer, sizeof(buffer));
            if (got > 0) {
                peer_write_all(s, buffer, got);
            } else {
                shutdown(s, SHUT_WR);
                fds[0].fd = -1;
            }
        }
        if (fds[1].revents != 0) {
            ssize_t got = read(s, buffer, sizeof(buffer));
            if (got <= 0) {
                exit(got < 0);
            }
            peer_write_all(1, buffer, got);
        }
    }
}

int main(int argc, char **argv)
{
    struct sockaddr_vm a = {.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY};
    int s = socket(AF_VSOCK, SOCK_STREAM, 0);
    if (s < 0) {
        peer_fail("socket");
    }
    if (argc == 3 && strcmp(argv[1], "echo") == 0) {
        a.svm_port = (unsigned)strtoul(argv[2], NULL, 0);
        if (bind(s, (struct sockaddr *)&a, sizeof(a)) != 0 || listen(s, 8) != 0) {
            peer_fail("bind");
        }
        peer_echo(s);
    } else if (argc == 4 && strcmp(argv[1], "cat") == 0) {
        a.svm_cid = (unsigned)strtoul(argv[2], NULL, 0);
        a.svm_port = (unsigned)strtoul(argv[3], NULL, 0);
        if (connect(s, (struct sockaddr *)&a, sizeof(a)) != 0) {
            peer_fail("connect");
        }
        peer_cat(s);
    }
    fputs("usage: vsock-peer echo PORT | vsock-peer cat CID PORT\n", stderr);
    return 2;
}
