#!/usr/bin/env python3
"""Runs the binaries of cross/build.sh on every processor model of cross/targets.tsv.

    cross/run.py [TARGET…]

Each binary in dist/ must print its version, generate a secret, check a config and serve: the test
reads /stats, sends a ClientHello without a valid secret, which must reach the front unchanged, and
compares the answer. SIGTERM must end the program with exit code 0. All sockets are on loopback.
"""

import json
import pathlib
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent
TIMEOUT = 30
ANSWER = b"an answer of the front " * 3000

CONFIG = """\
bind-to = "127.0.0.1:{port}"
api-bind-to = "127.0.0.1:{api}"
[secrets]
anna = "{secret}"
[domain-fronting]
host = "127.0.0.1"
port = {front}
scout = false
[network]
public-ip-url = ""
[defense.doppelganger]
enabled = false
"""


def rows():
    for line in (ROOT / "cross/targets.tsv").read_text().splitlines():
        if not line.startswith("#"):
            target, _, qemu, cpus, *_ = line.split("\t")
            yield target, qemu, cpus.split(",")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def hello():
    """A ClientHello for example.org."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.create_default_context()
    try:
        context.wrap_bio(incoming, outgoing, server_hostname="example.org").do_handshake()
    except ssl.SSLWantReadError:
        pass
    return outgoing.read()


def read_all(peer):
    whole = b""
    while piece := peer.recv(65536):
        whole += piece
    return whole


def serve_once(listener, received):
    """Answers one connection and keeps what it received."""
    peer, _ = listener.accept()
    with peer:
        peer.settimeout(TIMEOUT)
        received.append(peer.recv(65536))
        peer.sendall(ANSWER)


def output(command, *arguments):
    result = subprocess.run(
        [*command, *arguments], capture_output=True, text=True, timeout=TIMEOUT
    )
    if result.returncode != 0:
        raise AssertionError(f"{arguments[0]}: {result.returncode} {result.stderr.strip()}")
    return result.stdout.strip()


def stats(port):
    """The JSON of /stats; waits until the program listens."""
    deadline = time.monotonic() + TIMEOUT
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/stats", timeout=TIMEOUT) as page:
                return json.load(page)
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def round_trip(command, folder):
    port, api = free_port(), free_port()
    front = socket.create_server(("127.0.0.1", 0))
    front.settimeout(TIMEOUT)
    secret = output(command, "generate-secret", "--hex", "example.org")
    file = folder / "mtbox.toml"
    file.write_text(
        CONFIG.format(port=port, api=api, secret=secret, front=front.getsockname()[1])
    )
    file.chmod(0o600)
    output(command, "check", str(file))
    program = subprocess.Popen([*command, "run", str(file)], stderr=subprocess.PIPE, text=True)
    try:
        assert "anna" in stats(api)["users"]
        received, sent = [], hello()
        threading.Thread(target=serve_once, args=(front, received), daemon=True).start()
        with socket.create_connection(("127.0.0.1", port), TIMEOUT) as client:
            client.sendall(sent)
            assert read_all(client) == ANSWER, "the answer of the front has changed"
        assert received == [sent], "the ClientHello has changed"
        program.send_signal(signal.SIGTERM)
        assert program.wait(TIMEOUT) == 0, f"TERM: {program.returncode}"
    finally:
        if program.poll() is None:
            program.kill()
        front.close()
        program.communicate()


def main():
    wanted = sys.argv[1:]
    runs = failures = 0
    for target, qemu, cpus in rows():
        if wanted and target not in wanted:
            continue
        for binary in sorted((ROOT / "dist" / target).glob("*/mtbox")):
            for cpu in cpus:
                command = [f"qemu-{qemu}-static", "-cpu", cpu, str(binary)]
                start = time.monotonic()
                try:
                    with tempfile.TemporaryDirectory() as folder:
                        result = output(command, "--version")
                        assert ("tls" in result) == (binary.parent.name == "full"), result
                        round_trip(command, pathlib.Path(folder))
                except (AssertionError, OSError, subprocess.TimeoutExpired) as fault:
                    failures += 1
                    result = f"FAILED: {fault!r}"
                runs += 1
                took = time.monotonic() - start
                print(f"{target} {binary.parent.name} {cpu}: {result} ({took:.1f} s)", flush=True)
    print(f"{runs} runs, {failures} failed")
    sys.exit(1 if failures or not runs else 0)


if __name__ == "__main__":
    main()
