"""The uci-defaults script selects the port of a default config."""

from router import FILES, MTBOX, RouterTest

LISTENING = (
    "  sl  local_address rem_address   st\n"
    "   0: 00000000:01BB 00000000:0000 0A 00000000:00000000\n"
)
CONNECTED = (
    "  sl  local_address rem_address   st\n"
    "   0: 0100007F:01BB 0100007F:9999 01 00000000:00000000\n"
)
UHTTPD = "config uhttpd 'main'\n\tlist listen_https '0.0.0.0:443'\n\tlist listen_https '[::]:443'\n"


class Defaults(RouterTest):
    def setUp(self) -> None:
        super().setUp()
        self.router.copy(FILES / "mtbox.config", "etc/config/mtbox")
        self.router.copy(FILES / "mtbox.defaults", "etc/uci-defaults/80-mtbox")
        self.router.add_user()

    def port(self) -> str:
        self.router.run("/bin/sh", "/etc/uci-defaults/80-mtbox")
        return self.router.run("/sbin/uci", "get", "mtbox.main.port").stdout.strip()

    def change(self, old: str, new: str) -> None:
        text = self.router.read("etc/config/mtbox")
        self.assertIn(old, text)
        self.router.write("etc/config/mtbox", text.replace(old, new))

    def test_a_free_port_is_kept_and_nothing_is_written(self):
        self.router.write("proc/net/tcp", CONNECTED)
        self.assertEqual(self.port(), "443")
        self.assertEqual(self.router.read("etc/config/mtbox"), (FILES / "mtbox.config").read_text())
        self.assertEqual(self.router.read("tmp/commits"), "")

    def test_a_port_in_use_is_replaced_once(self):
        self.router.write("proc/net/tcp6", LISTENING)
        self.assertEqual(self.port(), "8443")
        self.assertEqual(self.port(), "8443")
        self.assertEqual(self.router.read("tmp/commits"), "mtbox\n")
        self.assertIn("port 443 is in use", self.router.read("tmp/log"))

    def test_the_other_options_are_kept(self):
        self.router.write("proc/net/tcp", LISTENING)
        self.port()
        text = self.router.read("etc/config/mtbox")
        for line in ("option host 'www.google.com'", "option open_port '1'", "config user 'me'"):
            self.assertIn(line, text)

    def test_port_443_is_reserved_for_a_web_server_that_has_not_started(self):
        self.router.write("etc/config/uhttpd", UHTTPD)
        self.assertEqual(self.port(), "8443")

    def test_a_running_web_server_without_tls_reserves_nothing(self):
        self.router.write("etc/config/uhttpd", UHTTPD)
        self.router.write("bin/pidof", "#!/bin/sh\necho 1\n")
        (self.router.root / "bin/pidof").chmod(0o755)
        self.assertEqual(self.port(), "443")

    def test_a_changed_config_is_kept(self):
        self.router.write("proc/net/tcp", LISTENING)
        for old, new in [
            ("option enabled '0'", "option enabled '1'"),
            ("option port '443'", "option port '9443'"),
            ("config user 'me'", "config user 'me'\n\toption secret 'ee11'"),
        ]:
            self.router.copy(FILES / "mtbox.config", "etc/config/mtbox")
            self.change(old, new)
            before = self.router.read("etc/config/mtbox")
            self.port()
            self.assertEqual(self.router.read("etc/config/mtbox"), before, new)

    def test_the_state_directory_belongs_to_the_service(self):
        self.port()
        folder = (self.router.root / "etc/mtbox").stat()
        self.assertEqual((folder.st_uid, folder.st_gid), (MTBOX, MTBOX))
