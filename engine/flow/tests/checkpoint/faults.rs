//! An object store that stops after so many operations, as the process that called it might.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, stream};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, ObjectStoreExt, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

/// The last operation that is begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Last {
    /// Has no effect: a full disk.
    Fails,
    /// Has its effect, and the caller does not hear of it: an end of the process, a lost answer.
    Unanswered,
}

#[derive(Debug)]
pub struct Stopping {
    inner: Arc<dyn ObjectStore>,
    begun: Arc<AtomicU64>,
    operations: u64,
    last: Last,
}

impl Stopping {
    /// Lets `operations` through whole; the one after is the last; then nothing works.
    pub fn after(operations: u64, last: Last, inner: Arc<dyn ObjectStore>) -> Self {
        let begun = Arc::default();
        Self {
            inner,
            begun,
            operations,
            last,
        }
    }

    /// Whether the store has stopped.
    pub fn has_stopped(&self) -> bool {
        self.begun.load(Ordering::SeqCst) > self.operations
    }

    /// Begins an operation. Whether it has its effect, and whether the caller hears of it.
    fn begin(&self) -> (bool, bool) {
        let before = self.begun.fetch_add(1, Ordering::SeqCst);
        let is_last = before == self.operations;
        let answered = before < self.operations;
        (
            answered || (is_last && self.last == Last::Unanswered),
            answered,
        )
    }

    async fn through<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        match self.begin() {
            (_, true) => work.await,
            (true, false) => work.await.and(Err(stopped())),
            (false, false) => Err(stopped()),
        }
    }
}

fn stopped() -> Error {
    Error::Generic {
        store: "stopping",
        source: Box::new(std::io::Error::from(std::io::ErrorKind::StorageFull)),
    }
}

impl fmt::Display for Stopping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Stopping({})", self.inner)
    }
}

#[async_trait]
impl ObjectStore for Stopping {
    async fn put_opts(
        &self,
        path: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        self.through(self.inner.put_opts(path, payload, options))
            .await
    }

    async fn put_multipart_opts(
        &self,
        path: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.through(self.inner.put_multipart_opts(path, options))
            .await
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        self.through(self.inner.get_opts(path, options)).await
    }

    fn delete_stream(
        &self,
        paths: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let one = Self {
            inner: self.inner.clone(),
            begun: self.begun.clone(),
            operations: self.operations,
            last: self.last,
        };
        stream::unfold((one, paths), |(one, mut paths)| async move {
            let path = paths.next().await?;
            let removed = match path {
                Ok(path) => one.through(one.inner.delete(&path)).await.map(|()| path),
                Err(error) => Err(error),
            };
            Some((removed, (one, paths)))
        })
        .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.begin() {
            (_, true) => self.inner.list(prefix),
            _ => stream::once(async { Err(stopped()) }).boxed(),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.through(self.inner.list_with_delimiter(prefix)).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.through(self.inner.copy_opts(from, to, options)).await
    }
}
