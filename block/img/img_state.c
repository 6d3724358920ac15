/* SPDX-License-Identifier: Apache-2.0 */
/* skiff-img state: checks the saved state of a machine and prints it. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include "block/img/img.h"
#include "util/opts/json.h"
#include "util/state/state_print.h"

#define STATE_STATUS_ERROR 1
#define STATE_STATUS_WRONG 2 /* the file was read and is no valid state */

typedef struct ImgState {
    BlockBackend *blk;
    uint8_t *data;
    uint64_t size;   /* bytes of the file */
    uint64_t length; /* of the stream */
    GError *error;
    int ret;
} ImgState;

/* Reads @size bytes from the start of the file. */
static coroutine_fn RUNS_IN_IOTHREAD int state_co_read(BlockBackend *blk, uint8_t *data,
                                                       uint64_t size)
{
    struct iovec iov = {.iov_base = data, .iov_len = size};
    return blk_co_preadv(blk, 0, size, &iov, 1, 0);
}

static void state_at_home(void *opaque)
{
    ImgState *s = opaque;
    uint8_t prefix[STATE_STREAM_PREFIX];
    enter_coroutine();
    enter_iothread(blk_home(s->blk));
    size_t available = s->size < sizeof(prefix) ? (size_t)s->size : sizeof(prefix);
    s->ret = state_co_read(s->blk, prefix, available);
    s->length = s->ret == 0 ? state_stream_length(prefix, available, &s->error) : 0;
    if (s->length > s->size) {
        s->length = s->size; /* state_stream_decode() says that it is cut short */
    }
    if (s->length > 0) {
        s->data = g_malloc(s->length);
        s->ret = state_co_read(s->blk, s->data, s->length);
    }
}

static void state_print_text(const StateStream *stream, bool values)
{
    g_autoptr(GString) text = g_string_new(NULL);
    state_print_head(stream, text);
    fputs(text->str, stdout);
    for (unsigned i = 0; i < stream->sections->len; i++) {
        g_string_truncate(text, 0);
        state_print_section(stream->sections->pdata[i], i, values, text);
        fputs(text->str, stdout);
    }
}

/* One section after the other, so that memory is bounded by the largest. */
static void state_print_json(const StateStream *stream, uint64_t size, bool values)
{
    struct json_object *o = state_json_head(stream);
    g_autoptr(GString) text = g_string_new(NULL);
    json_object_object_add(o, "file-size", json_object_new_uint64(size));
    json_write_text(text, o, true);
    json_object_put(o);
    g_string_truncate(text, text->len - strlen("\n}"));
    printf("%s,\n    \"sections\": [", text->str);
    for (unsigned i = 0; i < stream->sections->len; i++) {
        o = state_json_section(stream->sections->pdata[i], values);
        g_string_truncate(text, 0);
        json_write_text(text, o, true);
        json_object_put(o);
        printf("%s\n%s", i > 0 ? "," : "", text->str);
    }
    puts("\n    ]\n}");
}

static RUNS_IN_MAIN int state_finish(ImgState *s, const char *filename, bool json, bool values,
                                     bool quiet)
{
    if (s->ret < 0) {
        img_error("Could not read '%s': %s", filename, g_strerror(-s->ret));
        return STATE_STATUS_ERROR;
    }
    g_autoptr(StateStream) stream =
        s->data != NULL ? state_stream_decode(s->data, s->length, &s->error) : NULL;
    if (stream == NULL) {
        img_error("'%s': %s", filename, s->error->message);
        g_clear_error(&s->error);
        return STATE_STATUS_WRONG;
    }
    if (quiet) {
        return 0;
    }
    if (json) {
        state_print_json(stream, s->size, values);
    } else {
        state_print_text(stream, values);
        if (s->size > stream->bytes) {
            printf("behind the stream: %" PRIu64 " bytes\n", s->size - stream->bytes);
        }
    }
    return 0;
}

int img_co_state(Img *img)
{
    ImgOpen o = {.format = "raw"};
    bool json = false, quiet = false, brief = false;
    const ImgOption options[] = {
        {"output", 0, IMG_OUTPUT, &json},           {"brief", 0, IMG_FLAG, &brief},
        {"quiet", 'q', IMG_FLAG, &quiet},           {"force-share", 'U', IMG_FLAG, &o.force_share},
        {"image-opts", 0, IMG_FLAG, &o.image_opts}, {0},
    };
    int status;
    if (!img_parse_for_image(img, options, &status)) {
        return status;
    }
    o.filename = img->files[0];
    ImgState s = {.blk = img_co_open(img, "image", &o)};
    if (s.blk == NULL) {
        return STATE_STATUS_ERROR;
    }
    s.size = blk_size(s.blk);
    co_call_in(img->home, state_at_home, &s);
    blk_co_free(s.blk);
    status = state_finish(&s, o.filename, json, !brief, quiet);
    g_free(s.data);
    return status;
}
