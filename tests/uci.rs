//! `mtbox uci` as the init script of a router runs it: the binary with real files. The conversion
//! of options is tested in `src/config/uci/tests.rs`.

#[path = "uci/props.rs"]
mod props;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Key 00112233445566778899aabbccddeeff, host example.org.
const SECRET: &str = "ee00112233445566778899aabbccddeeff6578616d706c652e6f7267";

fn good() -> String {
    format!(
        "config mtbox 'main'\n\toption port '8443'\n\n\
         config user 'anna'\n\toption secret '{SECRET}'\n"
    )
}

/// A directory with a config, one per test.
struct Router {
    folder: PathBuf,
}

impl Router {
    fn with(test: &str, config: &str) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("uci").join(test);
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(folder.join("out")).unwrap();
        let router = Self { folder };
        router.write(config);
        router
    }

    fn write(&self, config: &str) {
        fs::write(self.folder.join("mtbox"), config).unwrap();
    }

    fn source(&self) -> String {
        self.folder.join("mtbox").to_str().unwrap().to_owned()
    }

    fn output(&self) -> PathBuf {
        self.folder.join("out/mtbox.toml")
    }

    /// Exit code and stderr. There is no output on stdout.
    #[track_caller]
    fn uci(&self) -> (i32, String) {
        let output = self.output();
        let folder = ["--config-dir", self.folder.to_str().unwrap()];
        let rest = ["--output", output.to_str().unwrap()];
        let (code, out, err) =
            mtbox(&[&["uci", "--package", "mtbox"], &folder[..], &rest].concat());
        assert_eq!(out, "");
        (code, err)
    }

    /// The files in the directory of the output.
    fn files(&self) -> Vec<String> {
        let files = fs::read_dir(self.folder.join("out")).unwrap();
        let mut names: Vec<String> =
            files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

#[track_caller]
fn mtbox(arguments: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mtbox"));
    let output = command.args(arguments).stdin(Stdio::null()).output();
    let Output { status, stdout, stderr } = output.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

#[test]
fn a_valid_config_becomes_a_file_with_mode_0600_that_passes_check() {
    let router = Router::with("good", &good());
    assert_eq!(router.uci(), (0, String::new()));
    let (code, out, _) = mtbox(&["check", "--strict", router.output().to_str().unwrap()]);
    assert_eq!(code, 0);
    assert!(out.starts_with("ok: 1 user, 1 listener, 0 warnings\n"), "{out}");
    assert_eq!(fs::metadata(router.output()).unwrap().permissions().mode() & 0o7777, 0o600);
    let text = fs::read_to_string(router.output()).unwrap();
    let source = router.source();
    let first = format!("# Made from {source} by \"mtbox uci\"; edit that file instead.");
    assert_eq!(text.lines().next(), Some(first.as_str()));
    assert_eq!(router.files(), ["mtbox.toml"]);
}

/// The proxy takes it as the time of the last change of a secret.
#[test]
fn the_file_has_the_time_of_the_uci_file() {
    let router = Router::with("time", &good());
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_700_000_000);
    fs::File::open(router.source()).unwrap().set_modified(time).unwrap();
    assert_eq!(router.uci(), (0, String::new()));
    assert_eq!(fs::metadata(router.output()).unwrap().modified().unwrap(), time);
}

#[test]
fn an_error_names_section_and_option_and_keeps_the_old_file() {
    let router = Router::with("mistake", &good());
    assert_eq!(router.uci().0, 0);
    let before = fs::read(router.output()).unwrap();
    router.write(&(good() + "config user bob\nconfig mtbox main\n\toption prefer_ip v6\n"));
    let (code, err) = router.uci();
    let source = router.source();
    let lines: Vec<&str> = err.lines().collect();
    assert_eq!((code, lines.len()), (1, 2), "{err}");
    let missing = format!("mtbox: {source}: user 'bob', option secret: missing; ");
    assert!(lines[0].starts_with(&missing), "{err}");
    let word = format!("mtbox: {source}: section 'main', option prefer_ip: unknown value; ");
    assert!(lines[1].starts_with(&word), "{err}");
    assert_eq!(fs::read(router.output()).unwrap(), before);
    router.write("confg mtbox\n");
    let message = format!("mtbox: {source}:1: unknown command; write config, option or list\n");
    assert_eq!(router.uci(), (1, message));
    assert_eq!(router.files(), ["mtbox.toml"]);
}

#[test]
fn an_unknown_option_is_a_warning_and_the_file_is_written() {
    let router = Router::with("unknown", &good().replace("option port", "option prt"));
    let source = router.source();
    let message = format!(
        "mtbox: warning: {source}: section 'main': unknown option prt; did you mean port?\n"
    );
    assert_eq!(router.uci(), (0, message));
    assert!(router.output().exists());
}

#[test]
fn the_same_config_keeps_the_file_and_another_one_replaces_it() {
    let router = Router::with("same", &good());
    let number = || fs::metadata(router.output()).unwrap().ino();
    assert_eq!(router.uci().0, 0);
    // A link keeps the inode number of the old file in use.
    fs::hard_link(router.output(), router.folder.join("kept")).unwrap();
    let first = number();
    assert_eq!(router.uci().0, 0);
    assert_eq!(number(), first);
    router.write(&good().replace("8443", "443"));
    assert_eq!(router.uci().0, 0);
    assert_ne!(number(), first);
    let text = fs::read_to_string(router.output()).unwrap();
    assert!(text.contains("bind-to = \"0.0.0.0:443\"\n"), "{text}");
}

#[test]
fn read_permission_of_the_group_is_kept_and_no_other() {
    let router = Router::with("rights", &good());
    let allow =
        |mode| fs::set_permissions(router.output(), fs::Permissions::from_mode(mode)).unwrap();
    let allowed = || fs::metadata(router.output()).unwrap().permissions().mode() & 0o7777;
    fs::write(router.output(), "old").unwrap();
    allow(0o664);
    assert_eq!((router.uci().0, allowed()), (0, 0o640));
    // Also if nothing else has changed.
    allow(0o644);
    assert_eq!((router.uci().0, allowed()), (0, 0o640));
}

/// The proxy drops its privileges, and must be able to read the file again.
#[test]
fn a_file_written_by_root_has_the_owner_of_the_old_file_or_of_the_directory() {
    let router = Router::with("owner", &good());
    let folder = router.folder.join("out");
    let Ok(()) = std::os::unix::fs::chown(&folder, Some(5443), Some(5443)) else {
        return eprintln!("skipped: only root can change the owner of files");
    };
    let owner = |path: &Path| {
        let found = fs::metadata(path).unwrap();
        (found.uid(), found.gid())
    };
    assert_eq!(router.uci().0, 0);
    assert_eq!(owner(&router.output()), (5443, 5443));
    std::os::unix::fs::chown(router.output(), Some(0), Some(5443)).unwrap();
    router.write(&good().replace("8443", "443"));
    assert_eq!(router.uci().0, 0);
    assert_eq!(owner(&router.output()), (0, 5443));
}

#[test]
fn other_than_regular_files_are_not_replaced() {
    let router = Router::with("link", &good());
    let elsewhere = router.folder.join("elsewhere");
    fs::write(&elsewhere, "mine").unwrap();
    symlink(&elsewhere, router.output()).unwrap();
    let (code, err) = router.uci();
    assert_eq!(code, 1);
    assert!(err.contains("mtbox.toml: not a regular file"), "{err}");
    assert_eq!(fs::read_to_string(&elsewhere).unwrap(), "mine");
    assert_eq!(router.files(), ["mtbox.toml"]);
}

#[test]
fn a_missing_directory_is_an_error() {
    let router = Router::with("nowhere", &good());
    fs::remove_dir(router.folder.join("out")).unwrap();
    let (code, err) = router.uci();
    assert_eq!(code, 1);
    assert!(err.contains("out/mtbox.toml: No such file or directory"), "{err}");
}

#[test]
fn unreadable_files_and_wrong_usage_are_one_line_and_exit_code_2() {
    let router = Router::with("usage", &"#".repeat(256 * 1024 + 1));
    let folder = router.folder.to_str().unwrap();
    for (arguments, wanted) in [
        (&["--config-dir", folder, "--output", "x"][..], "mtbox: longer than 256 KiB"),
        (&["--config-dir", "/no/such", "--output", "x"], "cannot read /no/such/mtbox: No such"),
        (&["--config-dir", folder, "--package", "none", "--output", "x"], "cannot read"),
        (&["--package", "../mtbox", "--output", "x"], "--package: write the name of a file"),
        (&["--package", "mtbox"], "--output PATH is missing"),
        (&["--out", "x"], "unknown flag --out"),
    ] {
        let (code, out, err) = mtbox(&[&["uci"], arguments].concat());
        assert_eq!((code, out.as_str(), err.lines().count()), (2, "", 1), "{arguments:?}\n{err}");
        assert!(err.contains(wanted), "{wanted}\n{err}");
    }
}

#[test]
fn users_of_a_generated_file_must_be_changed_in_its_source() {
    let router = Router::with("user", &good());
    assert_eq!(router.uci().0, 0);
    let before = fs::read(router.output()).unwrap();
    let output = router.output();
    let file = ["--config", output.to_str().unwrap()];
    for change in ["add", "remove", "rotate", "disable", "enable"] {
        let (code, out, err) = mtbox(&[&["user", change, "anna"], &file[..]].concat());
        assert_eq!((code, out.as_str(), err.lines().count()), (1, "", 1), "{err}");
        let source = router.source();
        assert!(
            err.contains(&format!("generated from {source}, so change that file: uci ")),
            "{err}"
        );
    }
    assert_eq!(fs::read(router.output()).unwrap(), before);
    let (code, out, _) = mtbox(&[&["user", "list"], &file[..]].concat());
    assert_eq!((code, out.as_str()), (0, "anna  example.org\n"));
}
