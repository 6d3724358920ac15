/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/monitor/qmp/qmp_framer.h"

void qmp_framer_init(QmpFramer *f)
{
    *f = (QmpFramer){.text = g_string_new(NULL)};
}

void qmp_framer_clear(QmpFramer *f)
{
    g_string_free(f->text, true);
    f->text = NULL;
}

bool qmp_framer_inside(const QmpFramer *f)
{
    return f->state != QMP_FRAMER_BETWEEN && f->state != QMP_FRAMER_RECOVERING;
}

static bool qmp_byte_is_blank(uint8_t byte)
{
    return byte == ' ' || byte == '\t' || byte == '\r' || byte == '\n';
}

/* Whether @byte is invalid in JSON, or valid only between tokens (\t \r \n). */
static bool qmp_byte_resets(uint8_t byte)
{
    return byte < 0x20 || byte >= 0xfe;
}

static QmpFrame qmp_framer_fail(QmpFramer *f, QmpFramerState state, const char *message,
                                const char **error)
{
    bool told = f->skipping;
    f->state = state;
    f->depth = 0;
    f->skipping = false;
    *error = message;
    return told ? QMP_FRAME_NONE : QMP_FRAME_ERROR;
}

static QmpFrame qmp_framer_end(QmpFramer *f)
{
    bool told = f->skipping;
    f->state = QMP_FRAMER_BETWEEN;
    f->skipping = false;
    return told ? QMP_FRAME_NONE : QMP_FRAME_VALUE;
}

static QmpFrame qmp_framer_open(QmpFramer *f, bool array, const char **error)
{
    if (f->depth == QMP_VALUE_DEPTH) {
        return qmp_framer_fail(f, QMP_FRAMER_RECOVERING, "nested too deeply", error);
    }
    uint64_t bit = UINT64_C(1) << f->depth;
    f->arrays = array ? f->arrays | bit : f->arrays & ~bit;
    f->depth++;
    f->state = QMP_FRAMER_INSIDE;
    return QMP_FRAME_NONE;
}

static QmpFrame qmp_framer_close(QmpFramer *f, bool array, const char **error)
{
    bool opened_array = ((f->arrays >> (f->depth - 1)) & 1) != 0;
    if (opened_array != array) {
        return qmp_framer_fail(f, QMP_FRAMER_RECOVERING, "mismatched bracket", error);
    }
    f->depth--;
    return f->depth == 0 ? qmp_framer_end(f) : QMP_FRAME_NONE;
}

static QmpFrame qmp_framer_between(QmpFramer *f, uint8_t byte, const char **error)
{
    if (qmp_byte_is_blank(byte)) {
        return QMP_FRAME_NONE;
    }
    if (qmp_byte_resets(byte)) {
        return qmp_framer_fail(f, QMP_FRAMER_BETWEEN, "stray control character", error);
    }
    switch (byte) {
    case '{':
    case '[':
        return qmp_framer_open(f, byte == '[', error);
    case '"':
    case '\'':
        f->state = QMP_FRAMER_STRING;
        f->quote = byte;
        return QMP_FRAME_NONE;
    default:
        return qmp_framer_fail(f, QMP_FRAMER_RECOVERING, "expecting an object", error);
    }
}

static QmpFrame qmp_framer_inside_byte(QmpFramer *f, uint8_t byte, const char **error)
{
    if (qmp_byte_resets(byte) && !qmp_byte_is_blank(byte)) {
        return qmp_framer_fail(f, QMP_FRAMER_BETWEEN, "stray control character in a value", error);
    }
    switch (byte) {
    case '{':
    case '[':
        return qmp_framer_open(f, byte == '[', error);
    case '}':
    case ']':
        return qmp_framer_close(f, byte == ']', error);
    case '"':
    case '\'':
        f->state = QMP_FRAMER_STRING;
        f->quote = byte;
        return QMP_FRAME_NONE;
    default:
        return QMP_FRAME_NONE;
    }
}

static QmpFrame qmp_framer_string(QmpFramer *f, uint8_t byte, const char **error)
{
    if (qmp_byte_resets(byte)) {
        return qmp_framer_fail(f, QMP_FRAMER_BETWEEN, "unterminated string", error);
    }
    if (f->state == QMP_FRAMER_ESCAPE) {
        f->state = QMP_FRAMER_STRING;
    } else if (byte == '\\') {
        f->state = QMP_FRAMER_ESCAPE;
    } else if (byte == f->quote) {
        f->state = QMP_FRAMER_INSIDE;
        return f->depth == 0 ? qmp_framer_end(f) : QMP_FRAME_NONE;
    }
    return QMP_FRAME_NONE;
}

/* Drops the text and frees the memory of a long value. */
static void qmp_framer_forget(QmpFramer *f)
{
    if (f->text->allocated_len > QMP_VALUE_MAX / 16) {
        g_string_free(f->text, true);
        f->text = g_string_new(NULL);
    } else {
        g_string_truncate(f->text, 0);
    }
}

/* Appends a byte of a value, including its first byte. */
static QmpFrame qmp_framer_keep(QmpFramer *f, uint8_t byte, const char **error)
{
    if (f->skipping) {
        return QMP_FRAME_NONE;
    }
    if (f->text->len == QMP_VALUE_MAX) {
        f->skipping = true;
        qmp_framer_forget(f);
        *error = "longer than 1 MiB";
        return QMP_FRAME_ERROR;
    }
    g_string_append_c(f->text, (char)byte);
    return QMP_FRAME_NONE;
}

static QmpFrame qmp_framer_byte(QmpFramer *f, uint8_t byte, const char **error)
{
    switch (f->state) {
    case QMP_FRAMER_RECOVERING:
        if (byte != '{' && byte != '[') {
            f->state = qmp_byte_resets(byte) ? QMP_FRAMER_BETWEEN : QMP_FRAMER_RECOVERING;
            return QMP_FRAME_NONE;
        }
        f->state = QMP_FRAMER_BETWEEN;
        return qmp_framer_between(f, byte, error);
    case QMP_FRAMER_BETWEEN:
        return qmp_framer_between(f, byte, error);
    case QMP_FRAMER_INSIDE:
        return qmp_framer_inside_byte(f, byte, error);
    case QMP_FRAMER_STRING:
    case QMP_FRAMER_ESCAPE:
        return qmp_framer_string(f, byte, error);
    }
    return QMP_FRAME_NONE;
}

QmpFrame qmp_framer_feed(QmpFramer *f, const uint8_t *data, size_t size, size_t *used,
                         const char **error)
{
    for (size_t i = 0; i < size; i++) {
        if (!qmp_framer_inside(f)) {
            qmp_framer_forget(f);
        }
        QmpFrame frame = qmp_framer_byte(f, data[i], error);
        if (frame != QMP_FRAME_ERROR && (frame == QMP_FRAME_VALUE || qmp_framer_inside(f)) &&
            qmp_framer_keep(f, data[i], error) == QMP_FRAME_ERROR) {
            if (frame == QMP_FRAME_VALUE) { /* only its last byte exceeds the limit */
                f->skipping = false;
            }
            frame = QMP_FRAME_ERROR;
        }
        if (frame != QMP_FRAME_NONE) {
            *used = i + 1;
            return frame;
        }
    }
    *used = size;
    return QMP_FRAME_NONE;
}
