//! An object store in memory that fails as it is told to.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt as _, TryStreamExt as _};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It fails, and nothing happened.
    Before,
    /// It takes effect, and the answer is lost.
    After,
    /// 409: something else was in the way, and nothing happened.
    Conflict,
    /// The process dies just before it.
    DeathBefore,
    /// The process dies just after it took effect.
    DeathAfter,
}

/// A process's way to a store that others use too.
#[derive(Debug)]
pub struct Faulty {
    pub inner: Arc<InMemory>,
    plan: Mutex<Plan>,
    /// What happens elsewhere just before the next manifest is put.
    meanwhile: Mutex<Option<Meanwhile>>,
}

struct Meanwhile(Box<dyn FnOnce() + Send>);

impl std::fmt::Debug for Meanwhile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("something")
    }
}

#[derive(Debug, Default)]
struct Plan {
    /// For each request to come, in order.
    faults: VecDeque<Option<Fault>>,
    dead: bool,
}

impl std::fmt::Display for Faulty {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a store with faults")
    }
}

impl Faulty {
    pub fn new(inner: &Arc<InMemory>, faults: impl IntoIterator<Item = Option<Fault>>) -> Arc<Self> {
        let plan = Plan { faults: faults.into_iter().collect(), dead: false };
        Arc::new(Self { inner: inner.clone(), plan: Mutex::new(plan), meanwhile: Mutex::new(None) })
    }

    /// Stops the process just before it puts a manifest, until `work` was done by others.
    pub fn before_the_manifest(&self, work: impl FnOnce() + Send + 'static) {
        *self.meanwhile.lock().unwrap() = Some(Meanwhile(Box::new(work)));
    }

    /// From now on nothing goes wrong, unless the process is dead.
    pub fn heal(&self) {
        self.plan.lock().unwrap().faults.clear();
    }

    /// Plans further faults.
    pub fn plan(&self, faults: impl IntoIterator<Item = Option<Fault>>) {
        self.plan.lock().unwrap().faults.extend(faults);
    }

    pub fn is_dead(&self) -> bool {
        self.plan.lock().unwrap().dead
    }

    async fn with<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        let fault = {
            let mut plan = self.plan.lock().unwrap();
            let fault = if plan.dead { Some(Fault::DeathBefore) } else { plan.faults.pop_front().flatten() };
            plan.dead |= matches!(fault, Some(Fault::DeathBefore | Fault::DeathAfter));
            fault
        };
        match fault {
            None => work.await,
            Some(Fault::Before) => Err(passing("503")),
            Some(Fault::After) => {
                let _ = work.await;
                Err(passing("the connection was closed"))
            }
            Some(Fault::Conflict) => {
                Err(Error::AlreadyExists { path: String::new(), source: "409 ConditionalRequestConflict".into() })
            }
            // A dead process asks nothing again.
            Some(Fault::DeathBefore) => Err(Error::NotSupported { source: "dead".into() }),
            Some(Fault::DeathAfter) => {
                let _ = work.await;
                Err(Error::NotSupported { source: "dead".into() })
            }
        }
    }
}

fn passing(what: &str) -> Error {
    Error::Generic { store: "faulty", source: what.into() }
}

#[async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        if location.as_ref().ends_with("manifest.json") {
            let meanwhile = self.meanwhile.lock().unwrap().take();
            if let Some(Meanwhile(work)) = meanwhile {
                std::thread::spawn(work).join().unwrap();
            }
        }
        self.with(self.inner.put_opts(location, payload, options)).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.with(self.inner.put_multipart_opts(location, options)).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        match self.with(self.inner.get_opts(location, options)).await {
            // It changes nothing, so nothing is in its way.
            Err(Error::AlreadyExists { .. }) => Err(passing("500")),
            answer => answer,
        }
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let inner = self.inner.clone();
        // One request for all, as far as faults go.
        let locations = futures_util::FutureExt::now_or_never(locations.collect::<Vec<_>>()).unwrap_or_default();
        let work = async move {
            let mut gone = Vec::new();
            let mut done = inner.delete_stream(stream::iter(locations).boxed());
            while let Some(path) = done.try_next().await? {
                gone.push(path);
            }
            Ok(gone)
        };
        let outcome = futures_util::FutureExt::now_or_never(self.with(work)).expect("memory answers at once");
        match outcome {
            Ok(gone) => stream::iter(gone).map(Ok).boxed(),
            Err(Error::AlreadyExists { .. }) => stream::once(async { Err(passing("500")) }).boxed(),
            Err(error) => stream::once(async { Err(error) }).boxed(),
        }
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let found = futures_util::FutureExt::now_or_never(self.inner.list(prefix).collect::<Vec<_>>());
        let mut found = found.expect("memory answers at once");
        let healthy = futures_util::FutureExt::now_or_never(self.with(async { Ok(()) })).expect("it does not wait");
        if let Err(error) = healthy {
            // Torn: a part of it, and then nothing more.
            found.truncate(found.len() / 2);
            found.push(Err(match error {
                Error::AlreadyExists { .. } => passing("500"),
                error => error,
            }));
        }
        stream::iter(found).boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}
