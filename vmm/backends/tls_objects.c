/* SPDX-License-Identifier: Apache-2.0 */
/* TLS credentials of the VM, by -object and object-add. */
#include <string.h>
#include "block/nbd/nbd_client_tls.h"
#include "util/tls_options.h"
#include "vmm/backends/backends.h"

TlsObject *backends_find_tls(const Backends *b, const char *id)
{
    for (unsigned i = 0; i < b->tls->len; i++) {
        TlsObject *o = b->tls->pdata[i];
        if (strcmp(o->id, id) == 0) {
            return o;
        }
    }
    return NULL;
}

static TlsCreds *tls_find_for_disk(void *opaque, const char *id)
{
    enter_main();
    const TlsObject *o = backends_find_tls(opaque, id);
    return o != NULL ? o->creds : NULL;
}

void backends_offer_tls(Backends *b)
{
    nbd_client_set_tls_find(tls_find_for_disk, b);
}

void backends_free_tls(void *opaque)
{
    TlsObject *o = opaque;
    tls_creds_unref(o->creds);
    g_free(o->id);
    g_free(o);
}

TlsObject *backends_co_make_tls(const OptDict *opts, GError **error)
{
    TlsCreds *creds = tls_co_creds_from_options(opts, error);
    if (creds == NULL) {
        return NULL;
    }
    TlsObject *o = g_new0(TlsObject, 1);
    o->id = g_strdup(opt_dict_get(opts, "id"));
    o->creds = creds;
    return o;
}
