/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A hostile vhost-user back end: replies that lie, bytes that are no messages, descriptors, silence, and
 * the end of the connection at any moment, while a device is opened, started, stopped and configured.
 *
 *   fuzz_vhost_user [--seconds N] [--seed N] [--steps N]
 *
 * After each round all calls have ended within their time, and a back end that means well is accepted and
 * serves. ASan, the asserts and the count of descriptors judge the rest.
 */
#include <sys/socket.h>
#include "tests/hw/vhost/vhost_user_rig.h"
#include "tests/support/fuzzer.h"

#define FUZZ_CALL_NS SECONDS(30) /* more than any call may take */
#define FUZZ_ROUND 24
#define FUZZ_STEP_SECONDS 60u

static bool hostile;

static uint64_t odd_number(void)
{
    static const uint64_t numbers[] = {
        0,      1,      2,       7,        8,          12,         20,         0xff,      0x100,
        0x7fff, 0xffff, 0x10000, 1u << 31, UINT32_MAX, 1ull << 32, 1ull << 63, UINT64_MAX};
    return fuzz_below(3) == 0 ? fuzz_random() : FUZZ_PICK(numbers);
}

/* ---- what the peer does ---- */

static void send_garbage(VhostUserPeer *p, int fd)
{
    uint32_t bytes[64];
    struct iovec iov = {.iov_base = bytes, .iov_len = fuzz_below(sizeof(bytes))};
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(16 * sizeof(int))];
    } control = {0};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
    unsigned fds = fuzz_below(3) == 0 ? (unsigned)fuzz_below(17) : 0;
    for (unsigned i = 0; i < G_N_ELEMENTS(bytes); i++) {
        bytes[i] = (uint32_t)odd_number();
    }
    if (fuzz_below(2) == 0) { /* a header that could be one */
        bytes[0] = (uint32_t)fuzz_below(44);
        bytes[1] = VHOST_USER_VERSION | (uint32_t)(fuzz_below(4) << 2);
        bytes[2] = (uint32_t)fuzz_below(300);
    }
    if (fds > 0) {
        m.msg_control = &control;
        m.msg_controllen = CMSG_SPACE(fds * sizeof(int));
        struct cmsghdr *c = CMSG_FIRSTHDR(&m);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(fds * sizeof(int));
        for (unsigned i = 0; i < fds; i++) {
            memcpy(CMSG_DATA(c) + i * sizeof(int), &fd, sizeof(int));
        }
    }
    (void)!sendmsg(fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void tamper(VhostUserPeer *p, VhostUserMessage *reply)
{
    if (!hostile || fuzz_below(12) != 0) {
        return;
    }
    uint8_t *payload = (uint8_t *)&reply->payload;
    switch (fuzz_below(9)) {
    case 0:
        reply->header.request = (uint32_t)odd_number();
        return;
    case 1:
        reply->header.flags = (uint32_t)odd_number();
        return;
    case 2:
        reply->header.size = (uint32_t)fuzz_below(sizeof(reply->payload) + 1);
        return;
    case 3: /* one that cannot be right */
        reply->header.size = 0;
        send_garbage(p, p->fd);
        return;
    case 4:
    case 5:
        payload[fuzz_below(sizeof(reply->payload))] ^= (uint8_t)(1u << fuzz_below(8));
        return;
    case 6:
        reply->payload.u64 = odd_number();
        return;
    case 7:
        while (reply->fd_count < VHOST_USER_MAX_FDS && fuzz_below(3) != 0) {
            reply->fds[reply->fd_count++] = p->fd;
        }
        return;
    default:
        vhost_user_peer_kill(p);
        return;
    }
}

static void peer_act(Rig *r)
{
    VhostUserPeer *p = r->peer;
    if (p->fd < 0) {
        p->mute = fuzz_below(8) == 0 ? (uint32_t)fuzz_below(41) : 0;
        vhost_user_peer_connect(p);
        return;
    }
    switch (fuzz_below(8)) {
    case 0:
        vhost_user_peer_kill(p);
        return;
    case 1:
        send_garbage(p, p->fd);
        return;
    case 2:
        if (p->channel >= 0) {
            send_garbage(p, p->channel);
        }
        return;
    case 3:
        if (p->channel >= 0) {
            vhost_user_peer_send(p, VHOST_USER_BACKEND_CONFIG_CHANGE_MSG, fuzz_below(2) == 0);
        }
        return;
    case 4:
        p->refuse = (uint32_t)fuzz_below(41);
        return;
    case 5:
        p->rings[fuzz_below(RIG_RINGS)].base = (uint32_t)odd_number();
        return;
    default:
        p->mute = fuzz_below(6) == 0 ? (uint32_t)fuzz_below(41) : 0;
        return;
    }
}

/* ---- the device's side ---- */

/* Runs a call while the peer acts, until it ends. */
static void run_call(Rig *r, CoroutineEntry *fn)
{
    int64_t begin_ns = aio_now_ns(r->ctx);
    rig_begin(r, fn);
    while (!r->done) {
        if (hostile && fuzz_below(3) == 0) {
            peer_act(r);
        }
        fake_machine_advance(r->machine, SECONDS(1) / 2);
        fuzz_require(aio_now_ns(r->ctx) - begin_ns < FUZZ_CALL_NS, "a call ends in time", NULL);
    }
}

static bool is_open(const Rig *r)
{
    return r->user.name != NULL;
}

static void device_act(Rig *r)
{
    if (!is_open(r)) {
        run_call(r, rig_open_run);
        return;
    }
    switch (r->user.dev.phase) {
    case VHOST_STOPPED:
        if (fuzz_below(2) == 0) { /* the driver resets the device */
            vhost_user_forget_requests(&r->user);
        }
        if (fuzz_below(8) == 0) {
            run_call(r, rig_close_run);
        } else {
            run_call(r, fuzz_below(4) == 0 ? rig_set_config_run : rig_start_run);
        }
        return;
    default:
        run_call(r, fuzz_below(3) == 0 ? rig_set_config_run : rig_stop_run);
        return;
    }
}

static void mean_well(Rig *r)
{
    VhostUserPeer *p = r->peer;
    hostile = false;
    p->mute = p->refuse = 0;
    if (is_open(r) && r->user.dev.phase != VHOST_STOPPED) {
        run_call(r, rig_stop_run);
    }
    vhost_user_peer_kill(p);
    fake_machine_run(r->machine);
    vhost_user_peer_connect(p);
    fake_machine_run(r->machine);
    if (is_open(r) && !r->user.dev.usable) { /* the first one has offered more */
        run_call(r, rig_close_run);
        vhost_user_peer_kill(p);
        vhost_user_peer_connect(p);
    }
    if (!is_open(r)) {
        run_call(r, rig_open_run);
    }
    vhost_user_forget_requests(&r->user);
    fuzz_require(is_open(r) && r->user.dev.usable, "a good back end is accepted", r->error);
    run_call(r, rig_start_run);
    fuzz_require(r->ok, "a good back end starts", r->error);
    run_call(r, rig_stop_run);
    fuzz_require(r->ok, "a good back end stops", NULL);
    hostile = true;
}

int main(int argc, char **argv)
{
    void *state;
    fuzz_begin("fuzz_vhost_user", argc, argv);
    if (!log_open("/dev/null", false)) {
        return 1;
    }
    while (fuzz_goes_on()) {
        alarm(FUZZ_STEP_SECONDS);
        rig_set_up(&state);
        Rig *r = state;
        enter_main();
        r->peer->lie = tamper;
        r->peer->protocol |= fuzz_below(2) << VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD;
        r->needs.in_order = fuzz_below(2) == 0;
        hostile = true;
        for (unsigned i = 0; i < FUZZ_ROUND; i++) {
            peer_act(r);
            device_act(r);
        }
        mean_well(r);
        rig_tear_down(&state);
        alarm(0);
    }
    fuzz_end("rounds");
    return 0;
}
