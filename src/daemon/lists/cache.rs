//! Copies of fetched lists on disk, so that a router that starts without a network is protected
//! all the same. Written only when the networks have changed, in slices, and put in place whole:
//! the file is the ranges as numbers behind their SHA-256, so a torn one is recognised.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use sha2::{Digest, Sha256};

use crate::config::settings::ListSource;
use crate::daemon::lists::Which;
use crate::daemon::world::World;
use crate::policy::iplist::Ranges;

/// A copy that is being written.
pub struct Saving {
    file: File,
    draft: PathBuf,
    path: PathBuf,
    bytes: Vec<u8>,
    written: usize,
}

/// Puts the copy of a source in place, if there is a good one.
pub fn restore(world: &mut World, which: Which, at: usize) {
    let Some(path) = path_of(world, which, at) else { return };
    let Some(ranges) = read(&path) else { return };
    let entries = ranges.len();
    let Some(source) = world.lists.source(which, at) else { return };
    source.ranges = Some(Rc::new(ranges));
    log::info!(
        "event=list name={} source={:?} entries={entries} from=cache",
        which.as_str(),
        source.shown()
    );
}

/// Begins to write a copy. One that is still being written is given up for the newer one.
pub fn save(world: &mut World, which: Which, at: usize) {
    let Some(path) = path_of(world, which, at) else { return };
    let Some(ranges) = world.lists.source(which, at).and_then(|source| source.ranges.clone())
    else {
        return;
    };
    let draft = path.with_extension("new");
    let opened =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft);
    match opened {
        Ok(file) => {
            let bytes = encode(&ranges);
            world.lists.saving = Some(Saving { file, draft, path, bytes, written: 0 });
        }
        Err(e) => complain(world, &e),
    }
}

/// Writes the next slice.
pub fn write_on(world: &mut World) {
    let Some(saving) = &mut world.lists.saving else { return };
    let rest = saving.bytes.get(saving.written..).unwrap_or_default();
    let slice = rest.get(..SLICE).unwrap_or(rest);
    let outcome = match saving.file.write(slice) {
        Ok(count) => {
            saving.written += count;
            if saving.written < saving.bytes.len() && count > 0 {
                return;
            }
            fs::rename(&saving.draft, &saving.path)
        }
        Err(e) if e.kind() == std::io::ErrorKind::Interrupted => return,
        Err(e) => Err(e),
    };
    if let Some(saving) = world.lists.saving.take()
        && let Err(e) = outcome
    {
        // It is a draft and nobody else's; if it cannot even be removed there is no more to do.
        let _ = fs::remove_file(&saving.draft);
        complain(world, &e);
    }
}

fn complain(world: &mut World, error: &std::io::Error) {
    let line = format!(
        "event=list-cache-failed error={:?} hint=\"see defense.cache-dir\"",
        error.to_string()
    );
    world.folded.warn(world.now, &line);
}

/// Where the copy of a source from the web lies; files need none.
fn path_of(world: &mut World, which: Which, at: usize) -> Option<PathBuf> {
    let folder = world.lists.cache_dir.clone()?;
    let ListSource::Web(url) = &world.lists.source(which, at)?.from else { return None };
    let digest = Sha256::new()
        .chain_update(url.scheme.as_bytes())
        .chain_update([0])
        .chain_update(url.host.as_bytes())
        .chain_update(url.port_or(0).to_be_bytes())
        .chain_update(url.path.as_bytes())
        .finalize();
    let name: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    Some(folder.join(format!("{}-{name}.ranges", which.as_str())))
}

fn encode(ranges: &Ranges) -> Vec<u8> {
    let mut body = Vec::with_capacity(HEAD + ranges.v4().len() * 8 + ranges.v6().len() * 32);
    body.extend_from_slice(&[0; DIGEST]);
    body.extend_from_slice(MAGIC);
    body.extend_from_slice(&(ranges.v4().len() as u32).to_le_bytes());
    for (first, last) in ranges.v4() {
        body.extend_from_slice(&first.to_le_bytes());
        body.extend_from_slice(&last.to_le_bytes());
    }
    for (first, last) in ranges.v6() {
        body.extend_from_slice(&first.to_le_bytes());
        body.extend_from_slice(&last.to_le_bytes());
    }
    let digest = Sha256::digest(&body[DIGEST..]);
    body[..DIGEST].copy_from_slice(&digest);
    body
}

fn read(path: &Path) -> Option<Ranges> {
    let found = fs::metadata(path).ok()?;
    if !found.is_file() || found.len() > FILE_MAX {
        return None;
    }
    decode(&fs::read(path).ok()?)
}

fn decode(bytes: &[u8]) -> Option<Ranges> {
    let (digest, body) = bytes.split_at_checked(DIGEST)?;
    if Sha256::digest(body).as_slice() != digest {
        return None;
    }
    let (count, body) = body.strip_prefix(MAGIC)?.split_first_chunk::<4>()?;
    let v4_bytes = usize::try_from(u32::from_le_bytes(*count)).ok()?.checked_mul(8)?;
    let (v4, v6) = body.split_at_checked(v4_bytes)?;
    let (v4, v6) = (v4.as_chunks::<4>().0, v6.as_chunks::<16>().0);
    let pairs4 = v4.as_chunks::<2>().0.iter();
    let pairs6 = v6.as_chunks::<2>().0.iter();
    Some(Ranges::new(
        pairs4.map(|[a, b]| (u32::from_le_bytes(*a), u32::from_le_bytes(*b))).collect(),
        pairs6.map(|[a, b]| (u128::from_le_bytes(*a), u128::from_le_bytes(*b))).collect(),
    ))
}

const DIGEST: usize = 32;
const MAGIC: &[u8] = b"mtbox list 1\n";
const HEAD: usize = DIGEST + MAGIC.len() + 4;
const SLICE: usize = 64 << 10;
const FILE_MAX: u64 = 33 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_read_back_and_a_torn_one_is_not() {
        let ranges = Ranges::new(vec![(1, 2), (9, u32::MAX)], vec![(5, 7 << 100)]);
        let bytes = encode(&ranges);
        assert_eq!(decode(&bytes), Some(ranges));
        for end in 0..bytes.len() {
            assert_eq!(decode(&bytes[..end]), None, "cut at {end}");
        }
        for at in 0..bytes.len() {
            let mut torn = bytes.clone();
            torn[at] ^= 1;
            assert_eq!(decode(&torn), None, "flipped at {at}");
        }
        assert_eq!(decode(&encode(&Ranges::default())), Some(Ranges::default()));
    }
}
