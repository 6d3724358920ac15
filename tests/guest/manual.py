#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# tier: kvm
# timeout: 300
"""The manual page and the program agree: skiff accepts each option and property of docs/skiff.1, and
each entry of -help, -device help and -object help is in the manual page."""
import os
import re
import subprocess
import sys
import tempfile

TOP = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../..")
SKIFF = os.environ.get("SKIFF", "build/skiff")
SLOW = int(os.environ.get("TEST_SLOW", "1"))
MACROS = set("It Fl Ar Cm Ns Op Oo Oc No Pa Xr Li Dv Sx Pq Em Ql Nm Ic".split())
UNKNOWN = re.compile(r"no option '|unknown option|skiff has no -|skiff has no such global|no feature|unknown feature"
                     r"|has no option")


class Manual:
    """What skiff.1 says of options: `options` are those with an entry of their own, `mentioned` all
    that are named, `keys` are (option, device, object or driver or '', property, value); a property
    is written with its "="."""

    def __init__(self, path):
        self.options, self.mentioned, self.keys, self.words = set(), set(), set(), set()
        self.option = self.kind = None
        self.outer = []  # the entries around the current list
        with open(path, encoding="utf-8") as file:
            for line in file:
                if line.startswith((".Sh", ".Ss")):
                    self.option = self.kind = None
                elif line.startswith("."):
                    self.request(line[1:].split())

    def request(self, tokens):
        if tokens[0] == "Bl":
            self.outer.append((self.option, self.kind))
        if tokens[0] == "El":
            self.option, self.kind = self.outer.pop()
        entry = tokens[0] == "It"
        macro, option, kind = None, self.option, self.kind
        for token in tokens:
            if token in MACROS:
                macro = token
            elif macro == "Fl" and re.fullmatch(r"[A-Za-z][-A-Za-z_0-9]*", token):
                self.mentioned.add(token)
                option, kind = token, None
                if entry:
                    self.options.add(token)
            elif macro == "Cm":
                kind = self.argument(option, kind, token.replace("\\&", ""), entry)
        if entry and "Fl" in tokens:
            self.option, self.kind = option, kind if option == "object" else None
        elif entry and self.option in ("device", "netdev"):
            self.kind = kind

    def argument(self, option, kind, text, entry):
        """Notes the properties of @text; returns the kind ("virtio-blk-pci") that it names."""
        parts = text.split(",")
        if "=" not in parts[0] and parts[0] and option in ("device", "object", "netdev"):
            kind = parts[0]
            self.words.add(kind)
        elif option == "smbios" and parts[0].startswith("type="):
            kind = parts[0]
        driver = next((part[7:] for part in parts if part.startswith("driver=")), "")
        named = driver if option == "blockdev" else kind or ""
        for part in parts:
            match = re.fullmatch(r"([a-z][-a-z_0-9.]*)=(.*)", part)
            if match and option:
                self.keys.add((option, named, match.group(1), match.group(2)))
        return kind


class Skiff:
    def __init__(self, directory):
        self.disk = os.path.join(directory, "disk.img")
        self.other = os.path.join(directory, "x")
        with open(self.disk, "wb") as file:
            file.truncate(1 << 20)

    def run(self, *arguments, text=""):
        done = subprocess.run([SKIFF, *arguments], input=text, capture_output=True, text=True,
                              timeout=60 * SLOW, check=False)
        return done.stdout + done.stderr

    def start(self, *arguments):
        return self.run("-S", "-display", "none", "-kernel", "build/guests/hello.elf", "-monitor", "stdio",
                        *arguments, text="quit\n")

    def node(self, driver):
        below = {"": f"filename={self.disk},", "throttle": "file.driver=null-co,"}.get(driver, "")
        return f"driver={driver or 'file'},node-name=n,{below}"

    def arguments(self, option, kind, key, value):
        """A command line with that property, complete enough for its check."""
        pair = f"{key}={value or ('on' if option == 'cpu' else self.other)}"
        before = {
            "blockdev": self.node(kind),
            "chardev": "null,id=c,",
            "cpu": "host,",
            "device": f"{kind},",
            "drive": f"file={self.disk},format=raw,if=none,id=d,",
            "m": "128,",
            "mon": "chardev=c,",
            "netdev": f"{kind},id=n,",
            "nic": f"{kind or 'tap'},",
            "object": f"{kind},id=o," + ("size=2M," if kind.startswith("memory") else ""),
            "serial": "null,",
            "smbios": "" if key == "file" else (kind or "type=1") + ",",
            "smp": "1,",
        }.get(option, "")
        if (option in ("drive", "blockdev") and key in ("file", "format", "if", "id", "driver", "node-name")
                or (option, key) == ("smbios", "type")):
            pair = ""  # they are in `before`
        extra = ["-chardev", "null,id=c"] if option == "mon" else []
        return [*extra, f"-{option}", before + pair]


def check_options(manual, skiff):
    for option in sorted(manual.mentioned):
        said = skiff.run(f"-{option}")
        assert not UNKNOWN.search(said), f"-{option} is in the manual page: {said}"
    assert len(manual.options) > 40, manual.options


def check_help(manual, skiff):
    listed = re.findall(r"^  -([-A-Za-z_]+)", skiff.run("-help"), re.M)
    assert len(listed) > 30, listed
    missing = [option for option in listed if option not in manual.options]
    assert not missing, f"-help lists what the manual page has no entry for: {missing}"
    for option in ("device", "object"):
        kinds = re.findall(r"^([-a-z0-9]+) ", skiff.run(f"-{option}", "help"), re.M)
        missing = [kind for kind in kinds if kind not in manual.words]
        assert kinds and not missing, f"-{option} help lists what the manual page lacks: {missing}"


def check_keys(manual, skiff):
    wrong = []
    for option, kind, key, value in sorted(manual.keys):
        if option in ("object", "device", "netdev") and not kind:
            continue
        said = skiff.start(*skiff.arguments(option, kind, key, value))
        if UNKNOWN.search(said):
            wrong.append(f"-{option} {kind} {key}={value}: {said.strip()}")
    assert not wrong, "\n".join(wrong)
    assert len(manual.keys) > 50, manual.keys


def check_the_check(manual, skiff):
    """An unknown property is detected, for every option with properties."""
    blind = set()
    for option, kind in sorted({(option, kind) for option, kind, *_ in manual.keys}):
        if kind or option not in ("object", "device", "netdev"):
            said = skiff.start(*skiff.arguments(option, kind, "no-such", ""))
            if not UNKNOWN.search(said):
                blind.add(f"-{option} {kind}: {said.strip()}")
    assert not blind, "\n".join(sorted(blind))


CHECKS = [
    ("each option of the manual page is one of skiff's", check_options),
    ("each option, device and object that is listed is in the manual page", check_help),
    ("each property of the manual page is one of skiff's", check_keys),
    ("a property that does not exist would be noticed", check_the_check),
]


def main():
    os.chdir(TOP)
    manual = Manual("docs/skiff.1")
    failed = 0
    print(f"1..{len(CHECKS)}")
    with tempfile.TemporaryDirectory() as directory:
        skiff = Skiff(directory)
        for number, (name, check) in enumerate(CHECKS, 1):
            try:
                check(manual, skiff)
                print(f"ok {number} - {name}")
            except AssertionError as error:
                failed += 1
                print(f"not ok {number} - {name}")
                print("\n".join("# " + line for line in str(error).splitlines()))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
