//! `mtbox uci`: writes the config file of a router from `/etc/config`. What becomes of which option
//! decides `config/uci`.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use crate::cli::args::{Flag, ParsedArgs};
use crate::cli::atomic_file;
use crate::cli::failure::Failure;
use crate::cli::output::report;
use crate::config::uci::convert;

/// Writes the file, if it can be used; complaints name the section and the option.
pub fn uci(given: &ParsedArgs) -> Result<(), Failure> {
    let package = given.text("package")?.unwrap_or(PACKAGE);
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
    if package.is_empty() || !package.bytes().all(is_plain) {
        return Err(Failure::Usage("--package: write the name of a file in /etc/config".into()));
    }
    let Some(output) = given.raw("output").map(Path::new) else {
        return Err(Failure::Usage("--output PATH is missing; name the file to write".into()));
    };
    let folder = given.raw("config-dir").map_or(Path::new(FOLDER), Path::new);
    let source = folder.join(package);
    let bytes = read(&source)
        .map_err(|fault| Failure::Usage(format!("cannot read {}: {fault}", source.display())))?;
    let made = convert(&bytes, &source.to_string_lossy(), package);
    made.warnings.iter().for_each(|text| report(&["warning: ", text].concat()));
    made.errors.iter().for_each(|text| report(text));
    let toml = made.toml.ok_or(Failure::Reported)?;
    atomic_file::put(output, &toml)
        .map_err(|why| Failure::error(format!("{}: {why}", output.display())))
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(FILE_MAX + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > FILE_MAX {
        true => Err(io::Error::new(io::ErrorKind::FileTooLarge, "longer than 256 KiB")),
        false => Ok(bytes),
    }
}

/// For the help.
pub const FLAGS: &[Flag] = &[
    Flag::with_value(None, "package", "NAME", "the file in that folder, mtbox if not given"),
    Flag::with_value(None, "config-dir", "DIR", "the folder, /etc/config if not given"),
    Flag::with_value(None, "output", "PATH", "the file to write"),
];
/// What is true beyond the flags.
pub const NOTES: &str = "\
An option is called as its key, with _ for . and -; each section of type user is a user.
Exit code: 0 = written, or the same already, 1 = it cannot be used, 2 = it cannot be read.";
const PACKAGE: &str = "mtbox";
const FOLDER: &str = "/etc/config";
/// Most that a file may have, in bytes.
const FILE_MAX: u64 = 256 << 10;
