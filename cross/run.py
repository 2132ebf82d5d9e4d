#!/usr/bin/env python3
"""Runs what cross/build.sh has built on every processor model of cross/targets.tsv.

    cross/run.py [TARGET…]

Each binary in dist/ tells its version, makes a secret, reads a config, then serves: its numbers
are fetched, a stranger's TLS hello is carried to a site of ours and the answer back, and TERM
ends it in order. Every socket is on loopback.
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
PATIENCE = 30
ANSWER = b"an answer of the site's own " * 3000

CONFIG = """\
bind-to = "127.0.0.1:{port}"
api-bind-to = "127.0.0.1:{api}"
[secrets]
anna = "{secret}"
[domain-fronting]
host = "127.0.0.1"
port = {site}
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
    """What a browser would say first."""
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


def serve_once(listener, heard):
    """A site that answers whatever it hears, once."""
    peer, _ = listener.accept()
    with peer:
        peer.settimeout(PATIENCE)
        heard.append(peer.recv(65536))
        peer.sendall(ANSWER)


def say(command, *arguments):
    result = subprocess.run(
        [*command, *arguments], capture_output=True, text=True, timeout=PATIENCE
    )
    if result.returncode != 0:
        raise AssertionError(f"{arguments[0]}: {result.returncode} {result.stderr.strip()}")
    return result.stdout.strip()


def numbers(port):
    """What /stats says, once the program listens."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/stats", timeout=PATIENCE) as page:
                return json.load(page)
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def round_trip(command, folder):
    port, api = free_port(), free_port()
    site = socket.create_server(("127.0.0.1", 0))
    site.settimeout(PATIENCE)
    secret = say(command, "generate-secret", "--hex", "example.org")
    file = folder / "mtbox.toml"
    file.write_text(
        CONFIG.format(port=port, api=api, secret=secret, site=site.getsockname()[1])
    )
    file.chmod(0o600)
    say(command, "check", str(file))
    program = subprocess.Popen([*command, "run", str(file)], stderr=subprocess.PIPE, text=True)
    try:
        assert "anna" in numbers(api)["users"]
        heard, sent = [], hello()
        threading.Thread(target=serve_once, args=(site, heard), daemon=True).start()
        with socket.create_connection(("127.0.0.1", port), PATIENCE) as client:
            client.sendall(sent)
            assert read_all(client) == ANSWER, "the site's answer has changed"
        assert heard == [sent], "the stranger's hello has changed"
        program.send_signal(signal.SIGTERM)
        assert program.wait(PATIENCE) == 0, f"TERM: {program.returncode}"
    finally:
        if program.poll() is None:
            program.kill()
        site.close()
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
                        told = say(command, "--version")
                        assert ("tls" in told) == (binary.parent.name == "full"), told
                        round_trip(command, pathlib.Path(folder))
                except (AssertionError, OSError, subprocess.TimeoutExpired) as fault:
                    failures += 1
                    told = f"FAILED: {fault!r}"
                runs += 1
                took = time.monotonic() - start
                print(f"{target} {binary.parent.name} {cpu}: {told} ({took:.1f} s)", flush=True)
    print(f"{runs} runs, {failures} failed")
    sys.exit(1 if failures or not runs else 0)


if __name__ == "__main__":
    main()
