//! A secret that a command takes as an argument. Every account of the machine can read the
//! arguments of a process, so `-` takes it from stdin, and `@FILE` from a file.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::path::Path;

use crate::cli::config_file::expand_home;
use crate::cli::failure::Failure;

/// The secret that the argument `name` stands for, without blanks around it.
///
/// # Errors
/// The file cannot be read, is no UTF-8, or is larger than 4 KiB.
pub(super) fn resolve(name: &str, argument: &str) -> Result<String, Failure> {
    let (read, from) = match (argument, argument.strip_prefix('@')) {
        ("-", _) => {
            let stdin = io::stdin().as_fd().try_clone_to_owned();
            (stdin.and_then(|fd| limited(fd.into())), "stdin")
        }
        (_, Some(path)) => {
            let path = expand_home(Path::new(path).as_os_str());
            (File::open(path).and_then(limited), argument.trim_start_matches('@'))
        }
        _ => return Ok(argument.to_owned()),
    };
    // Some editors write a byte order mark.
    read.map(|text| text.trim_start_matches('\u{feff}').trim().to_owned())
        .map_err(|e| Failure::error(format!("{name}: cannot read {from}: {e}")))
}

fn limited(source: File) -> io::Result<String> {
    let mut text = String::new();
    source.take(LEN_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > LEN_MAX {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "too large for a secret"));
    }
    Ok(text)
}

/// Largest file in bytes. A secret has at most some hundred.
const LEN_MAX: u64 = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read_without_the_line_end_and_others_are_taken_as_they_are() {
        let path = std::env::temp_dir().join(format!("mtbox-secret-{}", std::process::id()));
        std::fs::write(&path, " 7gAR\r\n").unwrap();
        let argument = format!("@{}", path.display());
        assert_eq!(resolve("SECRET", &argument).unwrap(), "7gAR");
        std::fs::write(&path, "7".repeat(5_000)).unwrap();
        assert!(resolve("SECRET", &argument).is_err());
        std::fs::remove_file(&path).unwrap();
        let Err(Failure::Errors(lines)) = resolve("SECRET", &argument) else { panic!() };
        assert!(lines[0].starts_with("SECRET: cannot read /"), "{lines:?}");
        assert_eq!(resolve("SECRET", "7gAR").unwrap(), "7gAR");
    }
}
