#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# tier: kvm
# timeout: 900
"""The gdb stub's packets: those that gdb itself does not send, and invalid ones."""
import os
import random
import re
import socket
import struct
import subprocess
import sys
import tempfile
import time
import traceback

TOP = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../..")
SKIFF = os.environ.get("SKIFF", "build/skiff")
SLOW = int(os.environ.get("TEST_SLOW", "1"))
ENTRY = 0x100000


class Gdb:
    """A client: packets out, packets in."""

    def __init__(self, path):
        for patience in reversed(range(6000)):
            self.socket = socket.socket(socket.AF_UNIX)
            try:
                self.socket.connect(path)  # queued behind other clients
                break
            except ConnectionRefusedError:  # there, but not listening yet
                if not patience:
                    raise
                time.sleep(0.01)
        self.socket.settimeout(200 * SLOW)
        self.data = b""
        self.acks = True

    def close(self):
        self.socket.close()

    def send_raw(self, data):
        self.socket.sendall(data)

    def send(self, payload):
        if isinstance(payload, str):
            payload = payload.encode("latin-1")
        self.send_raw(b"$" + payload + b"#%02x" % (sum(payload) & 0xff))

    def byte(self):
        if not self.data:
            self.data = self.socket.recv(65536)
            if not self.data:
                raise EOFError("the stub has closed the connection")
        first, self.data = self.data[:1], self.data[1:]
        return first

    def receive(self):
        while self.byte() != b"$":
            pass
        raw = b""
        while (c := self.byte()) != b"#":
            raw += c
        given = int(self.byte() + self.byte(), 16)
        assert given == sum(raw) & 0xff, "a wrong checksum"
        if self.acks:
            self.send_raw(b"+")
        return self.expand(raw).decode("latin-1")

    @staticmethod
    def expand(raw):
        out, at = bytearray(), 0
        while at < len(raw):
            if raw[at] == ord("*"):
                at += 1
                out += bytes([out[-1]]) * (raw[at] - 29)
            elif raw[at] == ord("}"):
                at += 1
                out.append(raw[at] ^ 0x20)
            else:
                out.append(raw[at])
            at += 1
        return bytes(out)

    def ask(self, payload):
        self.send(payload)
        return self.receive()

    def expect(self, payload, answer):
        said = self.ask(payload)
        assert said == answer, f"{payload!r} is answered by {said!r}, not {answer!r}"

    def monitor(self, line):
        self.send("qRcmd," + line.encode().hex())
        text = ""
        while (said := self.receive()) != "OK":
            assert said[:1] == "O", f"{line!r} is answered by {said!r}"
            text += bytes.fromhex(said[1:]).decode()
        return text

    def pc(self, thread=1):
        self.expect(f"Hg{thread:x}", "OK")
        return int.from_bytes(bytes.fromhex(self.ask("p10")), "little")

    def stopped(self):
        said = self.receive()
        assert said[:1] == "T", f"{said!r} is no stop"
        return said


class Machine:
    """skiff with the guest that counts, stopped before its first instruction."""

    def __init__(self, *options, stopped=True, cpus=2, guest="count", words="ms=100"):
        self.work = tempfile.TemporaryDirectory()
        self.path = os.path.join(self.work.name, "gdb")
        # Opened separately: a seek on the shared file would move skiff's write position.
        self.log = open(os.path.join(self.work.name, "log"), "w")
        self.process = subprocess.Popen(
            [SKIFF, "-display", "none", "-serial", f"file:{self.work.name}/console", "-kernel",
             f"build/guests/{guest}.elf", "-append", words, "-smp", str(cpus), "-gdb", f"unix:{self.path}",
             *(["-S"] if stopped else []), *options],
            cwd=TOP, stdin=subprocess.PIPE, stdout=self.log, stderr=subprocess.STDOUT)
        self.wait(lambda: os.path.exists(self.path), "the stub's socket")

    def wait(self, condition, what):
        deadline = time.monotonic() + 200 * SLOW
        while not condition():
            assert self.process.poll() is None, f"skiff ended before {what}: {self.said()}"
            assert time.monotonic() < deadline, f"no {what}: {self.said()}"
            time.sleep(0.01)

    def said(self):
        with open(f"{self.work.name}/log", errors="replace") as f:
            return f.read()

    def console(self):
        with open(f"{self.work.name}/console", errors="replace") as f:
            return f.read()

    def wait_console(self, pattern):
        self.wait(lambda: re.search(pattern, self.console()), f"'{pattern}' on the console")

    def ticks(self):
        return len(re.findall("tick", self.console()))

    def wait_running(self):
        before = self.ticks()
        self.wait(lambda: self.ticks() > before + 1, "sign of life")

    def qmp(self, *commands):
        """Executes them; returns when the last has been answered."""
        for command in commands:
            answers = self.said().count('{"return"')
            self.process.stdin.write(b'{"execute": "%s"}\n' % command.encode())
            self.process.stdin.flush()
            self.wait(lambda: self.said().count('{"return"') > answers, f"answer to {command}")

    def gdb(self):
        return Gdb(self.path)

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.log.close()
        self.work.cleanup()


def test_it_says_what_it_can_and_nothing_of_what_it_cannot():
    with Machine() as m:
        g = m.gdb()
        said = g.ask("qSupported:multiprocess+;swbreak+;hwbreak+;vContSupported+")
        for feature in ("PacketSize=4000", "QStartNoAckMode+", "qXfer:features:read+", "swbreak+", "hwbreak+", "binary-upload+"):
            assert feature in said.split(";"), said
        for unknown in ("vMustReplyEmpty", "qTStatus", "qOffsets", "!", "vRun;x", "z9,0,0", "", "\xff\xfe"):
            g.expect(unknown, "")
        g.expect("vCont?", "vCont;c;C;s;S")
        g.expect("qAttached", "1")


def test_threads_are_vcpus():
    with Machine(cpus=3) as m:
        g = m.gdb()
        g.expect("qfThreadInfo", "m1,2,3")
        g.expect("qsThreadInfo", "l")
        g.expect("qC", "QC1")
        g.expect("T3", "OK")
        g.expect("T4", "E22")
        g.expect("Hg4", "E22")
        g.expect("Hgp1.2", "OK")
        g.expect("qC", "QC2")
        assert bytes.fromhex(g.ask("qThreadExtraInfo,1")).startswith(b"CPU#0 [")
        xml = g.ask("qXfer:threads:read::0,1000")
        assert xml[0] == "l" and xml.count("<thread ") == 3, xml
        assert g.pc(1) == ENTRY and g.pc(2) == 0xfff0


def test_a_description_read_in_small_pieces_is_the_whole():
    with Machine() as m:
        g = m.gdb()
        whole = g.ask("qXfer:features:read:target.xml:0,3fff")
        text, piece = "", "m"
        while piece[0] == "m":
            piece = g.ask(f"qXfer:features:read:target.xml:{len(text):x},101")
            text += piece[1:]
        while whole[0] == "m":
            whole = "l" + whole[1:] + g.ask(f"qXfer:features:read:target.xml:{len(whole) - 1:x},3fff")[1:]
        assert text == whole[1:] and text.endswith("</target>\n")
        g.expect("qXfer:features:read:target.xml:fffff,10", "E22")
        g.expect("qXfer:features:read:other.xml:0,10", "E00")
        sizes = [int(s) for s in re.findall(r'bitsize="(\d+)"', text)]
        assert len(g.ask("g")) == sum(sizes) // 4, "the g packet is not as long as the description says"
        for n, size in enumerate(sizes):
            assert len(g.ask(f"p{n:x}")) == size // 4
        g.expect(f"p{len(sizes):x}", "E22")


def test_registers_are_written_one_by_one_and_all():
    with Machine() as m:
        g = m.gdb()
        values = {0: "8877665544332211", 15: "0102030405060708", 0x18: "00000000000000c0ff3f", 0x28: "11" * 16,
                  0x39: "0000000000800000", 0x3d: "0000000000007000"}
        for number, value in values.items():
            g.expect(f"P{number:x}={value}", "OK")
            g.expect(f"p{number:x}", value)
        everything = g.ask("g")
        assert everything.startswith("8877665544332211")
        changed = "1111111111111111" + everything[16:]
        g.expect("G" + changed, "OK")
        g.expect("g", changed)
        assert g.ask("P12=99000000").startswith("E."), "a selector without a descriptor"
        g.expect("G00", "E22")
        g.expect("P0=00", "E22")
        g.expect("P99=00", "E22")
        assert g.pc() == ENTRY


def test_memory_is_read_and_written_and_holes_are_errors():
    with Machine("-m", "64") as m:
        g = m.gdb()
        g.expect("M200000,4:01020304", "OK")
        g.expect("m200000,4", "01020304")
        g.expect("X200001,2:}\x03\x7f", "OK")
        g.expect("m200000,4", "01237f04")
        g.expect("X200000,0:", "OK")
        g.expect("m3fffffe,8", g.ask("m3fffffe,2"))  # up to the end of memory
        g.expect("m4000000,1", "E14")
        assert g.ask("M4000000,1:00").startswith("E.")
        g.expect("m100000000,1", "E14")  # not an address of this vCPU
        for bad in ("m", "m0", "m0,", "m0,g", "m,4", "m0,4x", "x", "x0,", "M0,fffff:00", "M0,4:0102", "M0,1:0102", "X0,5:abc", "mfffffffffffffffff,1"):
            g.expect(bad, "E22")
        g.expect("m200000,0", "")


def test_a_read_of_any_size_is_answered_by_what_fits_and_is_mapped():
    with Machine("-m", "64") as m:
        g = m.gdb()
        size = int(re.search("PacketSize=([0-9a-f]+)", g.ask("qSupported"))[1], 16) // 2
        g.expect("M200000,1ff0:" + "7d" * 0x1ff0, "OK")
        for physical in "01":
            g.expect(f"Qqemu.PhyMemMode:{physical}", "OK")
            for asked in (size - 16, size - 15, size, size + 1, 0xfffff, 0xffffffffffffffff):
                got = min(asked, size)
                g.expect(f"m1ff000,{asked:x}", "00" * 0x1000 + "7d" * (got - 0x1000))
                g.expect(f"x1ff000,{asked:x}", "b" + "\0" * 0x1000 + "}" * (got - 0x1000))
            g.expect("M3fffffd,3:010203", "OK")  # the last bytes of RAM
            g.expect("m3fffffd,2000", "010203")
            g.expect("x3fffffd,2000", "b\x01\x02\x03")
            assert len(g.ask("m3ffe001,2000")) == 2 * 0x1fff
            g.expect("m4000000,2000", "E14")
            g.expect("x4000000,2000", "E14")
            g.expect("x200000,0", "b")


def test_physical_memory_mode_is_spelled_as_qemus():
    with Machine("-m", "64") as m:
        g = m.gdb()
        g.expect("qqemu.PhyMemMode", "0")
        g.expect("Qqemu.PhyMemMode:1", "OK")
        g.expect("qqemu.PhyMemMode", "1")
        g.expect("m100000,4", g.ask("m100000,4"))
        g.expect("Qqemu.PhyMemMode:0", "OK")
        g.expect("Qqemu.PhyMemMode:", "E22")
        g.expect("qqemu.sstepbits", "ENABLE=1,NOIRQ=2,NOTIMER=4")
        assert g.ask("qqemu.sstep").startswith("0x")


def test_single_steps_execute_one_instruction_of_one_thread():
    with Machine() as m:
        g = m.gdb()
        g.send("vCont;s:1")
        assert g.stopped().startswith("T05thread:01;")
        assert g.pc() == ENTRY + 5 and g.pc(2) == 0xfff0
        g.expect("Hg1", "OK")
        g.send("s")
        g.stopped()
        assert g.pc() == ENTRY + 6
        g.send(f"s{ENTRY:x}")
        g.stopped()
        assert g.pc() == ENTRY + 5


def test_breakpoints_before_paging_leave_memory_alone():
    with Machine() as m:
        g = m.gdb()
        g.ask("qSupported:swbreak+;hwbreak+")
        code = g.ask("m100000,40")
        g.expect(f"Z0,{ENTRY + 6:x},1", "OK")
        g.expect(f"Z0,{ENTRY + 6:x},1", "OK")
        g.expect("Qqemu.PhyMemMode:1", "OK")
        g.expect("m100000,40", code)
        g.expect("Qqemu.PhyMemMode:0", "OK")
        g.send("vCont;c")
        assert g.stopped() == "T05thread:01;swbreak:;"
        assert g.pc() == ENTRY + 6
        g.expect(f"z0,{ENTRY + 6:x},1", "OK")
        g.expect(f"z0,{ENTRY + 6:x},1", "OK")
        g.expect(f"Z1,{ENTRY + 7:x},1", "OK")
        g.send("c")
        assert g.stopped() == "T05thread:01;hwbreak:;"


def test_there_are_four_debug_registers_and_a_fifth_is_refused_in_words():
    """Where KVM does not report debug registers, vCPUs step: their number is then unlimited."""
    with Machine() as m:
        g = m.gdb()
        for n in range(4):
            g.expect(f"Z1,{ENTRY + n:x},1", "OK")
        fifth = g.ask(f"Z1,{ENTRY + 4:x},1")
        if "hardware breakpoints no" in m.said():
            assert fifth == "OK", f"stepping has no limit, but a fifth is answered by {fifth!r}"
        else:
            assert fifth.startswith("E."), f"a fifth debug register is answered by {fifth!r}"
        g.expect(f"z1,{ENTRY:x},1", "OK")
        g.expect(f"Z1,{ENTRY + 4:x},1", "OK")
        g.expect(f"z1,{ENTRY + 4:x},1", "OK")
        g.expect("Z2,200000,8", "OK")
        g.expect("z2,200000,8", "OK")
        for bad in ("Z0", "Z0,", "Z0,1", "Z,1,1", "Z0,x,1", "Z2,0", "z1,1"):
            g.expect(bad, "E22")
        assert g.ask("Z2,0,0").startswith("E.")
        assert g.ask("Z2,0,ffffffffffffffff").startswith("E.")


def test_breakpoints_in_memory_do_not_show():
    with Machine() as m:
        g = m.gdb()
        code = g.ask("m200000,8")
        g.expect("Qqemu.PhyMemMode:1", "OK")
        g.expect("Z0,200002,1", "OK")
        g.expect("m200000,8", code)
        g.expect("M200000,4:01020304", "OK")
        g.expect("m200000,4", "01020304")
        assert re.search("0x04(cc|ee)0201", g.monitor("xp /1xw 0x200000")), "in the guest's memory it does stand"
        g.expect("z0,200002,1", "OK")
        assert "0x04030201" in g.monitor("xp /1xw 0x200000")


def test_an_interrupt_stops_a_guest_that_spins():
    with Machine() as m:
        g = m.gdb()
        g.send("vCont;c")
        m.wait_console("tick 2")
        g.send_raw(b"\x03")
        assert g.stopped().startswith("T02")
        before = m.ticks()
        assert g.pc() != ENTRY
        g.send("vCont;c")
        m.wait(lambda: m.ticks() > before + 1, "going on")
        g.send_raw(b"\x03")
        g.stopped()


def test_a_client_that_comes_stops_the_guest_and_one_that_goes_lets_it_run():
    with Machine(stopped=False) as m:
        m.wait_console("tick 2")
        g = m.gdb()
        assert g.ask("?").startswith("T02")
        assert "paused" in g.monitor("info status")
        g.close()
        m.wait_running()
        g = m.gdb()
        g.ask("?")
        g.expect("D", "OK")
        m.wait_running()


def test_one_that_goes_leaves_a_vm_stopped_that_it_found_so():
    with Machine() as m:
        g = m.gdb()
        g.ask("?")
        g.expect(f"Z0,{ENTRY + 6:x},1", "OK")
        g.close()
        g = m.gdb()
        assert g.ask("?").startswith("T02") and g.pc() == ENTRY
        g.send("vCont;c")
        m.wait_running()  # the breakpoint was removed with its client


def test_a_step_of_one_thread_that_is_left_behind_frees_the_others():
    with Machine() as m:
        g = m.gdb()
        g.send("vCont;c")
        m.wait_console("tick 2")
        g.send_raw(b"\x03")
        g.stopped()
        g.send("vCont;c:1")
        g.close()
        m.wait_running()
        g = m.gdb()
        g.ask("?")
        g.expect("D", "OK")
        m.wait_running()


def test_a_stop_by_somebody_else_is_told_and_so_is_nothing_of_a_start():
    with Machine("-qmp", "stdio") as m:
        g = m.gdb()
        m.qmp("qmp_capabilities", "stop")
        g.send("vCont;c")
        m.wait_console("tick 2")
        m.qmp("stop")
        assert g.stopped().startswith("T02")
        m.qmp("cont")
        m.wait_running()
        g.expect("qAttached", "1")  # and no stop before it
        m.qmp("stop")
        m.wait(lambda: m.said().count('"STOP"') == 2, "the stop, which may come after its answer")
        g.send("vCont;c")
        m.wait_running()


def test_a_dump_is_no_stop_and_an_interrupt_during_one_is():
    with Machine() as m:
        g = m.gdb()
        g.send("vCont;c")
        m.wait_console("tick 2")
        fifo = os.path.join(m.work.name, "fifo")
        os.mkfifo(fifo)
        reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
        g.monitor(f"dump-guest-memory -d {fifo}")
        m.wait(lambda: "paused" in g.monitor("info status"), "a dump that waits for its reader")
        g.send_raw(b"\x03")
        assert g.stopped().startswith("T02")
        at = [g.pc(1), g.pc(2)]
        os.set_blocking(reader, True)
        with os.fdopen(reader, "rb") as pipe:
            while pipe.read(1 << 20):
                pass
        m.wait(lambda: "completed" in g.monitor("info dump"), "the dump's end")
        g.monitor("device_del none")  # runs after the dump has released the VM
        assert "paused" in g.monitor("info status")
        assert [g.pc(1), g.pc(2)] == at
        g.send("vCont;c")
        m.wait_running()


def test_the_machine_may_be_reset_and_breakpoints_stay():
    with Machine() as m:
        g = m.gdb()
        g.ask("qSupported:swbreak+;hwbreak+")
        g.expect(f"Z0,{ENTRY + 6:x},1", "OK")
        g.send("vCont;c")
        g.stopped()
        g.monitor("system_reset")
        m.wait(lambda: g.pc() == ENTRY, "the reset")
        g.send("vCont;c")
        assert g.stopped() == "T05thread:01;swbreak:;"
        assert g.pc() == ENTRY + 6


def dumped(path, gpa):
    """The byte at a guest address in an ELF core file."""
    with open(path, "rb") as f:
        core = f.read()
    at, = struct.unpack_from("<Q", core, 32)
    size, count = struct.unpack_from("<HH", core, 54)
    for i in range(count):
        kind, _, offset, _, start, length = struct.unpack_from("<IIQQQQ", core, at + i * size)
        if kind == 1 and start <= gpa < start + length:
            return core[offset + gpa - start]
    raise AssertionError(f"{gpa:#x} is not in the dump")


def test_saves_dumps_and_rewinds_have_the_guests_own_bytes():
    def shows(g, what):
        said = g.monitor("xp /1xb 0x1f00002")
        assert re.search("0x(%s)\\s*$" % what, said), said

    def completed(g):
        return "completed" in g.monitor("info savevm")

    broken = "cc|ee"
    with Machine() as m:
        g = m.gdb()
        state = os.path.join(m.work.name, "state")
        g.expect("Qqemu.PhyMemMode:1", "OK")
        shows(g, "00")
        g.expect("M1f00010,1:5a", "OK")
        g.expect("Z0,1f00002,1", "OK")
        shows(g, broken)
        g.monitor(f"savevm-start {state}")
        m.wait(lambda: completed(g), "the end of the save")
        g.monitor("savevm-end")
        shows(g, broken)
        with Machine("-loadstate", state) as other:
            client = other.gdb()
            other.wait(lambda: "0x5a" in client.monitor("xp /1xb 0x1f00010"), "the memory of the file")
            shows(client, "00")
        core = os.path.join(m.work.name, "core")
        assert g.monitor(f"dump-guest-memory {core} 0x1f00000 0x1000").strip() == ""
        assert dumped(core, 0x1f00010) == 0x5a and dumped(core, 0x1f00002) == 0
        shows(g, broken)
        assert g.monitor("x-rewind-point") == ""
        shows(g, broken)
        g.expect("z0,1f00002,1", "OK")
        shows(g, "00")
        assert g.monitor("x-rewind") == ""
        shows(g, "00")  # nobody would take it out
        g.expect("Z0,1f00002,1", "OK")
        assert g.monitor("x-rewind") == ""
        shows(g, broken)  # it is set still
        g.expect("z0,1f00002,1", "OK")
        shows(g, "00")
        g.monitor("x-rewind-end")


def test_kill_ends_skiff_with_status_0():
    for packet in ("k", "vKill;1"):
        with Machine() as m:
            g = m.gdb()
            g.ask("?")
            g.send(packet)
            assert m.process.wait(200 * SLOW) == 0


def test_without_acknowledgements_there_are_none():
    with Machine() as m:
        g = m.gdb()
        g.expect("QStartNoAckMode", "OK")
        g.acks = False
        g.data = b""
        g.send("qAttached")
        assert g.byte() == b"$", "something comes before the answer"
        g.close()
        g = m.gdb()  # they work again for the next client
        g.send("qAttached")
        assert g.byte() == b"+"


def test_a_damaged_packet_is_refused_and_an_answer_repeated():
    with Machine() as m:
        g = m.gdb()
        g.send_raw(b"$qAttached#00")
        assert g.byte() == b"-"
        g.expect("qAttached", "1")
        g.send_raw(b"-")
        assert g.receive() == "1"


def test_resuming_is_refused_when_it_makes_no_sense():
    with Machine() as m:
        g = m.gdb()
        for bad in ("vCont", "vCont;", "vCont;x", "vCont;c:9", "vCont;s:1;", "vCont;cc", "vCont;C", "vCont;c:", "S", "C", "cx", "Sx"):
            g.expect(bad, "E22")
        assert g.pc() == ENTRY


def test_garbage_harms_nobody():
    rng = random.Random(1)
    with Machine() as m:
        pieces = [b"$", b"#", b"#00", b"}", b"*", b"\x03", b"+", b"-", b"$m", b"$vCont;c#a8", b"$g#67", b"$?#3f", b"$D#44",
                  b"$Z0,100006,1#d8", b"$qSupported#37", b"$X0,4:", b"\xff" * 9, b"$" + b"A" * 70000]
        for _ in range(30):
            g = m.gdb()
            try:
                for _ in range(rng.randrange(1, 30)):
                    g.send_raw(rng.choice(pieces) if rng.random() < 0.8 else rng.randbytes(rng.randrange(1, 200)))
            except (BrokenPipeError, ConnectionResetError, TimeoutError):
                pass
            g.close()
        g = m.gdb()
        g.expect("qAttached", "1")
        g.ask("?")


def test_one_that_asks_and_does_not_read_is_not_served_without_bounds():
    with Machine() as m:
        g = m.gdb()
        g.socket.settimeout(1)
        try:
            for _ in range(3000):
                g.send("g")
        except TimeoutError:
            pass
        g.close()
        g = m.gdb()
        g.expect("qAttached", "1")


def test_a_disk_that_hangs_does_not_hide_the_guest():
    disk = "driver=fault,node-name=disk,hold=on,fail-op=any,fail-after=2,file.driver=null-co,file.size=64M"
    with Machine("-blockdev", disk, "-device", "virtio-blk-pci,drive=disk", "-trace", "block_fault_inject",
                 guest="blk-verify", words="until=button qd=8 limit_ms=10000000 mode=irq") as m:
        g = m.gdb()
        g.send("vCont;c")
        m.wait(lambda: m.said().count("block_fault_inject") >= 4, "requests that hang")
        g.send_raw(b"\x03")
        assert g.stopped().startswith("T02")
        where, registers = g.pc(), g.ask("g")
        for _ in range(5):  # it cannot resume before storage does, but gdb is answered
            g.send("vCont;s:1;c")
            g.send_raw(b"\x03")
            assert g.stopped().startswith("T02")
            assert g.pc() == where and g.ask("g") == registers
        g.send("k")
        assert m.process.wait(200 * SLOW) == 0


def test_it_opens_and_closes_from_the_monitor():
    with Machine() as m:
        g = m.gdb()
        path = m.path + "2"
        g.send("qRcmd," + f"gdbserver unix:{path}".encode().hex())
        m.wait(lambda: os.path.exists(path) and not os.path.exists(m.path), "another socket")
        g = Gdb(path)
        g.expect("qAttached", "1")
        g.send("qRcmd," + b"gdbserver none".hex())
        m.wait(lambda: not os.path.exists(path), "the end of the socket")


def main():
    tests = [(n, f) for n, f in globals().items() if n.startswith("test_")]
    if len(sys.argv) > 1:
        tests = [(n, f) for n, f in tests if any(a in n for a in sys.argv[1:])]
    print(f"1..{len(tests)}")
    failed = 0
    for number, (name, test) in enumerate(tests, 1):
        sentence = name[5:].replace("_", " ")
        try:
            test()
            print(f"ok {number} - {sentence}", flush=True)
        except Exception:
            failed += 1
            print(f"not ok {number} - {sentence}")
            print("".join("# " + line for line in traceback.format_exc().splitlines(True)), flush=True)
    sys.exit(failed != 0)


main()
