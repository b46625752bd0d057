//! Looks whether the files that a library is read from are others than they were, and reads them anew while a
//! run goes on.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use segue_catalog::current_library::CurrentLibrary;
use segue_catalog::library::Library;
use segue_flow::clock::WallClock;
use segue_flow::names::{self, Name};

/// What a file is, without reading it: its size and when it was changed. `None` where it is not there.
type About = Option<(u64, Option<SystemTime>)>;

/// Files, and how they become a library.
pub(super) struct LibraryWatch<R> {
    files: Vec<PathBuf>,
    read: R,
    /// What the files were when they were read last.
    taken: Vec<About>,
    /// What they were at the last look.
    seen: Vec<About>,
}

impl<R: FnMut() -> Result<Library>> LibraryWatch<R> {
    /// Reads the files for the first time, and is ready to look at them.
    ///
    /// # Errors
    /// They cannot be read.
    pub fn over(files: Vec<PathBuf>, mut read: R) -> Result<(Self, CurrentLibrary)> {
        // Before they are read: what changes meanwhile is seen to have changed.
        let now = about(&files);
        let library = read()?.into();
        let watch = Self {
            files,
            read,
            taken: now.clone(),
            seen: now,
        };
        Ok((watch, library))
    }

    /// One look: what is read anew takes the library's place, once it is the same at two looks, since it may be
    /// halfway written at the first. What cannot be read leaves the library as it is.
    fn look(&mut self, library: &CurrentLibrary) {
        let now = about(&self.files);
        let settled = now == self.seen;
        self.seen.clone_from(&now);
        if !settled || now == self.taken {
            return;
        }
        self.taken = now;
        let outcome = match (self.read)() {
            Ok(read) => {
                library.replace(read);
                "taken"
            }
            Err(error) => {
                tracing::warn!("the library has changed and stays as it was: {error:#}");
                "refused"
            }
        };
        names::count_for(Name::LibraryReadings, "outcome", outcome, 1);
    }

    /// Looks so often, on a thread of its own, for as long as anybody else holds the library.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub fn keep(
        mut self,
        library: CurrentLibrary,
        every: Duration,
        clock: Arc<dyn WallClock>,
    ) -> Result<()>
    where
        R: Send + 'static,
    {
        let thread = std::thread::Builder::new().name("library".to_owned());
        let keep = move || {
            while library.is_held_elsewhere() {
                clock.sleep(every);
                self.look(&library);
            }
        };
        thread
            .spawn(keep)
            .context("the thread that looks at the library cannot be started")?;
        Ok(())
    }
}

fn about(files: &[PathBuf]) -> Vec<About> {
    let about = |file: &PathBuf| {
        let about = std::fs::metadata(file).ok()?;
        Some((about.len(), about.modified().ok()))
    };
    files.iter().map(about).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use segue_flow::clock::MachineClock;

    use super::*;

    fn line(title: &str) -> String {
        format!("{{\"artist\": \"x\", \"title\": \"{title}\"}}\n")
    }

    /// A file with one track, and the library that was read from it.
    fn watched(
        file: &Path,
    ) -> (
        LibraryWatch<impl FnMut() -> Result<Library> + use<>>,
        CurrentLibrary,
    ) {
        std::fs::write(file, line("a")).unwrap();
        let from = file.to_path_buf();
        LibraryWatch::over(vec![from.clone()], move || Ok(Library::read(&from)?)).unwrap()
    }

    #[test]
    fn what_has_changed_is_read_once_it_is_whole_and_what_is_wrong_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("library.jsonl");
        let (mut watch, mut library) = watched(&file);
        assert_eq!(library.now().described(), 1);
        let mut look = || {
            watch.look(&library);
            (library.is_another(), library.now().described())
        };
        assert_eq!(look(), (false, 1));

        std::fs::write(&file, line("a") + &line("b")).unwrap();
        assert_eq!(look(), (false, 1), "it may be halfway written");
        std::fs::write(&file, line("a") + &line("b") + &line("c")).unwrap();
        assert_eq!(look(), (false, 1), "and was");
        assert_eq!(look(), (true, 3));
        assert_eq!(look(), (false, 3));

        std::fs::write(&file, line("a") + "no track").unwrap();
        assert_eq!([look(), look(), look()], [(false, 3); 3]);
        std::fs::remove_file(&file).unwrap();
        assert_eq!([look(), look()], [(false, 3); 2]);
        std::fs::write(&file, line("d")).unwrap();
        assert_eq!([look(), look()], [(false, 3), (true, 1)]);
    }

    #[test]
    fn who_holds_the_library_sees_it_change_by_itself() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("library.jsonl");
        let (watch, library) = watched(&file);
        let clock = Arc::new(MachineClock::start());
        let every = Duration::from_millis(2);
        watch.keep(library.clone(), every, clock.clone()).unwrap();
        std::fs::write(&file, line("a") + &line("b")).unwrap();
        while library.now().described() < 2 {
            clock.sleep(every);
        }
    }
}
