//! `mtbox uci`: converts `/etc/config/mtbox` of an OpenWrt router to a config file. `config/uci`
//! maps the options to keys.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use crate::cli::args::{Flag, ParsedArgs};
use crate::cli::atomic_file;
use crate::cli::failure::Failure;
use crate::cli::output::report;
use crate::config::uci::convert;

/// Writes the file if it is valid. Diagnostics name the section and the option.
pub(super) fn uci(args: &ParsedArgs) -> Result<(), Failure> {
    let package = args.text("package")?.unwrap_or(PACKAGE);
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
    if package.is_empty() || !package.bytes().all(is_plain) {
        return Err(Failure::Usage("--package: write the name of a file in /etc/config".into()));
    }
    let Some(output) = args.raw("output").map(Path::new) else {
        return Err(Failure::Usage("--output PATH is missing; name the file to write".into()));
    };
    let directory = args.raw("config-dir").map_or(Path::new(DIRECTORY), Path::new);
    let source = directory.join(package);
    let bytes = read(&source)
        .map_err(|e| Failure::Usage(format!("cannot read {}: {e}", source.display())))?;
    let converted = convert(&bytes, &source.to_string_lossy(), package);
    converted.warnings.iter().for_each(|text| report(&["warning: ", text].concat()));
    converted.errors.iter().for_each(|text| report(text));
    let toml = converted.toml.ok_or(Failure::Reported)?;
    atomic_file::put(output, &toml)
        .map_err(|e| Failure::error(format!("{}: {e}", output.display())))?;
    // The proxy takes the time of its config as that of the last change of a secret. Best effort.
    let _ = File::open(&source)
        .and_then(|source| source.metadata()?.modified())
        .and_then(|time| File::open(output)?.set_modified(time));
    Ok(())
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(FILE_MAX + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > FILE_MAX {
        true => Err(io::Error::new(io::ErrorKind::FileTooLarge, "longer than 256 KiB")),
        false => Ok(bytes),
    }
}

pub(super) const FLAGS: &[Flag] = &[
    Flag::with_value(None, "package", "NAME", "name of the UCI file, default: mtbox"),
    Flag::with_value(None, "config-dir", "DIR", "directory of the UCI file, default: /etc/config"),
    Flag::with_value(None, "output", "PATH", "file to write; required"),
];
pub(super) const NOTES: &str = "\
Options have the names of the keys, with _ for . and -. Each section of type user is a user.
Exit code: 0 = the file is written or unchanged, 1 = invalid options, 2 = input cannot be read.";
const PACKAGE: &str = "mtbox";
const DIRECTORY: &str = "/etc/config";
/// In bytes.
const FILE_MAX: u64 = 256 << 10;
