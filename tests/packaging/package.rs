//! The Debian package and the installer: built twice, unpacked, installed below a root of its
//! own, and taken away again. Scripts are read by a shell and by shellcheck.

use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;
use std::{env, fs};

use super::service::Scratch;
use super::{finds_nothing, folder, read, run};

const PROGRAM: &str = env!("CARGO_BIN_EXE_mtbox");
const SCRIPTS: [&str; 6] =
    ["install.sh", "first-config.sh", "deb/build.sh", "deb/postinst", "deb/prerm", "deb/postrm"];

#[test]
fn shells_and_shellcheck_find_nothing_in_the_scripts() {
    for script in SCRIPTS {
        let mode = fs::metadata(folder().join(script)).unwrap().permissions().mode();
        assert_eq!(mode & 0o111, 0o111, "{script} may be run");
        finds_nothing("sh", &["-n", script]);
        finds_nothing("shellcheck", &[script]);
        assert!(read(script).lines().any(|line| line.starts_with("set -e")), "{script}");
    }
}

#[test]
fn two_builds_give_the_same_bytes() {
    if lacks("dpkg-deb") {
        return;
    }
    let scratch = Scratch::new("twice");
    let one = fs::read(package()).unwrap();
    let other = fs::read(build(&scratch.0)).unwrap();
    assert!(one == other, "{} and {} bytes", one.len(), other.len());
}

#[test]
fn the_package_holds_everything_in_its_place_and_no_config() {
    if lacks("dpkg-deb") {
        return;
    }
    let scratch = Scratch::new("holds");
    let package = package().to_str().unwrap();
    let root = scratch.0.join("root");
    answer("dpkg-deb", &["-x", package, root.to_str().unwrap()]);
    for place in PLACES {
        let path = root.join("usr").join(place);
        assert!(fs::metadata(&path).is_ok_and(|file| file.len() > 0), "{path:?}");
    }
    assert!(!root.join("etc").exists(), "the config is made where it is used");
    assert_eq!(fs::read(root.join("usr/bin/mtbox")).unwrap(), fs::read(PROGRAM).unwrap());
    let unit = fs::read_to_string(root.join("usr/lib/systemd/system/mtbox.service")).unwrap();
    assert!(unit.contains("ExecStart=/usr/bin/mtbox run"), "{unit}");
    let listed = answer("dpkg-deb", &["-c", package]);
    assert!(listed.lines().all(|line| line.contains(" root/root ")), "{listed}");
    let field = |name: &str| answer("dpkg-deb", &["-f", package, name]).trim().to_string();
    assert_eq!(field("Package"), "mtbox");
    assert_eq!(field("Version"), concat!(env!("CARGO_PKG_VERSION"), "-1"));
    assert_eq!(field("Architecture"), answer("dpkg", &["--print-architecture"]).trim());
    let depends = field("Depends");
    assert!(depends.starts_with("systemd | systemd-standalone-sysusers | "), "{depends}");
    assert!(depends.contains(", libc6 (>= 2."), "{depends}");
    let sums = answer("dpkg-deb", &["--ctrl-tarfile", package]);
    assert!(sums.contains("usr/bin/mtbox"), "md5sums are there");
    if let Some(output) = run("lintian", &["--suppress-tags", UNFIT, package]) {
        let complaints = String::from_utf8_lossy(&output.stdout);
        assert!(!complaints.contains("E: ") && !complaints.contains("W: "), "{complaints}");
    }
}

/// The program under test is not stripped; the second is for uploads to Debian.
const UNFIT: &str = "unstripped-binary-or-object,initial-upload-closes-no-bugs";

const PLACES: [&str; 13] = [
    "bin/mtbox",
    "lib/systemd/system/mtbox.service",
    "lib/sysusers.d/mtbox.conf",
    "share/bash-completion/completions/mtbox",
    "share/fish/vendor_completions.d/mtbox.fish",
    "share/zsh/vendor-completions/_mtbox",
    "share/man/man1/mtbox.1.gz",
    "share/man/man5/mtbox.toml.5.gz",
    "share/mtbox/mtbox.toml",
    "share/mtbox/first-config",
    "share/doc/mtbox/copyright",
    "share/doc/mtbox/changelog.gz",
    "share/doc/mtbox/examples/example.config.toml",
];

#[test]
fn an_upgrade_keeps_the_config_and_a_purge_takes_it() {
    if lacks("dpkg") || lacks_root() {
        return;
    }
    let scratch = Scratch::new("life");
    let root = scratch.0.join("root");
    for part in ["var/lib/dpkg/info", "var/lib/dpkg/updates", "var/lib/dpkg/triggers", "etc"] {
        fs::create_dir_all(root.join(part)).unwrap();
    }
    for part in ["status", "available"] {
        fs::write(root.join("var/lib/dpkg").join(part), "").unwrap();
    }
    let config = root.join("etc/mtbox/mtbox.toml");
    let dpkg = |arguments: &[&str]| {
        let below = format!("--root={}", root.display());
        let fixed = [&*below, "--force-script-chrootless", "--force-depends", "--force-not-root"];
        let output = run("dpkg", &[&fixed[..], &["--log=/dev/null"], arguments].concat()).unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", said(&output));
    };
    let install = ["--install", package().to_str().unwrap()];

    dpkg(&install);
    let made = fs::read_to_string(&config).unwrap();
    let (name, secret) = made.lines().last().unwrap().split_once(" = ").unwrap();
    assert_eq!(name, "me");
    assert!(secret.len() > 30 && !made.contains('@'), "{made}");
    let mode = fs::metadata(&config).unwrap().permissions().mode();
    assert_eq!(mode & 0o007, 0, "{mode:o}");
    let check = Command::new(PROGRAM).args(["check", "--strict"]).arg(&config).output().unwrap();
    assert!(check.status.success(), "{}", said(&check));

    fs::write(&config, made.replace("me =", "you =")).unwrap();
    dpkg(&install);
    assert!(fs::read_to_string(&config).unwrap().contains("you ="), "it is the owner's");

    let group = || fs::metadata(&config).unwrap().gid();
    let of_service = group();
    assert_ne!(of_service, 0, "the service may read it");
    let make = |mode: u32, group: u32| {
        fs::set_permissions(&config, fs::Permissions::from_mode(mode)).unwrap();
        std::os::unix::fs::chown(&config, Some(0), Some(group)).unwrap();
    };
    make(0o600, 0);
    dpkg(&install);
    assert_eq!(group(), of_service, "made before there was a user");
    make(0o640, 0);
    dpkg(&install);
    assert_eq!(group(), 0, "the owner's choice");

    fs::write(root.join("etc/mtbox/deny.netset"), "192.0.2.0/24\n").unwrap();
    dpkg(&["--remove", "mtbox"]);
    assert!(config.exists() && !root.join("usr/bin/mtbox").exists());
    fs::create_dir_all(root.join("var/lib/mtbox")).unwrap();
    dpkg(&["--purge", "mtbox"]);
    assert!(!config.exists() && !root.join("var/lib/mtbox").exists());
    assert!(root.join("etc/mtbox/deny.netset").exists(), "what the owner wrote stays");
    assert!(!root.join("etc/systemd/system/multi-user.target.wants/mtbox.service").is_symlink());
}

#[test]
fn the_installer_puts_everything_where_the_prefix_says_and_takes_it_away() {
    let scratch = Scratch::new("installer");
    let install = |arguments: &[&str]| {
        let mut command = Command::new(folder().join("install.sh"));
        let command = command.args(arguments).env("DESTDIR", &scratch.0).env("PREFIX", "/opt/my");
        let output = command.env_remove("ZSH_FOLDER").output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
    };
    install(&[PROGRAM]);
    let prefix = scratch.0.join("opt/my");
    for place in PLACES.iter().filter(|place| !place.contains("/doc/")) {
        let place = place.trim_end_matches(".gz").replace("vendor-completions", "site-functions");
        assert!(prefix.join(&place).is_file(), "{place}");
    }
    let unit = fs::read_to_string(prefix.join("lib/systemd/system/mtbox.service")).unwrap();
    assert!(unit.contains("ExecStart=/opt/my/bin/mtbox run"), "{unit}");
    assert!(!scratch.0.join("etc").exists());
    install(&[PROGRAM]);
    install(&["--remove"]);
    let left = files_below(&scratch.0);
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn the_first_config_names_a_port_that_is_free_and_the_site_that_is_asked_for() {
    if lacks_root() {
        return;
    }
    let scratch = Scratch::new("first");
    let prefix = scratch.0.join("opt/my");
    let files =
        [("mtbox.toml", "share/mtbox/mtbox.toml"), ("mtbox.sysusers", "lib/sysusers.d/mtbox.conf")];
    for (from, to) in files {
        let to = prefix.join(to);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(folder().join(from), to).unwrap();
    }
    fs::create_dir_all(prefix.join("bin")).unwrap();
    std::os::unix::fs::symlink(PROGRAM, prefix.join("bin/mtbox")).unwrap();
    // Both ports are in use now, held by this test or by another program. A port that this account
    // may not bind counts as free.
    let held: Vec<_> = [443, 8443].map(|port| TcpListener::bind(("127.0.0.1", port))).into();
    let is_free = |held: &std::io::Result<TcpListener>| {
        held.as_ref().is_err_and(|fault| fault.kind() == std::io::ErrorKind::PermissionDenied)
    };
    let wanted = if is_free(&held[0]) { 443 } else { 3128 };
    let output = Command::new(folder().join("first-config.sh"))
        .envs([("PREFIX", "/opt/my"), ("MTBOX_HOST", "site.example")])
        .env("DPKG_ROOT", &scratch.0)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let config = scratch.0.join("etc/mtbox/mtbox.toml");
    let text = fs::read_to_string(&config).unwrap();
    assert!(text.contains(&format!("bind-to = \"0.0.0.0:{wanted}\"")), "{text}");
    let secret = text.lines().last().unwrap().split('"').nth(1).unwrap();
    // With `--ipv4`, no service is queried for the address.
    let access = ["access", "--hex", "--ipv4", "192.0.2.1"];
    let output = Command::new(PROGRAM).args(access).arg(&config).output().unwrap();
    let hex = said(&output);
    let host: String = b"site.example".iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(hex.contains(secret) && hex.contains(&host), "{hex}");
    drop(held);
}

/// One package for all tests.
fn package() -> &'static Path {
    static PACKAGE: OnceLock<PathBuf> = OnceLock::new();
    PACKAGE.get_or_init(|| build(&Path::new(env!("CARGO_TARGET_TMPDIR")).join("packaging")))
}

fn build(into: &Path) -> PathBuf {
    let output = Command::new(folder().join("deb/build.sh"))
        .args([Path::new(PROGRAM), into])
        .env("SOURCE_DATE_EPOCH", "1790000000")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", said(&output));
    PathBuf::from(String::from_utf8(output.stdout).unwrap().trim())
}

fn lacks(tool: &str) -> bool {
    run(tool, &["--version"]).is_none()
}

fn lacks_root() -> bool {
    let lacks = !nix::unistd::geteuid().is_root();
    if lacks {
        eprintln!("passed over: only root gives files to others");
    }
    lacks
}

fn answer(tool: &str, arguments: &[&str]) -> String {
    let output = run(tool, arguments).unwrap();
    assert!(output.status.success(), "{tool} {arguments:?}: {}", said(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned()
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => files.extend(files_below(&path)),
            false => files.push(path),
        }
    }
    files
}
