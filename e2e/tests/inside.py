#!/usr/bin/env python3
"""What a program that runs as the agent can see and reach. Prints one JSON object."""
import errno, json, os, pathlib, socket, sys

NEEDLES = [needle.encode() for needle in sys.argv[1:]]


def error_of(act):
    try:
        act()
    except OSError as error:
        return errno.errorcode.get(error.errno, str(error.errno))
    return "no error"


def connect(family, address):
    def act():
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.settimeout(5)
            probe.connect(address)
    return error_of(act)


def leaks():
    """Places that the agent can read and that hold a needle."""
    found = []
    places = [path for path in pathlib.Path("/proc").glob("[0-9]*/*") if path.name in ("environ", "cmdline", "mem")]
    for top in ("/run", "/etc", "/tmp", "/opt/code-workers/agents", "/mirror.git", "/work/.git", "/var", "/dev/shm"):
        for folder, _, files in os.walk(top):
            places += [pathlib.Path(folder, name) for name in files]
    for place in places:
        if int(place.parts[2]) == os.getpid() if place.parts[1] == "proc" else False:
            continue  # its own arguments hold the needles
        try:
            with open(place, "rb") as file:
                text = file.read(1 << 20)
        except OSError:
            continue
        found += [str(place) for needle in NEEDLES if needle in text]
    return found


print(json.dumps({
    "uid": os.getuid(),
    "tcp_out": connect(socket.AF_INET, ("1.1.1.1", 443)),
    "tcp6_out": connect(socket.AF_INET6, ("2606:4700:4700::1111", 443)),
    "vsock": error_of(lambda: socket.socket(getattr(socket, "AF_VSOCK", 40), socket.SOCK_STREAM)),
    "raw": error_of(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW)),
    "interfaces": [name for _, name in socket.if_nameindex()],
    "config": error_of(lambda: open("/run/code-workers/config/worker.json")),
    "outbox": error_of(lambda: os.listdir("/run/code-workers/outbox")),
    "kill_init": error_of(lambda: os.kill(1, 9)),
    "setuid": error_of(lambda: os.setuid(0)),
    "homes": sorted(os.listdir("/home")) if os.path.isdir("/home") else [],
    "root_home": error_of(lambda: os.listdir("/root")),
    "write_usr": error_of(lambda: open("/usr/x", "w")),
    "write_mirror": error_of(lambda: open("/mirror.git/x", "w")),
    "coordinator_door": connect(socket.AF_INET, ("skia", 7222)),
    "gateway_door": connect(socket.AF_INET, ("authproxy", 4000)),
    "leaks": leaks(),
    "keys_in_environment": sorted(name for name in os.environ if "KEY" in name or "TOKEN" in name),
}))
