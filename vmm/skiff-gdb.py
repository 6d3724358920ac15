# SPDX-License-Identifier: Apache-2.0
"""gdb commands for skiff, for a live process and for a core file.

    source /usr/local/share/skiff/skiff-gdb.py
    help skiff

The commands call no function of the process and write neither registers nor memory. Their output comes
from skiff's data structures, whose names are those of the C files; docs/debugging-skiff.md has examples.

The stack of a waiting coroutine: co_switch() (util/loop/co_switch.S) pushed the callee-saved registers
on it and stored their address in Coroutine.stack.sp. A gdb unwinder claims frame 0 of a thread and
gives its caller those registers. So frame 1 is the coroutine's, and gdb unwinds from there by itself.
"""
import contextlib
import re
import time

import gdb
import gdb.unwinder

# util/loop/coroutine.c: the low bits of Coroutine.wait_word.
WAIT_STATES = {0: "ready", 1: "ready", 2: "waits", 3: "ready"}
# The registers that co_switch() pushes, from the saved stack pointer up.
SWITCH_FRAME = ("r15", "r14", "r13", "r12", "rbx", "rbp", "rip")
# The innermost of these functions in a thread's stack gives the thread's activity.
ACTIVITIES = {
    "aio_epoll": "sleeps in its loop",
    "vcpu_park": "parked",
    "vcpu_wait_for_request": "runs nothing until it is parked",
    "worker_next_job": "idle",
    "wait_watchdog_run": "watches for long waits",
}


# ---- reading skiff's data -------------------------------------------------------------------

def static(source, name):
    """A variable of a C file, or None if it or the thread's instance of it does not exist."""
    try:
        value = gdb.parse_and_eval("'%s'::%s" % (source, name))
        value.fetch_lazy()
        return value
    except gdb.error:
        return None


def require(source, name):
    value = static(source, name)
    if value is None:
        raise gdb.GdbError("there is no %s of %s: no skiff here, or one without debug information"
                           % (name, source))
    return value


def text(pointer, default=""):
    """A C string: a pointer to it, or the array."""
    if pointer.type.strip_typedefs().code == gdb.TYPE_CODE_PTR and int(pointer) == 0:
        return default
    try:
        return pointer.string(errors="replace")
    except gdb.error:
        return "(unreadable)"


def linked(head, link="next", limit=100000):
    """The elements of a list; a corrupt list ends early."""
    seen = set()
    while int(head) != 0 and int(head) not in seen and len(seen) < limit:
        seen.add(int(head))
        yield head.dereference()
        head = head[link]


def pointers(array, type_name):
    """The elements of a GPtrArray."""
    if int(array) == 0:
        return
    pointer = gdb.lookup_type(type_name).pointer()
    for i in range(int(array["len"])):
        yield array["pdata"][i].cast(pointer)


def function_at(address):
    block = None
    with contextlib.suppress(RuntimeError, gdb.error):
        block = gdb.block_for_pc(int(address))
    while block is not None and block.function is None:
        block = block.superblock
    return block.function.name if block is not None else "%#x" % int(address)


def source_at(address):
    """function (file:line)"""
    place = gdb.find_pc_line(int(address))
    if place.symtab is None:
        return function_at(address)
    return "%s (%s:%d)" % (function_at(address), place.symtab.filename, place.line)


def symbol_name(pointer):
    """The name of the variable that a pointer points to."""
    match = re.search(r"<([^>+]+)(\+\d+)?>", gdb.parse_and_eval("(void *)%d" % int(pointer)).format_string())
    return match.group(1) if match else "%#x" % int(pointer)


def enum_name(value, prefix):
    return str(value).replace(prefix, "").lower().replace("_", " ")


def age(since_ns):
    """" for 3.2 s", if this machine's clock is the process's own."""
    inferior = gdb.selected_inferior()
    connection = getattr(inferior, "connection", None)
    if connection is None or connection.type != "native":
        return ""
    return " for %.1f s" % ((time.clock_gettime(time.CLOCK_MONOTONIC) * 1e9 - int(since_ns)) / 1e9)


@contextlib.contextmanager
def selection_kept():
    thread = gdb.selected_thread()
    frame = None
    with contextlib.suppress(gdb.error):
        frame = gdb.selected_frame()
    try:
        yield
    finally:
        if thread is not None and thread.is_valid():
            thread.switch()
        with contextlib.suppress(gdb.error):
            if frame is not None and frame.is_valid():
                frame.select()


# ---- threads --------------------------------------------------------------------------------

class Thread:
    """The thread-local variables of a thread. @thread is selected during construction."""

    def __init__(self, thread):
        self.thread = thread
        self.lwp = thread.ptid[1]
        role = static("util/loop/thread.c", "self_role")
        self.readable = role is not None
        self.name = thread.name or "?"
        self.role = "?"
        self.identity = self.coroutine = 0
        self.held = []
        if not self.readable:
            return
        self.role = enum_name(role, "THREAD_")
        own_name = static("util/loop/thread.c", "self_name").string(errors="replace")
        self.name = own_name or self.name
        self.identity = int(static("util/loop/waitgraph.c", "self_identity").address)
        self.coroutine = int(static("util/loop/coroutine.c", "co_thread")["current"])
        self.held = held_things(static("util/loop/held.c", "thread_set"))

    def activity(self):
        """The thread's activity, from its stack."""
        frame = gdb.newest_frame()
        own = None
        while frame is not None and frame.is_valid():
            name = frame.name()
            if name in ACTIVITIES:
                return ACTIVITIES[name]
            if name == "vcpu_run_once" and own is None:
                return "in KVM_RUN"
            if own is None and is_own(frame):
                own = "in %s" % source_at(frame.pc())
            frame = frame.older()
        return own or ("in %s" % (gdb.newest_frame().name() or "?"))


def is_own(frame):
    """Whether a frame is in skiff's code, not in a library's."""
    symtab = frame.find_sal().symtab
    return symtab is not None and not symtab.filename.startswith(("/", "..", "./"))


def all_threads():
    """Selects each thread in turn."""
    inferior = gdb.selected_inferior()
    if not inferior.threads():
        raise gdb.GdbError("there is no process and no core file")
    for thread in sorted(inferior.threads(), key=lambda t: t.num):
        thread.switch()
        gdb.newest_frame().select()
        yield Thread(thread)


def thread_table():
    with selection_kept():
        return list(all_threads())


# ---- waits and held things ------------------------------------------------------------------

def wait_records():
    """The records by waiter: a coroutine's address, or a thread's identity."""
    head = static("util/loop/waitgraph.c", "graph_head")
    return {} if head is None else {int(w["waiter"]): w for w in linked(head)}


def holder_name(holder, threads):
    if int(holder) == 0:
        return ""
    for thread in threads:
        if thread.identity == int(holder):
            return ", which thread %s has" % thread.name
    for co in linked(require("util/loop/coroutine.c", "co_made"), "next_made"):
        if int(co.address) == int(holder):
            return ", which coroutine %#x has" % int(holder)
    with contextlib.suppress(gdb.error):
        context = holder.cast(gdb.lookup_type("AioContext").pointer())
        return ", which the loop of %s is to end" % text(context["name"])
    return ", which %#x has" % int(holder)


def describe_wait(record, threads):
    return "waits for %s%s%s" % (text(record["what"]), age(record["since_ns"]),
                                 holder_name(record["holder"], threads))


def held_things(held_set):
    count = min(int(held_set["count"]), held_set["things"].type.range()[1] + 1)
    return [held_set["things"][i] for i in range(count)]


def held_names(things):
    return ", ".join(text(t["name"]) for t in things)


# ---- coroutines -----------------------------------------------------------------------------

def live_coroutines():
    """The coroutines that have started and not ended."""
    for co in linked(require("util/loop/coroutine.c", "co_made"), "next_made"):
        if not co["finished"] and int(co["ctx"]) != 0:
            yield co


class StackUnwinder(gdb.unwinder.Unwinder):
    """Makes a coroutine's innermost frame the caller of frame 0."""

    def __init__(self):
        super().__init__("skiff coroutine")
        self.sp = None
        self.claimed_sp = None

    def __call__(self, pending):
        if self.sp is None or int(pending.read_register("rsp")) != self.claimed_sp:
            return None
        word = gdb.lookup_type("unsigned long")

        class FrameId:
            sp = gdb.Value(self.sp).cast(word)
            pc = pending.read_register("rip")

        info = pending.create_unwind_info(FrameId())
        at = gdb.Value(self.sp).cast(word.pointer())
        for i, register in enumerate(SWITCH_FRAME):
            info.add_saved_register(register, at[i])
        info.add_saved_register("rsp", gdb.Value(self.sp + 8 * len(SWITCH_FRAME)).cast(word))
        return info

    @contextlib.contextmanager
    def showing(self, sp):
        with selection_kept():
            frame = gdb.newest_frame()
            frame.select()
            self.claimed_sp = int(frame.read_register("rsp"))
            self.sp = int(sp)
            gdb.invalidate_cached_frames()
            try:
                yield
            finally:
                self.sp = self.claimed_sp = None
                gdb.invalidate_cached_frames()


unwinder = StackUnwinder()
gdb.unwinder.register_unwinder(None, unwinder, replace=True)


def has_stack(co):
    return int(co["stack"]["base"]) != 0


def coroutine_backtrace(co, options=""):
    """The coroutine's backtrace in gdb's format. It must not run: then its thread has the frames."""
    if not has_stack(co):
        return "  it has not run yet, and has no stack\n"
    with unwinder.showing(co["stack"]["sp"]):
        lines = gdb.execute("backtrace " + options, to_string=True).splitlines(keepends=True)
    out = []
    for line in lines:
        match = re.match(r"#(\d+)( *)", line)
        if match and match.group(1) == "0":
            continue
        if match:
            line = "#%-3d%s" % (int(match.group(1)) - 1, line[match.end():])
        elif not out:
            continue  # still part of frame 0
        out.append(line)
    return "".join(out)


def coroutine_place(co):
    """The coroutine's innermost frame outside of the wait functions."""
    if not has_stack(co):
        return ""
    waiting = ("co_", "co_switch", "completion_")
    with unwinder.showing(co["stack"]["sp"]):
        frame = gdb.newest_frame().older()
        place = ""
        while frame is not None:
            name = frame.name() or "?"
            place = "%s (%s:%d)" % (name, frame.find_sal().symtab.filename, frame.find_sal().line) \
                if frame.find_sal().symtab is not None else name
            if not name.startswith(waiting):
                break
            frame = frame.older()
    return place


def describe_coroutine(co, threads, waits):
    address = int(co.address)
    context = text(co["ctx"]["name"])
    for thread in threads:
        if thread.coroutine == address:
            state = "runs in thread %s (LWP %d)" % (thread.name, thread.lwp)
            break
    else:
        record = waits.get(address)
        if record is not None:
            state = describe_wait(record, threads)
        else:
            state = WAIT_STATES[int(co["wait_word"]) & 3]
    return "%#x  %s, of %s: %s" % (address, function_at(co["entry"]), context, state)


def running_thread(co, threads):
    return next((t for t in threads if t.coroutine == int(co.address)), None)


def print_coroutine(co, threads, waits, options):
    print("coroutine " + describe_coroutine(co, threads, waits))
    for thing in held_things(co["held"]):
        print("  holds %s" % text(thing["name"]))
    thread = running_thread(co, threads)
    if thread is None:
        print(coroutine_backtrace(co, options))
        return
    with selection_kept():
        thread.thread.switch()
        print(gdb.execute("backtrace " + options, to_string=True))


# ---- the commands ---------------------------------------------------------------------------

class Skiff(gdb.Command):
    """The state of skiff: coroutines, threads, locks and sections, requests, address spaces."""

    def __init__(self):
        super().__init__("skiff", gdb.COMMAND_DATA, prefix=True)


class SkiffCoroutine(gdb.Command):
    """Lists the active coroutines, or shows the stack of one.

skiff coroutine                      one line for each
skiff coroutine ADDRESS [OPTIONS]    its backtrace; OPTIONS are those of `backtrace` ("full")
skiff coroutine --all [OPTIONS]      the backtraces of all"""

    def __init__(self):
        super().__init__("skiff coroutine", gdb.COMMAND_STACK)

    def invoke(self, argument, from_tty):
        what, _, options = argument.strip().partition(" ")
        threads, waits = thread_table(), wait_records()
        if what == "":
            for co in live_coroutines():
                print(describe_coroutine(co, threads, waits))
                if running_thread(co, threads) is None and coroutine_place(co):
                    print("    at " + coroutine_place(co))
        elif what == "--all":
            for co in live_coroutines():
                print_coroutine(co, threads, waits, options)
        else:
            address = int(gdb.parse_and_eval(what))
            for co in live_coroutines():
                if int(co.address) == address:
                    print_coroutine(co, threads, waits, options)
                    return
            raise gdb.GdbError("%s is no active coroutine; `skiff coroutine` lists them" % what)


class SkiffThreads(gdb.Command):
    """Lists the threads: number, LWP, role and name, what each holds, and what it does or waits for."""

    def __init__(self):
        super().__init__("skiff threads", gdb.COMMAND_STACK)

    def invoke(self, argument, from_tty):
        require("util/loop/coroutine.c", "co_made")
        threads, waits = thread_table(), wait_records()
        if not any(t.readable for t in threads):
            print("(gdb cannot read thread-local variables here: roles and held things are not known)")
        with selection_kept():
            for thread in threads:
                thread.thread.switch()
                record = waits.get(thread.identity) if thread.identity else None
                does = describe_wait(record, threads) if record is not None else thread.activity()
                if thread.coroutine:
                    does = "runs coroutine %#x; %s" % (thread.coroutine, does)
                holds = " [holds %s]" % held_names(thread.held) if thread.held else ""
                print("%3d  LWP %-7d %-10s%-20s%s%s" % (thread.thread.num, thread.lwp, thread.role,
                                                      thread.name, does, holds))


class SkiffHeld(gdb.Command):
    """Lists what threads and coroutines hold (locks, drained sections, ...), with ranks.

Ranks are the lock order. A test build also records where each was taken."""

    def __init__(self):
        super().__init__("skiff held", gdb.COMMAND_DATA)

    def print_things(self, who, things, record):
        """@record: the holder's wait; its lock is already in the list of held ones."""
        print(who)
        for thing in things:
            waits = record is not None and int(record["what"]) == int(thing["name"])
            print("  %d %-12s %s%s" % (int(thing["rank"]), enum_name(thing["rank"], "RANK_"),
                                       text(thing["name"]), " (waits for it)" if waits else ""))
            fields = {f.name for f in thing.type.fields()}
            if "stack" in fields:
                for i in range(int(thing["depth"])):
                    print("        %s" % source_at(int(thing["stack"][i]) - 1))

    def invoke(self, argument, from_tty):
        require("util/loop/coroutine.c", "co_made")
        threads, waits = thread_table(), wait_records()
        found = False
        for thread in threads:
            if thread.held:
                found = True
                self.print_things("thread %s (LWP %d)" % (thread.name, thread.lwp), thread.held,
                                  waits.get(thread.identity))
        for co in live_coroutines():
            things = held_things(co["held"])
            if things:
                found = True
                self.print_things("coroutine %#x, of %s" % (int(co.address), text(co["ctx"]["name"])),
                                  things, waits.get(int(co.address)))
        if not any(t.readable for t in threads):
            print("(gdb cannot read thread-local variables here: what threads hold is not known)")
        elif not found:
            print("nothing is held")


class SkiffRequests(gdb.Command):
    """Lists requests in flight and their coroutines: of backends (including queued ones), of
virtqueues, and of the worker threads."""

    def __init__(self):
        super().__init__("skiff requests", gdb.COMMAND_DATA)

    def print_backend(self, blk):
        print("drive %s: %d in flight%s" %
              (text(blk["name"]), int(blk["in_flight"]),
               ", in %d drained sections" % int(blk["quiesced"]) if int(blk["quiesced"]) else ""))
        for state, head in (("in flight", blk["requests"]), ("queued", blk["queued"])):
            for request in linked(head):
                since = age(request["start_ns"]) if state == "in flight" else ""
                print("  %-10s %-12s offset %-12d bytes %-10d coroutine %#x%s" %
                      (state, text(request["op"]), int(request["offset"]), int(request["bytes"]),
                       int(request["owner"]), since))
        for macro in linked(blk["macros"]):
            print("  %-10s %-12s %-36s coroutine %#x" % ("in flight", "macro", "", int(macro["owner"])))

    def print_elements(self, vq, owners):
        """The elements in use."""
        size = int(vq["setup"]["size"])
        free = {int(vq["free_slot"][i]) for i in range(int(vq["free_count"]))}
        element_type = gdb.lookup_type("VirtQueueElement").pointer()
        for slot in range(size):
            if slot in free:
                continue
            pointer = vq["requests"] + slot * int(vq["request_size"])
            element = pointer.cast(element_type).dereference()
            owner = owners.get(int(pointer))
            print("    head %-5d out %-8d in %-8d %s" %
                  (int(element["head"]), int(element["out_len"]), int(element["in_len"]),
                   "coroutine %#x" % owner if owner else "the device's"))

    def print_virtio(self, name, vdev, owners):
        for i in range(int(vdev["num_queues"])):
            queue = vdev["queues"][i]
            if int(queue["vq"]) == 0 or not queue["vq"]["started"]:
                continue
            vq = queue["vq"].dereference()
            broken = text(vq["broken"])
            if int(vq["in_flight"]) == 0 and not broken:
                continue
            print("  queue %d of %s: %d in flight%s" %
                  (i, name, int(vq["in_flight"]), ", broken: " + broken if broken else ""))
            self.print_elements(vq, owners)

    def print_devices(self):
        process = static("vmm/main.c", "the_process")
        if process is None or int(process["vm"]["machine"]["devices"]) == 0:
            return
        owners = {int(co["opaque"]): int(co.address) for co in live_coroutines()}
        pci = gdb.lookup_type("VirtioPci").pointer()
        for device in pointers(process["vm"]["machine"]["devices"], "Device"):
            kind = text(device["type"]["name"])
            if kind.startswith("virtio-") and kind.endswith("-pci"):
                label = text(device["id"], kind)
                print("device %s" % label)
                self.print_virtio(label, device.cast(pci)["vdev"], owners)

    def print_workers(self):
        head = static("util/loop/worker.c", "worker_head")
        if head is None:
            return
        print("workers: %d threads, %d idle, %d jobs queued, %d held back by their lanes" %
              tuple(int(static("util/loop/worker.c", "worker_" + n)) for n in ("count", "idle", "queued", "held")))
        for job in linked(head):
            print("  queued     %-24s coroutine %#x" % (function_at(job["fn"]), int(job["waiter"]["co"])))

    def invoke(self, argument, from_tty):
        for blk in pointers(require("block/core/backend.c", "backends"), "BlockBackend"):
            self.print_backend(blk)
        self.print_devices()
        self.print_workers()


class SkiffMtree(gdb.Command):
    """Lists the guest's address spaces: RAM, and the windows of devices by precedence."""

    def __init__(self):
        super().__init__("skiff mtree", gdb.COMMAND_DATA)

    def print_space(self, title, space):
        print("%s:" % title)
        if int(space) == 0:
            return
        regions = list(pointers(space["mapped"], "IoRegion"))
        for region in sorted(regions, key=lambda r: (int(r["base"]), -int(r["priority"]))):
            base = int(region["base"])
            print("  %016x-%016x (prio %d): %-24s %s" %
                  (base, base + int(region["size"]) - 1, int(region["priority"]),
                   text(region["name"], "?"), symbol_name(region["ops"])))

    def invoke(self, argument, from_tty):
        machine = require("vmm/main.c", "the_process")["vm"]["machine"]
        if int(machine["mmio"]) == 0:
            raise gdb.GdbError("there is no VM yet")
        print("ram:")
        ram = machine["ram"]
        for i in range(int(ram["count"])):
            block = ram["blocks"][i]
            gpa = int(block["gpa"])
            print("  %016x-%016x %s at %#x: %s" %
                  (gpa, gpa + int(block["size"]) - 1, "rom" if block["read_only"] else "ram",
                   int(block["host"]), text(block["name"], "?")))
        self.print_space("memory", machine["mmio"])
        self.print_space("ports", machine["pio"])


for command in (Skiff, SkiffCoroutine, SkiffThreads, SkiffHeld, SkiffRequests, SkiffMtree):
    command()
