//! A device's queue, and the memory of the maps that work on it makes.

use std::collections::HashMap;
use std::ops::Deref;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use cubecl::prelude::*;
use cubecl::server::Handle;

/// Where kernels are launched, and where their buffers come from: CubeCL's own pools, or a [`Workspace`].
#[derive(Clone)]
pub struct Queue {
    client: Client,
    workspace: Option<Arc<Workspace>>,
}

impl Queue {
    /// With buffers from the client's pools.
    pub fn new(client: Client) -> Self {
        Self {
            client,
            workspace: None,
        }
    }

    /// With buffers from a workspace.
    pub fn with_workspace(client: Client, workspace: Arc<Workspace>) -> Self {
        Self {
            client,
            workspace: Some(workspace),
        }
    }

    /// A buffer of so many bytes, with whatever values it has.
    ///
    /// # Panics
    /// If the device has none so large: what was launched on it would be left out, and told much later.
    pub(super) fn buffer(&self, bytes: usize) -> Buffer {
        let largest = largest(&self.client, self.workspace.is_some());
        // As CubeCL tells it of tensors.
        assert!(
            largest.is_none_or(|largest| bytes as u64 <= largest),
            "can't allocate buffer of size: {bytes}"
        );
        match &self.workspace {
            None => self.client.empty(bytes).into(),
            Some(workspace) => workspace.take(&self.client, bytes),
        }
    }
}

/// Bytes of the largest buffer that there is, in a workspace or outside of it; none where nothing but the memory limits it.
pub(super) fn largest(client: &Client, is_in_workspace: bool) -> Option<u64> {
    // On CUDA the limit is that of CubeCL's pools, which a workspace goes round.
    let is_limited = !is_in_workspace || client.name() != "cuda";
    is_limited.then(|| client.properties().memory.max_page_size)
}

impl Deref for Queue {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

/// Buffers that are used again once nothing holds them, and kept as long as the workspace is.
///
/// The same work takes the same buffers each time, in the same order: what a captured graph needs, which knows addresses only. One queue uses a
/// workspace, so that a buffer's next use comes after its last one.
#[derive(Default)]
pub struct Workspace {
    /// By size in bytes; the one that came back last is taken first.
    free: Mutex<HashMap<usize, Vec<Handle>>>,
    bytes: AtomicUsize,
}

impl Workspace {
    /// Bytes of all its buffers, used or not.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    fn take(self: &Arc<Self>, client: &Client, bytes: usize) -> Buffer {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let handle = free.get_mut(&bytes).and_then(Vec::pop).unwrap_or_else(|| {
            self.bytes.fetch_add(bytes, Ordering::Relaxed);
            // As large as asked for and never moved: the pools round sizes up, and move what they hold before a graph is captured.
            client.memory_persistent_allocation((), |()| client.empty(bytes))
        });
        Buffer(Arc::new(Lease {
            handle,
            home: Some((self.clone(), bytes)),
        }))
    }
}

/// A buffer on the device.
#[derive(Clone)]
pub struct Buffer(Arc<Lease>);

struct Lease {
    handle: Handle,
    home: Option<(Arc<Workspace>, usize)>,
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some((workspace, bytes)) = &self.home {
            let mut free = workspace
                .free
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            free.entry(*bytes).or_default().push(self.handle.clone());
        }
    }
}

impl Buffer {
    /// CubeCL's name for it.
    pub fn handle(&self) -> Handle {
        self.0.handle.clone()
    }
}

impl From<Handle> for Buffer {
    fn from(handle: Handle) -> Self {
        Self(Arc::new(Lease { handle, home: None }))
    }
}
