/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/net_steps.h"

#include <string.h>

void net_step_add(void *opaque)
{
    NetStep *s = opaque;
    enter_main();
    enter_coroutine();
    g_autoptr(OptDict) opts = opt_dict_parse(s->text, "type", &s->error);
    s->ok = opts != NULL && net_co_add(opts, &s->error);
}

void net_step_remove(void *opaque)
{
    NetStep *s = opaque;
    enter_main();
    enter_coroutine();
    s->ok = net_co_remove(s->text, &s->error);
}

void net_step_leave(void *opaque)
{
    enter_main();
    enter_coroutine();
    net_client_co_leave(opaque);
}

void net_step_shutdown(void *opaque)
{
    enter_main();
    enter_coroutine();
    net_co_shutdown();
}

void net_steps_run(VirtioBench *b, void (*fn)(void *opaque), const char *text)
{
    NetStep s = {.text = text};
    virtio_bench_run(b, fn, &s);
    if (!s.ok) {
        g_error("%s: %s", text, s.error->message);
    }
}

void net_steps_refused(VirtioBench *b, void (*fn)(void *opaque), const char *text, const char *why)
{
    NetStep s = {.text = text};
    virtio_bench_run(b, fn, &s);
    if (s.ok || strstr(s.error->message, why) == NULL) {
        g_error("%s: '%s' lacks '%s'", text, s.ok ? "success" : s.error->message, why);
    }
    g_error_free(s.error);
}
