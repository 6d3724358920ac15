/* SPDX-License-Identifier: Apache-2.0 */
/* Objects of --object: credentials for connections to NBD servers with TLS. */
#include "block/img/img.h"
#include "util/tls_options.h"

static coroutine_fn RUNS_IN_MAIN bool objects_co_make(const char *text, GError **error)
{
    TlsKind kind;
    g_autoptr(OptDict) d = opt_dict_parse(text, "qom-type", error);
    const char *type = d != NULL ? opt_dict_get(d, "qom-type") : NULL;
    if (d == NULL) {
        return false;
    }
    if (type == NULL || !tls_find_type(type, &kind)) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_UNKNOWN,
                    "--object: only tls-creds-anon, tls-creds-psk and tls-creds-x509");
        return false;
    }
    TlsCreds *creds = tls_co_creds_from_options(d, error);
    if (creds != NULL) {
        tls_objects_remove(opt_dict_get(d, "id")); /* the last one of an id holds */
        tls_objects_add(opt_dict_get(d, "id"), creds);
    }
    return creds != NULL;
}

bool img_co_make_objects(Img *img)
{
    if (img->objects == NULL || img->objects_made) {
        return true;
    }
    for (unsigned i = 0; i < img->objects->len; i++) {
        g_autoptr(GError) error = NULL;
        if (!objects_co_make(img->objects->pdata[i], &error)) {
            img_error("%s", error->message);
            return false;
        }
    }
    img->objects_made = true;
    return true;
}

void img_free_objects(Img *img)
{
    g_clear_pointer(&img->objects, g_ptr_array_unref);
}
