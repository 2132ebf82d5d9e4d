#!/usr/bin/env python3
"""Time of downloads over a long path, with the traffic shape and without.

Usage, as root: benches/pictures.py target/release/mtbox [SESSIONS]

The client and the proxy have a network namespace each. Between them is a pair of TUN devices whose
packets wait 30 ms in each direction, so that TCP starts as slowly as on such a path. The congestion
control is reno on both sides. Needs ip(8) and openssl(1).
"""
import collections
import fcntl
import hashlib
import hmac
import json
import os
import select
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time

ONE_WAY = 0.03
SIZES = (100_000, 500_000, 1_000_000, 3_000_000)
SHAPES = ("burst", "always", "off")
HOST = b"front.example"
KEY = bytes(range(16))
DC_PORT = 5000
PROXY_PORT = 4430


def sized(data):
    return struct.pack(">H", len(data)) + data


def receive(stream, count):
    got = bytearray()
    while len(got) < count:
        more = stream.recv(min(1 << 16, count - len(got)))
        if not more:
            raise EOFError
        got += more
    return bytes(got)


def read_record(stream):
    return receive(stream, struct.unpack(">H", receive(stream, 5)[3:])[0])


def hello():
    shares = b"\x11\xec\x04\xc0" + os.urandom(1216) + b"\x00\x1d\x00\x20" + os.urandom(32)
    fields = {0: sized(b"\0" + sized(HOST)), 10: sized(b"\x11\xec\x00\x1d"),
              13: sized(b"\x04\x03\x08\x04\x04\x01"), 43: b"\x02\x03\x04", 51: sized(shares)}
    extensions = b"".join(struct.pack(">H", kind) + sized(body) for kind, body in fields.items())
    body = b"\x03\x03" + bytes(32) + b"\x20" + os.urandom(32) + sized(b"\x13\x01\x13\x02\x13\x03")
    body += b"\x01\0" + sized(extensions)
    wire = b"\x16\x03\x01" + sized(b"\x01\0" + sized(body))
    digest = bytearray(hmac.new(KEY, wire, hashlib.sha256).digest())
    for at, byte in enumerate(struct.pack("<I", int(time.time()))):
        digest[28 + at] ^= byte
    return wire[:11] + bytes(digest) + wire[43:]


def frame(dc):
    """The 64 bytes that name the data centre."""
    plain = bytearray(b"\x01" + os.urandom(63))
    plain[56:62] = b"\xdd\xdd\xdd\xdd" + struct.pack("<h", dc)
    key = hashlib.sha256(bytes(plain[8:40]) + KEY).hexdigest()
    cipher = ["openssl", "enc", "-aes-256-ctr", "-K", key, "-iv", plain[40:56].hex()]
    sealed = subprocess.run(cipher, input=bytes(plain), stdout=subprocess.PIPE, check=True).stdout
    return bytes(plain[:56]) + sealed[56:64]


def download(port, dc, count):
    """Seconds from the request to the last byte."""
    with socket.create_connection(("10.9.0.2", port)) as stream:
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        stream.sendall(hello())
        for _ in range(3):
            read_record(stream)
        stream.sendall(b"\x14\x03\x03\x00\x01\x01\x17\x03\x03" + sized(frame(dc)))
        time.sleep(0.1)
        begun = time.monotonic()
        stream.sendall(b"\x17\x03\x03" + sized(b"picture?"))
        while count > 0:
            count -= len(read_record(stream))
        return time.monotonic() - begun


def run_client(sessions):
    times = {}
    for _ in range(sessions):
        for shape_at, shape in enumerate(SHAPES):
            for size_at, size in enumerate(SIZES):
                taken = download(PROXY_PORT + shape_at, size_at + 1, size)
                times.setdefault(f"{shape} {size}", []).append(taken)
    print(json.dumps(times))


def run_data_centres():
    """Each answers the first request with as many bytes as its size says."""
    def serve(listener, size):
        while True:
            stream = listener.accept()[0]
            threading.Thread(target=answer, args=(stream, size), daemon=True).start()

    def answer(stream, size):
        try:
            receive(stream, 72)
            stream.sendall(bytes(size))
            receive(stream, 1)
        except (OSError, EOFError):
            pass

    for at, size in enumerate(SIZES):
        listener = socket.create_server(("127.0.0.1", DC_PORT + at), backlog=64)
        threading.Thread(target=serve, args=(listener, size)).start()


def open_tun(name):
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    # TUNSETIFF with IFF_TUN and IFF_NO_PI.
    fcntl.ioctl(device, 0x400454CA, struct.pack("16sH", name.encode(), 0x1001))
    return device


def delay_packets(one, two):
    other, queues = {one: two, two: one}, {one: collections.deque(), two: collections.deque()}
    while True:
        now = time.monotonic()
        for device, queue in queues.items():
            while queue and queue[0][0] <= now:
                os.write(device, queue.popleft()[1])
        due = min((queue[0][0] for queue in queues.values() if queue), default=now + 1)
        for device in select.select([one, two], [], [], max(0, due - now))[0]:
            try:
                while True:
                    packet = os.read(device, 1 << 16)
                    queues[other[device]].append((time.monotonic() + ONE_WAY, packet))
            except BlockingIOError:
                pass


def delay_until_the_end(devices):
    try:
        delay_packets(*devices)
    except OSError:
        pass  # The namespaces are gone.


def config(folder, at, shape):
    path = os.path.join(folder, f"{shape}.toml")
    lists = "\n".join(f'{dc} = ["127.0.0.1:{DC_PORT + dc - 1}"]' for dc in range(1, len(SIZES) + 1))
    mode = "enabled = false" if shape == "off" else f'mode = "{shape}"'
    with open(path, "w") as file:
        file.write(f'bind-to = "10.9.0.2:{PROXY_PORT + at}"\nsecret = "ee{KEY.hex()}{HOST.hex()}"\n'
                   f'[network]\ntcp-congestion = "reno"\n[telegram.dc-overrides]\n{lists}\n'
                   f'[domain-fronting]\nhost = "127.0.0.1"\nport = 1\nscout = false\n'
                   f"[defense.doppelganger]\n{mode}\n")
    return path


def main(program, sessions):
    spaces = [f"pictures{side}{os.getpid()}" for side in "ab"]
    within = [["ip", "netns", "exec", space] for space in spaces]
    own, running = [sys.executable, os.path.abspath(__file__)], []
    devices = [open_tun(f"pic{side}") for side in "ab"]
    try:
        for at, space in enumerate(spaces):
            device = "pic" + "ab"[at]
            subprocess.run(["ip", "netns", "add", space], check=True)
            subprocess.run(["ip", "link", "set", device, "netns", space], check=True)
            for words in (f"addr add 10.9.0.{at + 1}/24 dev {device}",
                          f"link set {device} up txqueuelen 10000", "link set lo up"):
                subprocess.run(within[at] + ["ip"] + words.split(), check=True)
        threading.Thread(target=delay_until_the_end, args=(devices,), daemon=True).start()
        with tempfile.TemporaryDirectory() as folder:
            running.append(subprocess.Popen(within[1] + own + ["data-centres"]))
            for at, shape in enumerate(SHAPES):
                command = within[1] + [program, "run", config(folder, at, shape)]
                running.append(subprocess.Popen(command, stderr=subprocess.DEVNULL))
            time.sleep(1)
            done = subprocess.run(within[0] + own + ["client", str(sessions)],
                                  stdout=subprocess.PIPE, check=True)
        times = json.loads(done.stdout)
        median = {name: statistics.median(taken) for name, taken in times.items()}
        print(f"{'bytes':>9}" + "".join(f"{shape:>10} ms      /off" for shape in SHAPES))
        for size in SIZES:
            off = median[f"off {size}"]
            row = (median[f"{shape} {size}"] for shape in SHAPES)
            print(f"{size:9}" + "".join(f"{taken * 1e3:13.0f}{taken / off:10.2f}" for taken in row))
    finally:
        for process in running:
            process.terminate()
        for space in spaces:
            subprocess.run(["ip", "netns", "del", space], check=False)


if __name__ == "__main__":
    if sys.argv[1] == "client":
        run_client(int(sys.argv[2]))
    elif sys.argv[1] == "data-centres":
        run_data_centres()
    else:
        main(os.path.abspath(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 15)
