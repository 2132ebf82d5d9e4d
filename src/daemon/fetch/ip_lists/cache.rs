//! Copies of fetched lists on disk, so that a router that starts without a network is protected
//! all the same. Written only when the networks have changed (flash wears out), in slices, and
//! put in place whole. A copy ends with its SHA-256, so a torn one is recognised.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufReader, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use nix::fcntl::OFlag;
use sha2::{Digest, Sha256};

use crate::config::settings::ListSource;
use crate::daemon::fetch::ip_lists::ListKind;
use crate::daemon::shared::World;
use crate::limits::ip_list::{MAX_NETWORKS, Net4, Net6, Networks};

/// A copy that is being written.
pub struct CacheWriter {
    which: ListKind,
    at: usize,
    file: File,
    draft: PathBuf,
    path: PathBuf,
    copy: CacheEncoder,
}

/// Puts the copy of a source in place, if there is a good one.
pub fn restore(world: &mut World, which: ListKind, at: usize) {
    let Some(path) = path_of(world, which, at) else { return };
    let (name, found) = (which.as_str(), read(&path));
    let Some(source) = world.lists.source(which, at) else { return };
    match found {
        Ok(networks) => {
            let (shown, entries) = (source.shown(), networks.len());
            log::info!("event=list name={name} source={shown:?} entries={entries} from=cache");
            source.networks = Some(Rc::new(networks));
            source.is_saved = true;
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => {
            log::warn!("event=list-cache-unusable path={path:?} error={:?}", e.to_string());
        }
    }
}

/// Begins to write the copy of a source.
pub fn open(world: &mut World, which: ListKind, at: usize) -> Option<Box<CacheWriter>> {
    let path = path_of(world, which, at)?;
    let networks = world.lists.source(which, at)?.networks.clone()?;
    let draft = path.with_extension("new");
    match create(&draft) {
        Ok(file) => {
            let copy = CacheEncoder::new(networks);
            Some(Box::new(CacheWriter { which, at, file, draft, path, copy }))
        }
        Err(e) => {
            complain(world, &e);
            None
        }
    }
}

/// Writes the next slice, or puts the whole in place.
pub fn write_on(world: &mut World, mut writing: Box<CacheWriter>) -> Option<Box<CacheWriter>> {
    let slice = writing.copy.next();
    let outcome = match slice.is_empty() {
        false => writing.file.write_all(&slice),
        true => fs::rename(&writing.draft, &writing.path),
    };
    let CacheWriter { which, at, draft, copy, .. } = &*writing;
    match outcome {
        Ok(()) if !slice.is_empty() => return Some(writing),
        Ok(()) => {
            // Newer networks may have come meanwhile; they follow.
            let source = world.lists.source(*which, *at)?;
            let has = source.networks.as_ref();
            source.is_saved = has.is_some_and(|networks| Rc::ptr_eq(networks, &copy.networks));
        }
        Err(e) => {
            // It is nobody else's; if it cannot even be removed there is no more to do.
            let _ = fs::remove_file(draft);
            complain(world, &e);
        }
    }
    None
}

/// A new file that only we may read, in a folder that is made if need be.
fn create(draft: &Path) -> io::Result<File> {
    if let Some(folder) = draft.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    match fs::remove_file(draft) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => OpenOptions::new().write(true).create_new(true).mode(0o600).open(draft),
    }
}

fn complain(world: &mut World, error: &io::Error) {
    let line = format!(
        "event=list-cache-failed error={:?} hint=\"see defense.cache-dir\"",
        error.to_string()
    );
    world.telemetry.warn(format_args!("{line}"));
}

/// Where the copy of a source from the web lies; files need none. The name tells nothing about
/// the URL, which may hold something secret.
fn path_of(world: &mut World, which: ListKind, at: usize) -> Option<PathBuf> {
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
    Some(folder.join(format!("{}-{name}.networks", which.as_str())))
}

/// A copy in the making: magic, both counts in little endian, the networks as they are in memory,
/// and the SHA-256 of all that.
struct CacheEncoder {
    networks: Rc<Networks>,
    stage: EncodeStage,
    hash: Sha256,
}

/// What comes next.
#[derive(Clone, Copy)]
enum EncodeStage {
    Head,
    V4(usize),
    V6(usize),
    Digest,
    Over,
}

impl CacheEncoder {
    fn new(networks: Rc<Networks>) -> Self {
        Self { networks, stage: EncodeStage::Head, hash: Sha256::new() }
    }

    /// The next bytes of the copy, at most [`SLICE`]; none = that was all.
    fn next(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        let (v4, v6) = (self.networks.v4(), self.networks.v6());
        self.stage = match self.stage {
            EncodeStage::Head => {
                out.extend_from_slice(MAGIC);
                out.extend_from_slice(&(v4.len() as u32).to_le_bytes());
                out.extend_from_slice(&(v6.len() as u32).to_le_bytes());
                EncodeStage::V4(0)
            }
            EncodeStage::V4(from) => {
                let next = v4.len().min(from + SLICE / NET4);
                out.extend_from_slice(v4.get(from..next).unwrap_or_default().as_flattened());
                if next < v4.len() { EncodeStage::V4(next) } else { EncodeStage::V6(0) }
            }
            EncodeStage::V6(from) => {
                let next = v6.len().min(from + SLICE / NET6);
                out.extend_from_slice(v6.get(from..next).unwrap_or_default().as_flattened());
                if next < v6.len() { EncodeStage::V6(next) } else { EncodeStage::Digest }
            }
            EncodeStage::Digest => {
                out.extend_from_slice(&self.hash.clone().finalize());
                EncodeStage::Over
            }
            EncodeStage::Over => return out,
        };
        self.hash.update(&out);
        if out.is_empty() { self.next() } else { out }
    }
}

/// Reads a copy.
///
/// # Errors
/// `InvalidData` when it is not one, or torn.
fn read(path: &Path) -> io::Result<Networks> {
    let file = OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path)?;
    let found = file.metadata()?;
    if !found.is_file() {
        return Err(io::ErrorKind::InvalidData.into());
    }
    decode(BufReader::with_capacity(SLICE, file), found.len())
}

fn decode(from: impl Read, length: u64) -> io::Result<Networks> {
    let mut from = HashingReader { from, hash: Sha256::new() };
    let magic = from.array()?;
    let (v4_count, v6_count) =
        (u32::from_le_bytes(from.array()?), u32::from_le_bytes(from.array()?));
    let wanted =
        HEAD + u64::from(v4_count) * NET4 as u64 + u64::from(v6_count) * NET6 as u64 + DIGEST;
    let most = MAX_NETWORKS as u64;
    // Before memory is asked for.
    if magic != *MAGIC || wanted != length || u64::from(v4_count) + u64::from(v6_count) > most {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut v4 = Vec::with_capacity(v4_count as usize);
    for _ in 0..v4_count {
        v4.push(from.array()?);
    }
    let mut v6 = Vec::with_capacity(v6_count as usize);
    for _ in 0..v6_count {
        v6.push(from.array()?);
    }
    let digest = from.hash.clone().finalize();
    if digest.as_slice() != from.array::<{ DIGEST as usize }>()? {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Ok(Networks::new(v4, v6))
}

/// Hashes what is read.
struct HashingReader<R> {
    from: R,
    hash: Sha256,
}

impl<R: Read> HashingReader<R> {
    fn array<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.from.read_exact(&mut bytes)?;
        self.hash.update(bytes);
        Ok(bytes)
    }
}

const MAGIC: &[u8; 13] = b"mtbox list 1\n";
const HEAD: u64 = 13 + 4 + 4;
const NET4: usize = size_of::<Net4>();
const NET6: usize = size_of::<Net6>();
const DIGEST: u64 = 32;
/// Bytes that are hashed and written in one turn: a few milliseconds on a small router.
const SLICE: usize = 32 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn encode(networks: Networks) -> Vec<u8> {
        let mut encoder = CacheEncoder::new(Rc::new(networks));
        let slices =
            std::iter::repeat_with(|| encoder.next()).take_while(|slice| !slice.is_empty());
        slices.inspect(|slice| assert!(slice.len() <= SLICE)).flatten().collect()
    }

    fn read_back(bytes: &[u8]) -> Option<Networks> {
        decode(bytes, bytes.len() as u64).ok()
    }

    #[test]
    fn a_copy_is_read_back_and_a_torn_one_is_not() {
        let networks = || Networks::new(vec![[1, 2, 3, 4, 32], [9, 0, 0, 0, 8]], vec![[7; 17]]);
        let bytes = encode(networks());
        assert_eq!(read_back(&bytes), Some(networks()));
        for end in 0..bytes.len() {
            assert_eq!(read_back(&bytes[..end]), None, "cut at {end}");
        }
        for at in 0..bytes.len() {
            let mut torn = bytes.clone();
            torn[at] ^= 1;
            assert_eq!(read_back(&torn), None, "flipped at {at}");
        }
        assert_eq!(read_back(&encode(Networks::default())), Some(Networks::default()));
    }

    #[test]
    fn a_long_copy_comes_in_slices() {
        let v4: Vec<Net4> = (0..20_000_u32).map(|n| [9, (n >> 8) as u8, n as u8, 1, 32]).collect();
        let v6: Vec<Net6> = (0..3_000_u32)
            .map(|n| {
                std::array::from_fn(|at| {
                    [0x20, (n >> 8) as u8, n as u8].get(at).copied().unwrap_or(128)
                })
            })
            .collect();
        let networks = || Networks::new(v4.clone(), v6.clone());
        let bytes = encode(networks());
        assert_eq!(bytes.len() as u64, HEAD + 20_000 * 5 + 3_000 * 17 + DIGEST);
        assert_eq!(read_back(&bytes), Some(networks()));
    }
}
