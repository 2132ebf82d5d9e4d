//! File work of the IP lists, done in bounded steps, one per round of the loop.

use std::fs::File;
use std::path::PathBuf;
use std::time::SystemTime;

use crate::daemon::fetch::ip_lists::cache_format::CacheEncoder;
use crate::daemon::fetch::ip_lists::kind::SourceId;
use crate::limits::ip_list::{ListReader, UnsortedList};

/// One piece of work.
pub enum FileWork {
    /// Open the file of a source.
    Open(SourceId),
    /// Start to fetch a source from the web.
    Fetch(SourceId),
    /// Read the next part of a file.
    Read(FileReading),
    /// Sort more of a complete source, then use it.
    Sort(Box<SortingSource>),
    /// Start to write the cached copy of a source.
    Save(SourceId),
    /// Write the next part of a copy.
    Write(Box<CacheWriting>),
}

/// A file that is being read.
pub struct FileReading {
    /// The source.
    pub source: SourceId,
    /// The open file.
    pub file: File,
    /// Size and time of the file when it was opened.
    pub freshness: Freshness,
    /// Bytes read so far.
    pub bytes: u64,
    /// Parses the lines.
    pub reader: ListReader,
}

/// A complete source that is being sorted.
pub struct SortingSource {
    /// The source.
    pub source: SourceId,
    /// Stored in the source after sorting.
    pub freshness: Freshness,
    /// Its size in bytes.
    pub bytes: u64,
    /// Its networks.
    pub unsorted: UnsortedList,
}

/// A cached copy that is being written.
pub struct CacheWriting {
    /// The source.
    pub source: SourceId,
    /// The open temporary file.
    pub file: File,
    /// Its path.
    pub temporary: PathBuf,
    /// The path of the copy.
    pub path: PathBuf,
    /// The rest of the copy.
    pub encoder: CacheEncoder,
}

/// The version of a source, to detect changes.
#[derive(Default, Clone, PartialEq)]
pub enum Freshness {
    /// It has not been loaded yet.
    #[default]
    None,
    /// Size and modification time of a file.
    File(u64, SystemTime),
    /// Header lines for the next request, see
    /// [`HttpGet::validators`](crate::daemon::fetch::http_get::HttpGet::validators).
    Web(String),
}
