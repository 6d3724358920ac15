# SPDX-License-Identifier: Apache-2.0
# Read by tests/guest/blk-jobs.sh and linux-jobs.sh, after blk_jobs_nodes.py: a generated schedule of block jobs.
FAST = 1 << 40  # bytes a second


class Schedule(Nodes):
    """What is done to the chain."""

    def __init__(self):
        super().__init__()
        self.done = []

    # ---- jobs ----

    def job(self, job_id):
        return next((j for j in vm.cmd("query-jobs") if j["id"] == job_id), None)

    def disturb(self, job_id):
        """Does something to the job or to the VM."""
        kind = rng.choice(["pause", "speed", "change", "stop", "nothing" if linux else "reset", "resize",
                           "nothing", "nothing"])
        if kind == "pause":
            if self.try_to("job-pause", id=job_id):
                time.sleep(rng.random() / 50)
                self.try_to("job-resume", id=job_id)
        elif kind == "speed":
            if self.try_to("block-job-set-speed", device=job_id, speed=rng.choice([0, 1 << 20, 64 << 20])):
                time.sleep(rng.random() / 50)
                self.try_to("block-job-set-speed", device=job_id, speed=rng.choice([0, FAST]))
        elif kind == "change":
            if self.job(job_id)["type"] == "mirror":
                self.try_to("block-job-change", **{"id": job_id, "type": "mirror", "copy-mode": "write-blocking"})
        elif kind == "stop":
            other.cmd("stop")
            time.sleep(rng.random() / 50)
            other.cmd("cont")
        elif kind == "reset":
            other.cmd("system_reset")
        elif kind == "resize":
            try:
                other.cmd("block_resize", **{"node-name": self.chain[0][0], "size": SIZE})
            except QmpError:  # the job does not allow it
                pass

    def random_fault(self):
        """A few writes to a target fail. Returns the options of its node, and of a job; and whether it can fail."""
        fault = {"fail-op": "write", "fail-after": rng.randrange(3, 60), "fail-count": rng.randrange(1, 3),
                 "errno": rng.choice([5, 28])}
        reaction = rng.choice(["report", "ignore", "enospc", "stop", "auto"])
        fails = reaction == "report" or (reaction in ("enospc", "auto") and fault["errno"] != 28)
        return fault, {"on-target-error": reaction}, fails

    def start(self, command, job_id, **arguments):
        arguments.setdefault("auto-finalize", rng.random() < 0.7)
        if command in ("blockdev-mirror", "block-commit", "blockdev-backup") and rng.random() < 0.3:
            arguments["filter-node-name"] = "filter" + job_id
        arguments["speed"] = 64 << 20 if rng.random() < 0.2 else rng.choice([0, FAST, FAST, FAST])
        vm.cmd(command, **{"job-id": job_id, "auto-dismiss": False, **arguments})

    def run(self, command, ready=False, cancel=False, fails=False, **arguments):
        """A job up to its end. @ready: it has a READY phase, which "complete" or "cancel" ends. Returns
        whether it has taken effect. Most jobs leave the guest no time, since they have a speed: they take
        seconds less."""
        job_id = "job%d" % self.made
        self.made += 1
        self.start(command, job_id, **arguments)
        for _ in range(rng.randrange(4)):
            self.disturb(job_id)
        if cancel and rng.random() < 0.5:
            self.try_to("block-job-cancel", device=job_id, force=True)
        elif ready:
            self.wait_ready(job_id)
            self.disturb(job_id)
            if cancel:
                self.try_to("block-job-cancel", device=job_id)
            else:
                self.complete(job_id)
        return self.finish(command, job_id, cancel, fails)

    def finish(self, command, job_id, cancel=False, fails=False):
        """Waits for the end of a job. Returns whether it has taken effect."""
        wait_until(lambda: self.advance(job_id) == "concluded")
        end = self.job(job_id)
        vm.cmd("job-dismiss", id=job_id)
        self.done.append((command, end.get("error")))
        assert "error" not in end or fails or (cancel and "cancel" in end["error"].lower()), end
        return "error" not in end

    def advance(self, job_id):
        """Ends what a job waits for: a resume after an error, the verb finalize. Returns its state."""
        state = self.job(job_id)["status"]
        if state == "paused":
            self.try_to("job-resume", id=job_id)
        elif state == "pending":
            self.try_to("job-finalize", id=job_id)
        return state

    def wait_ready(self, job_id):
        """A guest that writes faster than the storage copies waits for the copy, or is stopped for a moment."""
        def ready():
            return self.advance(job_id) in ("ready", "pending", "concluded")
        slow = time.monotonic() + 0.5
        wait_until(lambda: ready() or time.monotonic() > slow)
        if ready():
            return
        self.try_to("block-job-set-speed", device=job_id, speed=0)
        if self.job(job_id)["type"] == "mirror" and rng.random() < 0.5:
            self.try_to("block-job-change", **{"id": job_id, "type": "mirror", "copy-mode": "write-blocking"})
            wait_until(ready)
        else:
            other.cmd("stop")
            wait_until(ready)
            other.cmd("cont")

    def complete(self, job_id):
        """The job may be paused for a moment still; an error may have ended it."""
        while self.job(job_id)["status"] in ("ready", "standby"):
            if self.try_to("block-job-complete", device=job_id):
                return
            time.sleep(0.01)

    def try_to(self, command, **arguments):
        """Returns whether the job was in a state for it. An error may have paused it first."""
        try:
            vm.cmd(command, **arguments)
        except QmpError as e:
            assert any(words in e.desc for words in ("in state", "being finalized already", "currently paused",
                                               "already paused")), e
            return False
        return True

    # ---- operations ----

    def snapshot(self):
        if len(self.chain) > 5:
            return
        node = self.new_image(backing=self.chain[0][1])
        vm.cmd("blockdev-snapshot", node=self.chain[0][0], overlay=node[0])
        self.chain.insert(0, node)

    def chain_options(self, base):
        options = {"on-error": rng.choice(["report", "ignore", "enospc", "stop"])}
        if rng.random() < 0.3:
            options["backing-file"] = self.chain[base][1]
        return options

    def commit(self):
        if len(self.chain) < 3:
            return
        top = rng.randrange(1, len(self.chain) - 1)
        base = rng.randrange(top + 1, len(self.chain))
        if self.run("block-commit", cancel=rng.random() < 0.3, device=self.chain[0][0], **self.chain_options(base),
                    **{"top-node": self.chain[top][0], "base-node": self.chain[base][0]}):
            self.drop(top, base)

    def stream(self):
        if len(self.chain) < 2:
            return
        base = rng.randrange(1, len(self.chain))
        end = {"base-node": self.chain[base][0]}
        if base > 1 and rng.random() < 0.5:
            end = {"bottom": self.chain[base - 1][0]}
        if self.run("block-stream", cancel=rng.random() < 0.3, device=self.chain[0][0], **self.chain_options(base), **end):
            self.drop(1, base)

    def drop(self, first, end):
        """The nodes from @first up to @end are no longer in the chain."""
        for node in self.chain[first:end]:
            self.delete(node)
        del self.chain[first:end]

    def active_commit(self):
        if len(self.chain) < 2:
            return
        base = rng.randrange(1, len(self.chain))
        if self.run("block-commit", ready=True, device=self.chain[0][0],
                    **{"base-node": self.chain[base][0]}):
            self.drop(0, base)

    def mirror_options(self):
        options = {"copy-mode": rng.choice(["background", "write-blocking"])}
        if rng.random() < 0.5:
            options["granularity"] = rng.choice([4096, 65536, 1 << 20])
        if rng.random() < 0.3:
            options["buf-size"] = rng.choice([65536, 1 << 20])
        return options

    def mirror_replaces(self):
        """As mirror(), of the filter above the images, which stays: the copy replaces the image below it."""
        self.mirror("above", replaces=self.chain[0][0])

    def mirror(self, source=None, **replaces):
        """The guest moves to a copy, of its whole disk or of the highest image."""
        top = len(self.chain) > 1 and rng.random() < 0.3
        node = self.new_image(*(reversed(self.chain[1][:2]) if top else ()))
        cancel = rng.random() < 0.3
        if self.run("blockdev-mirror", ready=True, cancel=cancel, device=source or self.chain[0][0], target=node[0],
                    sync="top" if top else "full", **replaces, **self.mirror_options()) and not cancel:
            self.drop(0, 1 if top else len(self.chain))
            self.chain.insert(0, node)
        else:
            self.delete(node)

    def mirror_copy(self):
        """The copy of one moment, to a target of any kind, whose writes may fail."""
        fault, reaction, fails = self.random_fault() if rng.random() < 0.3 else (None, {}, False)
        job_id = "copy%d" % self.made
        arguments = dict(self.mirror_options(), sync="full", device=self.chain[0][0], **reaction)
        if fault or rng.random() < 0.7:
            node = self.new_target(fault)
            self.start("blockdev-mirror", job_id, target=node[0], **arguments)
        else:
            node = self.file_target()
            self.start("drive-mirror", job_id, target=node[1], format=node[2], unmap=rng.random() < 0.5, **arguments)
        for _ in range(rng.randrange(3)):
            self.disturb(job_id)
        self.wait_ready(job_id)
        stop_vm()
        self.try_to("block-job-cancel", device=job_id)
        if self.finish("mirror", job_id, fails=fails):
            expected = digest(self.chain[0][1], "qcow2")
            vm.cmd("cont")
            self.compare(node, expected, "the mirror")
        else:
            vm.cmd("cont")
            self.delete(node)

    def at_one_moment(self, start):
        """The point in time of what @start does is while the VM is stopped. Returns the disk's digest."""
        stop_vm()
        start()
        subprocess.run(["cp", "--sparse=always", self.chain[0][1], image + ".point"], check=True)
        expected = digest(image + ".point", "qcow2")
        vm.cmd("cont")
        writes_go_on()
        return expected

    def backup_options(self, node, fault=None):
        """An error of the copy before a guest's write may not be the guest's here."""
        options = {"x-perf": {"max-workers": rng.choice([1, 4, 16]), "max-chunk": rng.choice([0, 1 << 20])},
                   "on-cbw-error": "break-snapshot" if fault else rng.choice(["break-snapshot", "break-guest-write"]),
                   "speed": 1 << 20}
        if node[2] == "qcow2" and not fault and rng.random() < 0.3:
            options["compress"] = True
        return options

    def backup(self):
        fault, reaction, _ = self.random_fault() if rng.random() < 0.3 else (None, {}, False)
        job_id = "backup%d" % self.made
        top = not fault and len(self.chain) > 1 and rng.random() < 0.4
        drive = not fault and not top and rng.random() < 0.2
        if top:
            node = self.new_image(*reversed(self.chain[1][:2]))
        else:
            node = self.file_target() if drive else self.new_target(fault)
        arguments = dict(self.backup_options(node, fault), sync="top" if top else "full", device=self.chain[0][0],
                         **reaction)

        def start():
            if drive:
                self.start("drive-backup", job_id, target=node[1], format=node[2], **arguments)
            else:
                self.start("blockdev-backup", job_id, target=node[0], **arguments)

        expected = self.at_one_moment(start)
        self.disturb(job_id)
        cancel = rng.random() < 0.3
        if cancel:
            self.try_to("block-job-cancel", device=job_id)
        else:
            self.try_to("block-job-set-speed", device=job_id, speed=0)
        good = self.finish("backup", job_id, cancel, bool(fault))
        if good:
            self.compare(node, expected, "the backup")
        else:
            self.delete(node)

    def grouped(self):
        """Backups of two disks at one moment, which succeed or fail together."""
        fault, reaction, _ = self.random_fault() if rng.random() < 0.5 else (None, {}, False)
        still = self.raw_disk(os.urandom(1 << 20) * (SIZE >> 23))
        copies = [(self.chain[0][0], self.new_target(fault)), (still[0], self.new_target())]
        names = ["group%d" % self.made, "other%d" % self.made]
        final = rng.random() < 0.5
        actions = [{"type": "blockdev-backup", "data": dict(
            self.backup_options(copy[1], fault), device=copy[0], target=copy[1][0], sync="full", **reaction,
            **{"job-id": name, "auto-dismiss": False, "auto-finalize": final})} for name, copy in zip(names, copies)]
        expected = [self.at_one_moment(lambda: vm.cmd("transaction", actions=actions,
                                                      properties={"completion-mode": "grouped"})),
                    digest(still[1], "raw")]
        self.disturb(names[0])
        cancel = rng.random() < 0.3
        if cancel:
            self.try_to("block-job-cancel", device=names[1])
        for name in names:
            self.try_to("block-job-set-speed", device=name, speed=0)
        wait_until(lambda: all([self.advance(name) == "concluded" for name in names]))
        good = [self.finish("grouped", name, True, bool(fault)) for name in names]
        assert good[0] == good[1], "one has succeeded, and the other has not"
        assert good[0] or cancel or fault
        for (_, node), equal in zip(copies, expected):
            if good[0]:
                self.compare(node, equal, "a grouped backup")
            else:
                self.delete(node)
        self.delete(still)

    def incremental(self):
        """A full backup, and another one of what has changed since."""
        node = self.new_target()
        disk = self.chain[0][0]
        bitmap = {"node": disk, "name": "b"}
        job_id = "full%d" % self.made
        data = dict(self.backup_options(node), device=disk, target=node[0], sync="full",
                    **{"job-id": job_id, "auto-dismiss": False})
        vm.cmd("transaction", actions=[{"type": "block-dirty-bitmap-add", "data": bitmap},
                                       {"type": "blockdev-backup", "data": data}])
        writes_go_on()
        self.try_to("block-job-set-speed", device=job_id, speed=0)
        self.finish("backup", job_id)
        writes_go_on()
        expected = self.at_one_moment(lambda: self.start(
            "blockdev-backup", job_id, device=disk, target=node[0], sync="bitmap", bitmap="b",
            **{"bitmap-mode": rng.choice(["on-success", "never", "always"])}, **self.backup_options(node)))
        self.disturb(job_id)
        self.try_to("block-job-set-speed", device=job_id, speed=0)
        self.finish("backup", job_id)
        vm.cmd("block-dirty-bitmap-remove", bitmap)
        self.compare(node, expected, "the full backup with the second one")


# ---- Linux ----

def processor_time():
    """In seconds, of all threads."""
    with open("/proc/%s/stat" % os.environ["SKIFF_PID"]) as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def wait_idle(when):
    """Until skiff takes less than half a processor for 5 s. What polls in vain takes a whole one for ever."""
    deadline = time.monotonic() + vm.timeout
    while True:
        start, used = time.monotonic(), processor_time()
        time.sleep(5)
        share = (processor_time() - used) / (time.monotonic() - start)
        if share < 0.5:
            break
        assert time.monotonic() < deadline, "skiff is busy %s: %d %% of a processor" % (when, share * 100)
    print("idle %s: %.1f %% of a processor" % (when, share * 100), flush=True)


def continue_guest(times):
    """The guest is idle for the @times-th time."""
    wait_until(lambda: open(console, "rb").read().count(b"the guest is idle") >= times)
    wait_idle("before the jobs" if times == 1 else "after the jobs")
    with open(os.environ["KEYBOARD"], "w") as f:
        f.write("continue\n")


def copy_is_equal(command, **arguments):
    """A last copy, while the guest is idle: qemu-img finds the same in it."""
    node = schedule.new_image()
    vm.cmd(command, **{"job-id": "last", "device": schedule.chain[0][0], "target": node[0], "sync": "full",
                       "auto-dismiss": False, **arguments})
    if command == "blockdev-mirror":
        wait_until(lambda: schedule.job("last")["status"] == "ready")
        vm.cmd("block-job-cancel", device="last")
    wait_until(lambda: schedule.job("last")["status"] == "concluded")
    assert "error" not in schedule.job("last"), schedule.job("last")
    vm.cmd("job-dismiss", id="last")
    qemu_img("compare", "-q", "-U", "-f", "qcow2", "-F", "qcow2", schedule.chain[0][1], node[1])
    schedule.delete(node)


def run_beside_fio():
    print("seed", seed, flush=True)
    continue_guest(1)
    while not guest_has_ended_fio():
        getattr(schedule, rng.choice(kinds.split(",")))()
        writes_go_on()
    wait_until(lambda: open(console, "rb").read().count(b"the guest is idle") >= 2)
    copy_is_equal("blockdev-mirror")
    copy_is_equal("blockdev-mirror", **{"copy-mode": "write-blocking"})
    copy_is_equal("blockdev-backup")
    continue_guest(2)


# ---- blk-verify ----

def run(times):
    print("seed", seed, flush=True)
    for _ in range(times):
        getattr(schedule, rng.choice(kinds.split(",")))()
        writes_go_on()


def run_and_end_the_guest():
    wait_until(guest_works)
    run(rounds(lab=2, check=6, long=100))
    try:
        while True:  # a reset under way drops the event
            vm.cmd("system_powerdown")
            time.sleep(0.05)
    except (EOFError, OSError):
        pass


schedule = Schedule()
if linux:
    run_beside_fio()
else:
    run_and_end_the_guest()
with open(work + "/chain", "w") as f:
    f.write("".join(node[1] + "\n" for node in schedule.chain))
print(*schedule.done, sep="\n", flush=True)
