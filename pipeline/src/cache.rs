//! The embedding cache: one small file an embedding, named by what it depends on (encoder,
//! preprocessing, content). A file holds its values and their checksum, so one that was cut short or
//! altered counts as absent and is made again. Deleting the folder costs time, nothing else: so an entry is not
//! synced, as `feature_store::write_whole` would, twice for each of thousands.

use crate::BuildError;
use feature_store::sha256_bytes;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Length of a hexadecimal SHA-256.
const DIGEST_BYTES: usize = 64;

/// A folder of embeddings.
#[derive(Debug)]
pub(crate) struct EmbeddingCache {
    dir: PathBuf,
    writes: AtomicU64,
}

impl EmbeddingCache {
    /// Opens or makes the folder.
    pub(crate) fn open(dir: &Path) -> Result<EmbeddingCache, BuildError> {
        std::fs::create_dir_all(dir).map_err(BuildError::io(dir))?;
        Ok(EmbeddingCache { dir: dir.to_path_buf(), writes: AtomicU64::new(0) })
    }

    /// The name of an embedding: `identity` is the encoder's digest, `content` what it encodes.
    pub(crate) fn key(identity: &str, content: &[u8]) -> String {
        let content = sha256_bytes(content);
        sha256_bytes(format!("{identity} {content}").as_bytes())
    }

    /// The embedding, if it is there, whole, finite, and `dim` wide.
    pub(crate) fn get(&self, key: &str, dim: usize) -> Option<Vec<f32>> {
        let bytes = std::fs::read(self.path(key)).ok()?;
        let (values, digest) = bytes.split_at_checked(dim * 4)?;
        if digest != sha256_bytes(values).as_bytes() {
            return None;
        }
        let values: Vec<f32> = values.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
        values.iter().all(|value| value.is_finite()).then_some(values)
    }

    /// Keeps an embedding: written to a temporary name, then renamed. Threads may write one key at the same time, since
    /// items may have the same content.
    pub(crate) fn put(&self, key: &str, values: &[f32]) -> Result<(), BuildError> {
        let path = self.path(key);
        let parent = path.parent().unwrap_or(&self.dir);
        std::fs::create_dir_all(parent).map_err(BuildError::io(parent))?;
        let mut bytes: Vec<u8> = Vec::with_capacity(values.len() * 4 + DIGEST_BYTES);
        bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        let digest = sha256_bytes(&bytes);
        bytes.extend(digest.as_bytes());
        // Process and counter keep writers of one key apart: the last rename wins, whole.
        let write = self.writes.fetch_add(1, Ordering::Relaxed);
        let temporary = parent.join(format!("{key}.{}-{write}.part", std::process::id()));
        let written = std::fs::write(&temporary, bytes).and_then(|()| std::fs::rename(&temporary, &path));
        written.map_err(BuildError::io(&path)).inspect_err(|_| {
            // Best effort: the error that is returned is the one that matters.
            let _ = std::fs::remove_file(&temporary);
        })
    }

    /// Two levels, so that no folder gets too many files.
    fn path(&self, key: &str) -> PathBuf {
        self.dir.join(&key[..2]).join(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_entry_counts_as_absent() {
        let dir = tempfile::tempdir().unwrap();
        let cache = EmbeddingCache::open(dir.path()).unwrap();
        let key = EmbeddingCache::key("encoder", b"content");
        assert_eq!(cache.get(&key, 2), None);
        cache.put(&key, &[0.5, -1.0]).unwrap();
        assert_eq!(cache.get(&key, 2), Some(vec![0.5, -1.0]));
        assert_eq!(cache.get(&key, 3), None, "of another width");
        let path = cache.path(&key);
        let good = std::fs::read(&path).unwrap();
        for cut in [0, 4, good.len() - 1] {
            std::fs::write(&path, &good[..cut]).unwrap();
            assert_eq!(cache.get(&key, 2), None, "cut to {cut} bytes");
        }
        let mut altered = good.clone();
        altered[0] ^= 1;
        std::fs::write(&path, altered).unwrap();
        assert_eq!(cache.get(&key, 2), None, "altered");
        cache.put(&key, &[0.5, f32::NAN]).unwrap();
        assert_eq!(cache.get(&key, 2), None, "no number");
        cache.put(&key, &[0.5, -1.0]).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), good, "made again");
    }

    #[test]
    fn a_write_that_fails_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let cache = EmbeddingCache::open(dir.path()).unwrap();
        let key = EmbeddingCache::key("encoder", b"content");
        let in_the_way = cache.path(&key);
        std::fs::create_dir_all(&in_the_way).unwrap();
        let error = cache.put(&key, &[0.5]).unwrap_err().to_string();
        assert!(error.contains(&key), "{error}");
        assert_eq!(std::fs::read_dir(in_the_way.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn a_key_depends_on_encoder_and_content() {
        let key = EmbeddingCache::key("a", b"b");
        assert_ne!(key, EmbeddingCache::key("b", b"b"));
        assert_ne!(key, EmbeddingCache::key("a", b"a"));
    }
}
