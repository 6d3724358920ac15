# SPDX-License-Identifier: Apache-2.0
"""The steps of a session with QEMU and with skiff, and the comparison of the replies.

Each step is a command that both execute in the same state. The comparison covers the class of an
error; the members of a result and their JSON types, in lists those of any element; and the events
since the step before: their names, and their data in the same way.

qom-list-types is left out: it makes QEMU load all its modules, which an unpacked QEMU does not find.
"""

STEPS = [
    # (name of the step, command, arguments)
    ("no such command", "no-such-command", {}),
    ("an argument too many", "query-status", {"x": 1}),
    ("an argument missing", "device_del", {}),
    ("an argument of the wrong type", "device_del", {"id": 1}),
    ("an argument out of range", "human-monitor-command", {"command-line": "info status", "cpu-index": 99}),
    ("a value that is none", "set-action", {"panic": "laugh"}),
    *((name, name, {}) for name in (
        "query-version", "query-commands", "query-status", "query-name", "query-uuid", "query-kvm",
        "query-cpus-fast", "query-memory-size-summary", "query-memdev", "query-chardev", "query-pci",
        "query-block", "query-blockstats", "query-named-block-nodes", "query-iothreads", "query-jobs",
        "query-block-jobs", "query-fdsets", "query-target", "query-machines", "query-cpu-definitions",
        "query-hotpluggable-cpus", "query-command-line-options", "query-mice")),
    ("query-command-line-options, one", "query-command-line-options", {"option": "mon"}),
    ("query-command-line-options, no such option", "query-command-line-options", {"option": "no-such"}),
    ("query-cpu-model-expansion, no such model", "query-cpu-model-expansion",
     {"type": "full", "model": {"name": "no-such"}}),
    ("query-cpu-model-expansion, no such feature", "query-cpu-model-expansion",
     {"type": "full", "model": {"name": "max", "props": {"no-such": True}}}),
    ("qom-list, the root", "qom-list", {"path": "/"}),
    ("qom-list, a device", "qom-list", {"path": "/machine/peripheral/rng0"}),
    ("qom-list, no such path", "qom-list", {"path": "/no/such"}),
    ("qom-list, an ambiguous path", "qom-list", {"path": "virtio-backend"}),
    *(("qom-get, %s of %s" % (name, path), "qom-get", {"path": path, "property": name}) for path, name in (
        ("/machine", "type"), ("/machine", "smp"), ("/machine", "memory"), ("/machine", "kernel"),
        ("/machine", "peripheral"), ("/machine/unattached", "type"), ("rng0", "type"), ("rng0", "realized"),
        ("disk0", "drive"), ("disk0", "num-queues"), ("disk0", "virtio-backend"), ("disk0/virtio-backend", "type"),
        ("/objects/io0", "type"), ("/objects/io0", "poll-max-ns"), ("rng0", "no-such"), ("/no/such", "type"))),
    ("qom-list-properties", "qom-list-properties", {"typename": "iothread"}),
    ("qom-list-properties, no such type", "qom-list-properties", {"typename": "no-such"}),
    ("cont", "cont", {}),
    ("query-status, running", "query-status", {}),
    ("cont, running", "cont", {}),
    ("stop", "stop", {}),
    ("stop, stopped", "stop", {}),
    ("query-status, stopped", "query-status", {}),
    ("cont again", "cont", {}),
    ("inject-nmi", "inject-nmi", {}),
    ("system_powerdown", "system_powerdown", {}),
    ("system_reset", "system_reset", {}),
    ("stop again", "stop", {}),
    ("set-action", "set-action", {"reboot": "shutdown", "shutdown": "pause", "panic": "pause"}),
    ("set-action back", "set-action", {"reboot": "reset", "shutdown": "poweroff", "panic": "shutdown"}),
    ("device_add", "device_add", {"driver": "virtio-rng-pci", "id": "rng1", "bus": "BUS"}),
    ("device_add, the same id", "device_add", {"driver": "virtio-rng-pci", "id": "rng1", "bus": "BUS"}),
    ("device_add, no such driver", "device_add", {"driver": "no-such", "id": "x"}),
    ("device_add, no such bus", "device_add", {"driver": "virtio-rng-pci", "id": "x", "bus": "no-such"}),
    ("device_add, no such property", "device_add", {"driver": "virtio-rng-pci", "id": "x", "bus": "BUS", "nosuch": 1}),
    ("device_add, no such drive", "device_add", {"driver": "virtio-blk-pci", "id": "x", "bus": "BUS", "drive": "no-such"}),
    ("device_del", "device_del", {"id": "rng1"}),
    ("device_del, no such device", "device_del", {"id": "no-such"}),
    ("device-list-properties", "device-list-properties", {"typename": "virtio-blk-pci"}),
    ("device-list-properties, no such type", "device-list-properties", {"typename": "no-such"}),
    ("object-add", "object-add", {"qom-type": "iothread", "id": "io9"}),
    ("object-add, the same id", "object-add", {"qom-type": "iothread", "id": "io9"}),
    ("object-add, no such type", "object-add", {"qom-type": "no-such", "id": "x"}),
    ("query-iothreads, another", "query-iothreads", {}),
    ("object-del", "object-del", {"id": "io9"}),
    ("object-del, no such object", "object-del", {"id": "no-such"}),
    ("object-del, in use", "object-del", {"id": "io0"}),
    ("chardev-add", "chardev-add", {"id": "c9", "backend": {"type": "null", "data": {}}}),
    ("chardev-add, the same id", "chardev-add", {"id": "c9", "backend": {"type": "null", "data": {}}}),
    ("chardev-add, no such type", "chardev-add", {"id": "x", "backend": {"type": "no-such", "data": {}}}),
    ("chardev-add, a file", "chardev-add", {"id": "c8", "backend": {"type": "file", "data": {"out": "DIR/out"}}}),
    ("chardev-add, a server", "chardev-add", {"id": "c7", "backend": {"type": "socket", "data": {
        "addr": {"type": "unix", "data": {"path": "DIR/c7"}}, "server": True, "wait": False}}}),
    ("chardev-add, a pty", "chardev-add", {"id": "c6", "backend": {"type": "pty", "data": {}}}),
    ("query-chardev, another", "query-chardev", {}),
    ("chardev-remove", "chardev-remove", {"id": "c9"}),
    ("chardev-remove, no such chardev", "chardev-remove", {"id": "no-such"}),
    ("chardev-remove, in use", "chardev-remove", {"id": "serial0"}),
    ("blockdev-add", "blockdev-add", {"driver": "null-co", "node-name": "n9", "size": 1048576, "read-zeroes": True}),
    ("blockdev-add, the same name", "blockdev-add", {"driver": "null-co", "node-name": "n9"}),
    ("blockdev-add, no such driver", "blockdev-add", {"driver": "no-such", "node-name": "x"}),
    ("blockdev-add, no such file", "blockdev-add", {"driver": "file", "node-name": "x", "filename": "/no/such"}),
    ("query-named-block-nodes, another", "query-named-block-nodes", {}),
    ("blockdev-del", "blockdev-del", {"node-name": "n9"}),
    ("blockdev-del, no such node", "blockdev-del", {"node-name": "no-such"}),
    ("blockdev-del, in use", "blockdev-del", {"node-name": "disk"}),
    ("block_resize", "block_resize", {"node-name": "disk", "size": 131072}),
    ("block_resize, a node below another", "block_resize", {"node-name": "file", "size": 131072}),
    ("block_resize, no such node", "block_resize", {"node-name": "no-such", "size": 0}),
    ("block_resize, negative", "block_resize", {"node-name": "file", "size": -1}),
    ("block-latency-histogram-set", "block-latency-histogram-set",
     {"id": "/machine/peripheral/disk0/virtio-backend", "boundaries": [10, 100]}),
    ("query-blockstats, with latencies", "query-blockstats", {}),
    ("block-latency-histogram-set off", "block-latency-histogram-set",
     {"id": "/machine/peripheral/disk0/virtio-backend"}),
    ("block-latency-histogram-set by the device's id", "block-latency-histogram-set", {"id": "disk0"}),
    ("job-cancel, no such job", "job-cancel", {"id": "no-such"}),
    ("job-dismiss, no such job", "job-dismiss", {"id": "no-such"}),
    ("job-pause, no such job", "job-pause", {"id": "no-such"}),
    ("block-job-cancel, no such job", "block-job-cancel", {"device": "no-such"}),
    ("getfd without a descriptor", "getfd", {"fdname": "x"}),
    ("closefd, no such name", "closefd", {"fdname": "no-such"}),
    ("add-fd without a descriptor", "add-fd", {}),
    ("remove-fd, no such set", "remove-fd", {"fdset-id": 7}),
    ("trace-event-get-state", "trace-event-get-state", {"name": "*"}),
    ("trace-event-get-state, no such event", "trace-event-get-state", {"name": "no_such"}),
    ("trace-event-set-state, no such event", "trace-event-set-state", {"name": "no_such", "enable": True}),
    ("pmemsave", "pmemsave", {"val": 0, "size": 4096, "filename": "DIR/memory"}),
    ("pmemsave, no such directory", "pmemsave", {"val": 0, "size": 4096, "filename": "/no/such"}),
    ("memsave, no such vCPU", "memsave", {"val": 0, "size": 16, "filename": "DIR/memory", "cpu-index": 99}),
    ("dump-guest-memory", "dump-guest-memory", {"paging": False, "protocol": "file:DIR/dump"}),
    ("dump-guest-memory, no such protocol", "dump-guest-memory", {"paging": False, "protocol": "carrier-pigeon:x"}),
    ("query-dump", "query-dump", {}),
    ("query-dump-guest-memory-capability", "query-dump-guest-memory-capability", {}),
    ("human-monitor-command", "human-monitor-command", {"command-line": "info status"}),
    ("human-monitor-command, no such command", "human-monitor-command", {"command-line": "no-such"}),
    ("qmp_capabilities, again", "qmp_capabilities", {}),
    ("quit", "quit", {}),
]


def fill_in(arguments, places):
    def fill(value):
        if isinstance(value, dict):
            return {k: fill(v) for k, v in value.items() if fill(v) is not None}
        if isinstance(value, str):
            if value == "BUS":
                return places["BUS"]
            return value.replace("DIR", places["DIR"])
        return value
    return fill(arguments)


def shape(value):
    """Returns {path: JSON types} of a value."""
    found = {}

    def walk(where, value):
        kind = {dict: "object", list: "array", str: "string", bool: "boolean", int: "number",
                float: "number", type(None): "null"}[type(value)]
        found.setdefault(where, set()).add(kind)
        if isinstance(value, dict):
            for key, member in value.items():
                walk(where + (key,), member)
        elif isinstance(value, list):
            for element in value:
                walk(where + ("[]",), element)
    walk((), value)
    return found


def compare_shapes(where, qemu, skiff):
    theirs, ours = shape(qemu), shape(skiff)
    lines = []
    for path in sorted(set(theirs) | set(ours)):
        place = "%s%s" % (where, "".join(", " + p for p in path if p != "[]"))
        parent = path[:-1]
        if path and (parent not in theirs or parent not in ours):
            continue  # reported for the parent
        if path and path[-1] == "[]" and (path not in theirs or path not in ours):
            continue  # an empty list is still a list
        if path not in ours:
            lines.append(place + ": only in QEMU")
        elif path not in theirs:
            lines.append(place + ": only in skiff")
        elif not theirs[path] & ours[path]:
            lines.append("%s: %s in QEMU, %s in skiff" % (
                place, "/".join(sorted(theirs[path])), "/".join(sorted(ours[path]))))
    return lines


def outcome(record):
    return "error %s" % record["error"]["class"] if "error" in record else "a result"


def compare(qemu, skiff):
    """@qemu, @skiff: lists of {"step", "return" or "error", "events"}."""
    lines = []
    for theirs, ours in zip(qemu, skiff):
        where = "reply %s" % theirs["step"]
        if outcome(theirs) != outcome(ours):
            lines.append("%s: %s in QEMU, %s in skiff" % (where, outcome(theirs), outcome(ours)))
        elif "return" in theirs:
            lines += compare_shapes(where, theirs["return"], ours["return"])
        names = [[e["event"] for e in side["events"]] for side in (theirs, ours)]
        if names[0] != names[1]:
            lines.append("%s, events: %s in QEMU, %s in skiff" % (
                where, " ".join(names[0]) or "none", " ".join(names[1]) or "none"))
        else:
            for their, our in zip(theirs["events"], ours["events"]):
                lines += compare_shapes("%s, event %s" % (where, their["event"]),
                                        their.get("data", {}), our.get("data", {}))
    return list(dict.fromkeys(lines))
