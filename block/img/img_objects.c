/* SPDX-License-Identifier: Apache-2.0 */
/* Objects of --object: credentials for connections to NBD servers with TLS. */
#include <string.h>
#include "block/img/img.h"
#include "block/nbd/nbd_client_tls.h"
#include "util/tls_options.h"

typedef struct ImgObject {
    char *id;
    TlsCreds *creds;
} ImgObject;

static void objects_free(void *opaque)
{
    ImgObject *o = opaque;
    tls_creds_unref(o->creds);
    g_free(o->id);
    g_free(o);
}

static TlsCreds *objects_find(void *opaque, const char *id)
{
    const GPtrArray *made = opaque;
    for (unsigned i = 0; i < made->len; i++) {
        const ImgObject *o = made->pdata[i];
        if (strcmp(o->id, id) == 0) {
            return o->creds;
        }
    }
    return NULL;
}

static coroutine_fn RUNS_IN_MAIN bool objects_co_make(GPtrArray *made, const char *text,
                                                      GError **error)
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
        ImgObject *o = g_new0(ImgObject, 1);
        *o = (ImgObject){.id = g_strdup(opt_dict_get(d, "id")), .creds = creds};
        g_ptr_array_add(made, o);
    }
    return creds != NULL;
}

bool img_co_make_objects(Img *img)
{
    if (img->objects == NULL || img->made != NULL) {
        return true;
    }
    img->made = g_ptr_array_new_with_free_func(objects_free);
    for (unsigned i = 0; i < img->objects->len; i++) {
        g_autoptr(GError) error = NULL;
        if (!objects_co_make(img->made, img->objects->pdata[i], &error)) {
            img_error("%s", error->message);
            return false;
        }
    }
    nbd_client_set_tls_find(objects_find, img->made);
    return true;
}

void img_free_objects(Img *img)
{
    g_clear_pointer(&img->objects, g_ptr_array_unref);
    g_clear_pointer(&img->made, g_ptr_array_unref);
}
