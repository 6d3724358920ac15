/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For Linux guests: tells a host the guest's clocks over a TCP connection, and so whether the connection lives.
 *
 *   clock-peer ADDRESS PORT    for ever; connects again when the connection has ended
 *
 * A host that has given the connection up is noticed within seconds, also when the guest has gone back to a time before.
 *
 * Each line from the host is answered by one line "COUNT MONOTONIC REALTIME BOOTTIME", clocks in nanoseconds, and a
 * block of PAYLOAD bytes, each of which is COUNT + its offset, modulo 251. COUNT grows by 1 with each answer of this
 * process. The three clocks are those of one instant, to within half a millisecond.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define PAYLOAD 16384
#define SAME_INSTANT_NS 500000

static char answer[128 + PAYLOAD];
static uint64_t count;

static int64_t clock_ns(clockid_t clock)
{
    struct timespec t;
    if (clock_gettime(clock, &t) != 0) {
        perror("clock_gettime");
        exit(1);
    }
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static size_t clock_answer(void)
{
    int64_t before, real, boot, after;
    int tries = 0;
    do {
        if (tries++ == 1000) {
            fputs("clock-peer: the clocks cannot be read at one instant\n", stderr);
        }
        before = clock_ns(CLOCK_MONOTONIC);
        real = clock_ns(CLOCK_REALTIME);
        boot = clock_ns(CLOCK_BOOTTIME);
        after = clock_ns(CLOCK_MONOTONIC);
    } while (after - before > SAME_INSTANT_NS);
    int length = sprintf(answer, "%" PRIu64 " %" PRId64 " %" PRId64 " %" PRId64 "\n", count, before,
                         real, boot);
    for (int i = 0; i < PAYLOAD; i++) {
        answer[length + i] = (char)((count + (uint64_t)i) % 251);
    }
    count++;
    return (size_t)length + PAYLOAD;
}

/* Returns when the connection has ended. */
static void clock_serve(int s)
{
    char byte;
    while (read(s, &byte, 1) == 1) {
        if (byte != '\n') {
            continue;
        }
        size_t bytes = clock_answer();
        for (size_t done = 0; done < bytes;) {
            ssize_t put = write(s, answer + done, bytes - done);
            if (put <= 0) {
                return;
            }
            done += (size_t)put;
        }
    }
}

static void clock_set_options(int s)
{
    int on = 1, idle_s = 3, probes = 100;
    if (setsockopt(s, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) != 0 ||
        setsockopt(s, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on)) != 0 ||
        setsockopt(s, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof(idle_s)) != 0 ||
        setsockopt(s, IPPROTO_TCP, TCP_KEEPINTVL, &idle_s, sizeof(idle_s)) != 0 ||
        setsockopt(s, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof(probes)) != 0) {
        perror("setsockopt");
        exit(1);
    }
}

int main(int argc, char **argv)
{
    struct sockaddr_in a = {.sin_family = AF_INET};
    if (argc != 3 || inet_pton(AF_INET, argv[1], &a.sin_addr) != 1) {
        fputs("usage: clock-peer ADDRESS PORT\n", stderr);
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    a.sin_port = htons((uint16_t)strtoul(argv[2], NULL, 0));
    for (;;) {
        int s = socket(AF_INET, SOCK_STREAM, 0);
        clock_set_options(s);
        if (connect(s, (struct sockaddr *)&a, sizeof(a)) == 0) {
            clock_serve(s);
        }
        fprintf(stderr, "clock-peer: the connection has ended: %s\n", strerror(errno));
        close(s);
        usleep(100000);
    }
}
