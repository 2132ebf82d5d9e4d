"""The init script under busybox ash, with a stub for mtbox."""

import stat

from router import FILES, HERE, MTBOX, RouterTest

TOML = "/var/etc/mtbox/mtbox.toml"


class InitTest(RouterTest):
    def setUp(self) -> None:
        super().setUp()
        self.router.copy(FILES / "mtbox.init", "etc/init.d/mtbox")
        self.router.copy(HERE / "stubs/mtbox", "usr/bin/mtbox")
        self.router.copy(FILES / "mtbox.capabilities.json", "etc/capabilities/mtbox.json")
        (self.router.root / "etc/init.d/mtbox").chmod(0o755)
        self.router.add_user()
        self.configure()

    def configure(self, *options: str, user="option secret 'ee11'", enabled=1) -> None:
        lines = "".join(f"\t{option}\n" for option in (f"option enabled '{enabled}'", *options))
        text = f"config mtbox 'main'\n{lines}\nconfig user 'me'\n\t{user}\n"
        self.router.write("etc/config/mtbox", text)

    def calls(self, name: str) -> list[list[str]]:
        """The arguments of each call of `name` in the last message to procd."""
        return [call[1:] for call in self.router.messages()[-1] if call[0] == name]

    def param(self, name: str) -> list[str]:
        found = [words[1:] for words in self.calls("procd_set_param") if words[0] == name]
        self.assertLessEqual(len(found), 1, name)
        return found[0] if found else []

    def ports(self) -> list[str]:
        return [words[1] for words in self.calls("json_add_string") if words[0] == "dest_port"]

    def secrets(self) -> list[str]:
        lines = self.router.read("etc/config/mtbox").splitlines()
        return [line.split("'")[1] for line in lines if "option secret" in line]

    def owner(self, path: str) -> tuple[int, int, int]:
        status = (self.router.root / path).stat()
        return status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)


class Start(InitTest):
    def test_a_disabled_service_has_no_instance_and_changes_nothing(self):
        self.configure(enabled=0)
        before = self.router.read("etc/config/mtbox")
        self.router.service("start")
        self.assertEqual(self.router.messages(), [[["procd_add_reload_trigger", "mtbox"]]])
        self.assertEqual(self.router.read("tmp/calls"), "")
        self.assertEqual(self.router.read("etc/config/mtbox"), before)
        self.assertFalse((self.router.root / "tmp/etc").exists())

    def test_an_enabled_service_has_one_instance_with_unlimited_respawn(self):
        self.router.service("start")
        self.assertEqual(len(self.calls("procd_open_instance")), 1)
        self.assertEqual(
            self.param("command"), ["/usr/bin/mtbox", "run", "--user", "mtbox", TOML]
        )
        self.assertEqual(self.param("file"), [TOML])
        self.assertEqual(self.param("reload_signal"), ["HUP"])
        self.assertEqual(self.param("respawn"), ["3600", "5", "0"])
        self.assertEqual(self.param("limits"), ["core=0 0", "nofile=65536 65536"])
        self.assertEqual(self.param("stdout") + self.param("stderr"), ["1", "1"])
        self.assertEqual(self.calls("procd_add_reload_trigger"), [["mtbox"]])

    def test_the_config_is_made_first_and_is_private_to_the_service(self):
        self.router.service("start")
        self.assertEqual(
            self.router.read("tmp/calls"), f"uci --package mtbox --output {TOML}\n"
        )
        self.assertEqual(self.owner("tmp/etc/mtbox"), (0, MTBOX, 0o750))
        self.assertEqual(self.owner("tmp/etc/mtbox/mtbox.toml"), (0, MTBOX, 0o640))
        self.assertEqual(self.owner("tmp/run/mtbox"), (MTBOX, MTBOX, 0o755))

    def test_an_invalid_config_is_reported_and_nothing_is_started(self):
        self.configure(user="option mistake '1'")
        done = self.router.service("start", check=False)
        error = "user 'me', option mistake: no such option"
        self.assertIn(f"daemon.err mtbox: /etc/config/mtbox: {error}", self.router.read("tmp/log"))
        self.assertIn(error, done.stderr)
        self.assertEqual(self.router.messages(), [[["procd_add_reload_trigger", "mtbox"]]])


class Reload(InitTest):
    def test_a_valid_change_keeps_the_command(self):
        self.router.service("start")
        before = self.param("command")
        self.configure("option port '8443'")
        self.router.service("reload")
        self.assertEqual(len(self.router.messages()), 2)
        self.assertEqual(self.param("command"), before)
        self.assertIn("8443", self.router.read("tmp/etc/mtbox/mtbox.toml"))

    def test_an_invalid_change_keeps_the_instance_and_the_config(self):
        self.router.service("start")
        before = self.router.read("tmp/etc/mtbox/mtbox.toml")
        self.configure(user="option mistake '1'")
        done = self.router.service("reload", check=False)
        self.assertNotEqual(done.returncode, 0)
        self.assertEqual(len(self.router.messages()), 1)
        self.assertEqual(self.router.read("tmp/etc/mtbox/mtbox.toml"), before)
        self.assertIn("option mistake", self.router.read("tmp/log"))

    def test_disabling_removes_the_instance(self):
        self.router.service("start")
        self.configure(enabled=0)
        self.router.service("reload")
        self.assertEqual(self.calls("procd_open_instance"), [])

    def test_reload_starts_a_service_after_its_config_is_fixed(self):
        self.configure(user="option mistake '1'")
        self.router.service("start", check=False)
        self.configure()
        self.router.service("reload")
        self.assertEqual(len(self.calls("procd_open_instance")), 1)


class Jail(InitTest):
    def setUp(self) -> None:
        super().setUp()
        self.router.write("sbin/ujail", "")
        (self.router.root / "sbin/ujail").chmod(0o755)

    def assert_jailed(self, jailed: bool) -> None:
        self.router.service("start")
        self.assertEqual(bool(self.calls("procd_add_jail")), jailed)
        self.assertEqual("--user" in self.param("command"), not jailed)

    def test_a_jail_has_user_capabilities_and_directories(self):
        (self.router.root / "etc/mtbox").mkdir()
        self.assert_jailed(True)
        self.assertEqual(self.param("command"), ["/usr/bin/mtbox", "run", TOML])
        self.assertEqual(self.param("user") + self.param("group"), ["mtbox", "mtbox"])
        self.assertEqual(self.param("capabilities"), ["/etc/capabilities/mtbox.json"])
        self.assertEqual(self.param("no_new_privs"), ["1"])
        self.assertEqual(
            self.calls("procd_add_jail_mount"),
            [["/var/etc/mtbox", "/etc/resolv.conf", "/etc/hosts"]],
        )
        self.assertEqual(
            self.calls("procd_add_jail_mount_rw"), [["/var/run/mtbox"], ["/etc/mtbox"]]
        )

    def test_no_jail_with_a_resolv_conf_that_is_replaced(self):
        self.router.delete("tmp/resolv.conf")
        self.router.write("tmp/resolv.conf.d/resolv.conf.auto", "")
        (self.router.root / "tmp/resolv.conf").symlink_to("/tmp/resolv.conf.d/resolv.conf.auto")
        self.assert_jailed(False)

    def test_no_jail_if_more_capabilities_are_needed(self):
        self.configure("option network_mark '1'")
        self.assert_jailed(False)

    def test_no_jail_without_the_capabilities_file(self):
        self.router.delete("etc/capabilities/mtbox.json")
        self.assert_jailed(False)


class Secrets(InitTest):
    def test_a_user_without_a_secret_gets_one_and_keeps_it(self):
        self.configure(user="option host 'site.example'")
        self.router.service("start")
        first = self.secrets()
        self.assertEqual(len(first), 1)
        self.assertIn("generate-secret --hex site.example\n", self.router.read("tmp/calls"))
        self.assertEqual(self.router.read("tmp/commits"), "mtbox\n")
        self.router.service("start")
        self.router.service("reload")
        self.assertEqual(self.secrets(), first)
        self.assertEqual(self.router.read("tmp/commits"), "mtbox\n")

    def test_the_host_is_that_of_main_or_the_default(self):
        self.configure("option host 'main.example'", user="")
        self.router.service("start")
        self.assertIn("generate-secret --hex main.example\n", self.router.read("tmp/calls"))
        self.router.delete("tmp/calls")
        self.configure(user="")
        self.router.service("start")
        self.assertIn("generate-secret --hex www.google.com\n", self.router.read("tmp/calls"))

    def test_several_new_users_need_one_commit(self):
        self.configure(user="\n\nconfig user 'two'\n\nconfig user 'three'\n\toption secret 'ee33'")
        self.router.service("start")
        self.assertEqual(len(self.secrets()), 3)
        self.assertIn("ee33", self.secrets())
        self.assertEqual(self.router.read("tmp/commits"), "mtbox\n")

    def test_an_invalid_host_is_reported_and_affects_only_its_user(self):
        self.configure(user="option host 'nonsense'\n\nconfig user 'two'")
        self.router.service("start")
        self.assertEqual(len(self.secrets()), 1)
        self.assertIn("user 'me', option host: not a host", self.router.read("tmp/log"))

    def test_a_disabled_service_makes_no_secrets(self):
        self.configure(user="", enabled=0)
        self.router.service("start")
        self.assertEqual(self.secrets(), [])


class Firewall(InitTest):
    def test_the_port_is_opened(self):
        self.configure("option port '8443'")
        self.router.service("start")
        self.assertEqual(self.ports(), ["8443"])
        rule = dict(words for words in self.calls("json_add_string"))
        self.assertEqual(
            (rule["type"], rule["src"], rule["proto"], rule["target"]),
            ("rule", "wan", "tcp", "ACCEPT"),
        )

    def test_the_default_port_is_opened(self):
        self.router.service("start")
        self.assertEqual(self.ports(), ["443"])

    def test_the_port_stays_closed_without_open_port(self):
        self.configure("option open_port '0'")
        self.router.service("start")
        self.assertEqual(self.calls("json_add_array"), [])
        self.assertEqual(self.calls("procd_open_data"), [])

    def test_each_port_of_a_public_address_is_opened_once(self):
        addresses = ["0.0.0.0:443", "[::]:8443", "192.0.2.1:443", "127.0.0.1:9000", "[::1]:9001"]
        self.configure("option port '1'", *(f"list bind_to '{address}'" for address in addresses))
        self.router.service("start")
        self.assertEqual(self.ports(), ["443", "8443"])

    def test_the_firewall_is_notified_only_when_the_ports_change(self):
        def notifications():
            return self.router.read("tmp/procd").count("procd_set_config_changed\tfirewall")

        self.router.service("start")
        self.assertEqual(notifications(), 1)
        self.router.service("reload")
        self.assertEqual(notifications(), 1)
        self.configure("option port '8443'")
        self.router.service("reload")
        self.assertEqual(notifications(), 2)
        self.router.service("stop")
        self.assertEqual(notifications(), 3)

    def test_a_disabled_service_does_not_notify_the_firewall(self):
        self.configure(enabled=0)
        self.router.service("start")
        self.assertNotIn("firewall", self.router.read("tmp/procd"))


class Commands(InitTest):
    def test_links_work_before_the_first_start(self):
        self.configure(user="", enabled=0)
        self.router.service("links")
        self.assertIn(f"access {TOML} --plain\n", self.router.read("tmp/calls"))
        self.assertEqual(len(self.secrets()), 1)
        self.assertEqual(self.router.messages(), [])

    def test_flags_are_passed_to_mtbox(self):
        self.router.service("links", "--qr", "--user", "me")
        self.router.service("links", "--port", "443")
        self.router.service("stats", "--json")
        self.router.service("explain", "me")
        self.router.service("doctor")
        calls = self.router.read("tmp/calls")
        for expected in [
            f"access {TOML} --qr --user me\n",
            f"access {TOML} --plain --port 443\n",
            f"stats {TOML} --json\n",
            f"explain {TOML} me\n",
            f"doctor {TOML}\n",
        ]:
            self.assertIn(expected, calls)

    def test_stats_changes_nothing(self):
        self.router.service("start")
        before = self.router.sha256("tmp/etc/mtbox/mtbox.toml")
        self.configure("option port '8443'", user="")
        self.router.service("stats")
        self.assertEqual(self.router.sha256("tmp/etc/mtbox/mtbox.toml"), before)
        self.assertEqual(self.secrets(), [])

    def test_links_with_an_invalid_config_use_the_previous_one(self):
        self.router.service("start")
        self.configure(user="option mistake '1'")
        self.router.service("links")
        self.assertIn(f"access {TOML} --plain\n", self.router.read("tmp/calls"))

    def test_check_does_not_change_the_running_config(self):
        self.router.service("start")
        before = self.router.sha256("tmp/etc/mtbox/mtbox.toml")
        self.configure("option port '8443'")
        self.assertEqual(self.router.service("check").returncode, 0)
        self.configure(user="option mistake '1'")
        self.assertEqual(self.router.service("check", check=False).returncode, 1)
        self.assertEqual(self.router.sha256("tmp/etc/mtbox/mtbox.toml"), before)
        self.assertEqual(len(self.router.messages()), 1)
        left = [file.name for file in (self.router.root / "tmp/etc/mtbox").iterdir()]
        self.assertEqual(left, ["mtbox.toml"])
