//! A library that changes while a run goes on: whoever encodes reads it as it is now, and whoever keeps account
//! of what was encoded is told that it is another.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use crate::library::Library;

/// A library as it is now. Clones are of the same one: what is put in its place is in the place of all.
#[derive(Clone, Debug, Default)]
pub struct CurrentLibrary {
    shared: Arc<Shared>,
    /// The edition that this holder has been told of.
    told: u64,
}

#[derive(Debug, Default)]
struct Shared {
    library: RwLock<Arc<Library>>,
    /// How often it has been replaced.
    edition: AtomicU64,
}

impl CurrentLibrary {
    /// The library as it is now; it stays as it is for as long as this is held.
    pub fn now(&self) -> Arc<Library> {
        let library = self.shared.library.read();
        library.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts another one in its place.
    pub fn replace(&self, library: Library) {
        let held = self.shared.library.write();
        *held.unwrap_or_else(PoisonError::into_inner) = Arc::new(library);
        // Whoever sees the number grown finds the new one.
        self.shared.edition.fetch_add(1, Ordering::Release);
    }

    /// Whether it has been replaced since this holder asked last.
    pub fn is_another(&mut self) -> bool {
        let edition = self.shared.edition.load(Ordering::Acquire);
        std::mem::replace(&mut self.told, edition) != edition
    }

    /// Whether anybody else holds it.
    pub fn is_held_elsewhere(&self) -> bool {
        Arc::strong_count(&self.shared) > 1
    }
}

impl From<Library> for CurrentLibrary {
    fn from(library: Library) -> Self {
        Arc::new(library).into()
    }
}

impl From<Arc<Library>> for CurrentLibrary {
    fn from(library: Arc<Library>) -> Self {
        Self {
            shared: Arc::new(Shared {
                library: RwLock::new(library),
                edition: AtomicU64::default(),
            }),
            told: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use segue_listen::TrackKey;

    use super::*;
    use crate::library::TrackMedia;

    #[test]
    fn all_holders_see_another_and_each_is_told_once() {
        let mut one = CurrentLibrary::from(Library::default());
        let mut other = one.clone();
        assert!(!one.is_another() && one.is_held_elsewhere());
        let before = other.now();
        let mut library = Library::default();
        library.insert(TrackKey(1), TrackMedia::default());
        one.replace(library);
        assert!(before.is_empty() && !other.now().is_empty());
        for holder in [&mut one, &mut other] {
            assert!(holder.is_another());
            assert!(!holder.is_another());
        }
        drop(other);
        assert!(!one.is_held_elsewhere());
    }
}
