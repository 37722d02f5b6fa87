#!/usr/bin/env python3
"""What an agent in a fortress finds of its worker. Prints one JSON object."""
import errno, glob, json, os, pathlib, sys

NEEDLES = [needle.encode() for needle in sys.argv[1:]]


def error_of(act):
    try:
        act()
    except OSError as error:
        return errno.errorcode.get(error.errno, str(error.errno))
    return "no error"


def of_the_worker():
    """Processes of the worker's program."""
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            if b"code-workers-worker" in (folder / "cmdline").read_bytes().split(b"\0")[0]:
                yield folder
        except OSError:
            pass


def memory(folder):
    """All that can be read of a process's memory."""
    with open(folder / "maps") as maps, open(folder / "mem", "rb", 0) as mem:
        for line in maps:
            start, end = (int(part, 16) for part in line.split()[0].split("-"))
            try:
                mem.seek(start)
                yield mem.read(end - start)
            except (OSError, ValueError, OverflowError):
                pass


def leaks():
    found = []
    for folder in of_the_worker():
        for name in ("environ", "cmdline"):
            try:
                text = (folder / name).read_bytes()
            except OSError:
                continue
            found += [f"{folder}/{name}" for needle in NEEDLES if needle in text]
        try:
            if any(needle in text for text in memory(folder) for needle in NEEDLES):
                found.append(f"{folder}/mem")
        except OSError:
            pass
        try:
            for descriptor in (folder / "fd").iterdir():
                try:
                    if (os.stat(descriptor).st_mode & 0o170000) == 0o100000:
                        found += [str(descriptor) for needle in NEEDLES if needle in descriptor.read_bytes()]
                except OSError:
                    pass
        except OSError:
            pass
    for top in glob.glob("/tmp/code-workers-*"):
        for folder, _, files in os.walk(top):
            for name in files:
                # The agent's own configuration and output hold its own key, where it has one.
                try:
                    text = pathlib.Path(folder, name).read_bytes()
                except OSError:
                    continue
                found += [f"{folder}/{name}" for needle in NEEDLES if needle in text]
    return found


workers = sorted(int(folder.name) for folder in of_the_worker())
assert workers, "the worker is not seen at all, so nothing was looked at"
print(json.dumps({
    "leaks": leaks(),
    "kill": error_of(lambda: os.kill(max(workers), 0)),
    "outbox": error_of(lambda: os.listdir(os.path.join(os.path.dirname(os.getcwd()), "outbox"))),
    "caps": next(line.split()[1] for line in open("/proc/self/status") if line.startswith("CapEff")),
}))
