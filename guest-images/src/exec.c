/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An agent for skiff -exec that needs no operating system. Instead of running the command it is
 * given, it does what the command's first word says:
 *
 *   exit N    ends with status N             signal N   ends by signal N
 *   streams   "out" and "err", ends with 7   big N      N bytes of standard output, ends with 0
 *   cat       standard input to output       hang       nothing more
 *   panic, reset, triple, poweroff           "last words", then ends the machine so
 *   panic 1   panics, and powers off at once
 *   garbage   bytes that are no frame        flood      more output than there is room for
 *   close     closes the port
 *   disk N    prints the first byte of the disk, writes N there, and ends with the byte that it reads back
 *   memory N  writes N MiB of memory, waits for the end of standard input, and ends with 0 if they are unchanged
 *
 * Words on the kernel's command line: `stays` does not switch off at the end; before=panic, reset,
 * triple, poweroff, hang, garbage happens before the greeting; with=disk starts the disk before it.
 */
#include "lib/blk_request.h"
#include "lib/guest.h"
#include "lib/memory.h"
#include "lib/power.h"
#include "lib/vport.h"
#include "util/exec_protocol.h"

typedef struct Frame {
    uint8_t type;
    uint32_t size;
    uint8_t payload[EXEC_RUN_BYTES + EXEC_COMMAND_MAX + 1];
} Frame;

typedef struct Input {
    uint32_t size, granted; /* received; granted */
    bool ended;
    uint8_t data[16384];
} Input;

static Frame frame;
static Input input;
static uint32_t room[2]; /* of standard output and standard error */

static uint32_t get_u32(const uint8_t *at)
{
    return at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

static void send_frame(uint8_t type, const void *payload, uint32_t size)
{
    static uint8_t bytes[EXEC_HEADER_BYTES + EXEC_DATA_MAX];
    bytes[0] = type;
    bytes[1] = 0;
    bytes[2] = (uint8_t)size;
    bytes[3] = (uint8_t)(size >> 8);
    memcpy(bytes + EXEC_HEADER_BYTES, payload, size);
    vport_send(bytes, EXEC_HEADER_BYTES + size);
}

static void receive_exactly(uint8_t *data, size_t size)
{
    while (size > 0) {
        size_t n = vport_receive(data, size);
        data += n;
        size -= n;
        cpu_pause();
    }
}

static void receive_frame(void)
{
    uint8_t header[EXEC_HEADER_BYTES];
    receive_exactly(header, sizeof(header));
    frame.type = header[0];
    frame.size = header[2] | (uint32_t)header[3] << 8;
    if (frame.size >= sizeof(frame.payload)) {
        guest_fail("skiff sends a frame of %u bytes", frame.size);
    }
    receive_exactly(frame.payload, frame.size);
    frame.payload[frame.size] = '\0';
}

/* Reads the next frame; grants and standard input are handled here. */
static void take_frame(void)
{
    receive_frame();
    if (frame.type == EXEC_WINDOW) {
        room[frame.payload[0] - EXEC_STDOUT] += get_u32(frame.payload + 4);
    } else if (frame.type == EXEC_STDIN) {
        if (frame.size > input.granted) {
            guest_fail("skiff sends more than it may");
        }
        memcpy(input.data + input.size, frame.payload, frame.size);
        input.size += frame.size;
        input.granted -= frame.size;
    } else if (frame.type == EXEC_STDIN_END) {
        input.ended = true;
    }
}

static void write_stream(uint8_t type, const void *data, uint32_t size)
{
    while (room[type - EXEC_STDOUT] < size) {
        take_frame();
    }
    room[type - EXEC_STDOUT] -= size;
    send_frame(type, data, size);
}

static void write_text(uint8_t type, const char *text)
{
    write_stream(type, text, (uint32_t)strlen(text));
}

static void send_exit(uint8_t how, uint64_t number)
{
    uint8_t payload[4] = {how, (uint8_t)number, 0, 0};
    send_frame(EXEC_EXIT, payload, sizeof(payload));
}

/* Whether @command begins with @word; *@number is the number after it, or 0. */
static bool command_is(const char *command, const char *word, uint64_t *number)
{
    size_t size = strlen(word);
    *number = 0;
    if (memcmp(command, word, size) != 0 || (command[size] != '\0' && command[size] != ' ')) {
        return false;
    }
    if (command[size] == ' ' &&
        !text_parse_number(command + size + 1, strlen(command + size + 1), number)) {
        guest_refuse(EXIT_USAGE, "%s wants a number", word);
    }
    return true;
}

static void write_pattern(uint64_t size)
{
    static uint8_t data[EXEC_DATA_MAX];
    for (uint64_t at = 0; at < size;) {
        uint32_t chunk = size - at < sizeof(data) ? (uint32_t)(size - at) : sizeof(data);
        for (uint32_t i = 0; i < chunk; i++) {
            data[i] = (at + i) % 64 == 63 ? '\n' : (uint8_t)('0' + (at + i) / 64 % 10);
        }
        write_stream(EXEC_STDOUT, data, chunk);
        at += chunk;
    }
}

/* Grants all free room: received input that is not written stays in the buffer. */
static void grant_input(void)
{
    uint32_t more = sizeof(input.data) - input.size - input.granted;
    uint8_t payload[4] = {(uint8_t)more, (uint8_t)(more >> 8), (uint8_t)(more >> 16), 0};
    if (more >= sizeof(input.data) / 2) {
        send_frame(EXEC_STDIN_WINDOW, payload, sizeof(payload));
        input.granted += more;
    }
}

static void copy_input(void)
{
    static uint8_t data[EXEC_DATA_MAX];
    while (input.size > 0 || !input.ended) {
        grant_input();
        if (input.size == 0) {
            take_frame();
            continue;
        }
        uint32_t chunk = input.size < sizeof(data) ? input.size : sizeof(data);
        memcpy(data, input.data, chunk);
        input.size -= chunk;
        memmove(input.data, input.data + chunk, input.size);
        write_stream(EXEC_STDOUT, data, chunk); /* more input may arrive meanwhile */
    }
}

/* ---- a disk ---- */

static BlkDevice *blk;
static BlkRequest disk_request;
static Random disk_random = {.state = 1};

static void open_disk(void)
{
    if (blk == NULL) {
        blk = blk_open();
        blk_request_init(&disk_request, 1);
    }
}

/* Does a request of the first sector, whose first byte it returns. */
static uint8_t use_disk(BlkKind kind, uint8_t byte)
{
    Virtqueue *ring = &blk->queues[0].ring;
    BlkRequest *r = &disk_request;
    uint32_t written;
    r->kind = kind;
    r->sector = 0;
    r->sector_count = kind == BLK_KIND_FLUSH ? 0 : 1;
    blk_request_place(r, &disk_random, false);
    if (kind == BLK_KIND_WRITE) {
        memset(r->data, byte, BLK_SECTOR_SIZE);
    }
    unsigned out_count = blk_request_lay_out(r, blk, &disk_random, ring->size, false);
    if (!virtqueue_add(ring, r->buffers, out_count, r->buffer_count - out_count, r, false)) {
        guest_fail("exec: the disk's queue has no room");
    }
    virtqueue_kick(ring);
    while (virtqueue_take(ring, &written) == NULL) {
        cpu_pause();
    }
    if (!blk_request_succeeded(r)) {
        guest_fail("exec: %s of the disk failed", blk_request_name(r));
    }
    blk_request_check_guards(r);
    return kind == BLK_KIND_READ ? r->data[0] : byte;
}

static uint8_t change_disk(uint8_t byte)
{
    static const char digits[] = "0123456789abcdef";
    open_disk();
    uint8_t before = use_disk(BLK_KIND_READ, 0);
    const char text[] = {digits[before >> 4], digits[before & 15], '\n', '\0'};
    write_text(EXEC_STDOUT, text);
    use_disk(BLK_KIND_WRITE, byte);
    use_disk(BLK_KIND_FLUSH, 0);
    return use_disk(BLK_KIND_READ, 0);
}

/* ---- memory ---- */

/* Writes the first word of each page; whether they are the same when standard input has ended. */
static bool keep_memory(uint64_t mib)
{
    const uint64_t size = mib << 20, page = 4096;
    uint8_t *memory = memory_alloc(size, page);
    for (uint64_t at = 0; at < size; at += page) {
        *(volatile uint64_t *)(void *)(memory + at) = at ^ size;
    }
    write_text(EXEC_STDOUT, "written\n");
    copy_input();
    for (uint64_t at = 0; at < size; at += page) {
        if (*(volatile uint64_t *)(void *)(memory + at) != (at ^ size)) {
            return false;
        }
    }
    return true;
}

static void send_garbage(void)
{
    static const uint8_t garbage[] = "\xff\xfe garbage";
    vport_send(garbage, sizeof(garbage));
}

static void flood(void)
{
    static uint8_t data[EXEC_DATA_MAX];
    for (;;) {
        send_frame(EXEC_STDERR, data, sizeof(data));
    }
}

/* Ends the machine; false if @word is no way to end it. */
static bool end_machine(const char *word)
{
    uint64_t none, also;
    if (command_is(word, "panic", &also)) {
        power_panic();
        if (also != 0) {
            power_off();
        }
    } else if (command_is(word, "reset", &none)) {
        power_reset();
    } else if (command_is(word, "triple", &none)) {
        power_triple_fault();
    } else if (command_is(word, "poweroff", &none)) {
        power_off();
    } else if (!command_is(word, "hang", &none)) {
        return false;
    }
    return true;
}

/* True: the command has ended, and the result was sent. */
static bool run(const char *command)
{
    uint64_t number;
    if (command_is(command, "exit", &number)) {
        send_exit(EXEC_EXIT_STATUS, number);
    } else if (command_is(command, "signal", &number)) {
        send_exit(EXEC_EXIT_SIGNAL, number);
    } else if (command_is(command, "streams", &number)) {
        write_text(EXEC_STDOUT, "out\n");
        write_text(EXEC_STDERR, "err\n");
        send_exit(EXEC_EXIT_STATUS, 7);
    } else if (command_is(command, "big", &number)) {
        write_pattern(number);
        send_exit(EXEC_EXIT_STATUS, 0);
    } else if (command_is(command, "cat", &number)) {
        copy_input();
        send_exit(EXEC_EXIT_STATUS, 0);
    } else if (command_is(command, "disk", &number)) {
        send_exit(EXEC_EXIT_STATUS, change_disk((uint8_t)number));
    } else if (command_is(command, "memory", &number)) {
        send_exit(EXEC_EXIT_STATUS, keep_memory(number) ? 0 : 1);
    } else if (command_is(command, "garbage", &number)) {
        send_garbage();
        return false;
    } else if (command_is(command, "flood", &number)) {
        flood();
    } else if (command_is(command, "close", &number)) {
        vport_close();
        return false;
    } else {
        write_text(EXEC_STDOUT, "last words\n");
        if (!end_machine(command)) {
            guest_refuse(EXIT_USAGE, "exec: what is '%s'?", command);
        }
        return false;
    }
    return true;
}

static void before_greeting(void)
{
    static const char *const ends[] = {"panic", "reset", "triple", "poweroff", "hang"};
    for (unsigned i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
        if (bootinfo_is_value("before", ends[i])) {
            end_machine(ends[i]);
            cpu_halt();
        }
    }
}

void guest_main(void)
{
    static uint8_t hello[EXEC_MAGIC_BYTES + 4] = EXEC_MAGIC;
    bool stays = bootinfo_has_word("stays");
    printf("exec: started\n");
    before_greeting();
    if (bootinfo_is_value("with", "disk")) {
        open_disk();
        use_disk(BLK_KIND_READ, 0);
    }
    vport_open(EXEC_PORT_NAME);
    if (bootinfo_is_value("before", "garbage")) {
        send_garbage();
        cpu_halt();
    }
    hello[EXEC_MAGIC_BYTES] = EXEC_PROTOCOL_VERSION;
    hello[EXEC_MAGIC_BYTES + 2] = stays ? 0 : EXEC_HELLO_POWERS_OFF;
    send_frame(EXEC_HELLO, hello, sizeof(hello));
    receive_frame();
    if (frame.type != EXEC_RUN) {
        guest_fail("skiff begins with frame %u", frame.type);
    }
    room[0] = get_u32(frame.payload + 4);
    room[1] = get_u32(frame.payload + 8);
    printf("exec: running %s\n", (const char *)frame.payload + EXEC_RUN_BYTES);
    if (run((const char *)frame.payload + EXEC_RUN_BYTES)) {
        do {
            take_frame();
        } while (frame.type != EXEC_BYE);
        printf("exec: done\n");
        if (!stays) {
            power_off();
        }
    }
    cpu_halt();
}
