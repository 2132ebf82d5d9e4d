"""A model of procd: runs the command of a `set` message and signals file changes."""

import resource
import signal
import subprocess
import time
from pathlib import Path

from router import Router

SIGNALS = {"HUP": signal.SIGHUP}


class Procd:
    """One service with one instance."""

    def __init__(self, router: Router) -> None:
        self.router = router
        self.process: subprocess.Popen | None = None
        self.hashes: dict[str, str] = {}
        self.log = router.root / "tmp/service.log"

    def update(self) -> None:
        """Applies the last message to procd."""
        params = self.params()
        if "command" not in params:
            self.stop()
            return
        files = {path: self.router.sha256(relative(path)) for path in params["file"]}
        if self.process is None:
            self.start(params)
        elif files != self.hashes:
            # With a reload signal, procd does not restart the instance.
            self.process.send_signal(SIGNALS[params["reload_signal"][0]])
        self.hashes = files

    def params(self) -> dict[str, list[str]]:
        message = self.router.messages()[-1]
        return {call[1]: call[2:] for call in message if call[0] == "procd_set_param"}

    def start(self, params: dict[str, list[str]]) -> None:
        limits = dict(word.split("=") for word in params["limits"])
        # Limited to the hard limit of the test process.
        _, maximum = resource.getrlimit(resource.RLIMIT_NOFILE)
        soft, hard = (min(int(number), maximum) for number in limits["nofile"].split())

        def limit() -> None:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.router.command(*params["command"]),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
                preexec_fn=limit,
            )

    def stop(self) -> None:
        if self.process:
            self.process.terminate()
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.process = None

    def status(self, field: str) -> list[str]:
        """A field of /proc/PID/status of the process."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith(field + ":"):
                return line.split()[1:]
        raise KeyError(field)

    def wait_for(self, condition) -> None:
        """Polls until the condition is true; fails if the process exits or after 1500 polls."""
        for _ in range(1500):
            if condition():
                return
            if self.process.poll() is not None:
                break
            time.sleep(0.02)
        raise AssertionError(f"condition not reached: {self.log.read_text()}")


def relative(path: str) -> str:
    """A path of the router relative to its root; /var is a link to /tmp."""
    return path.removeprefix("/").replace("var/", "tmp/", 1)
