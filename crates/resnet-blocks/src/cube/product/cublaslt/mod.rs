//! Products by NVIDIA's cuBLASLt on CubeCL's buffers and stream. Its own heuristic chooses the algorithm, once for each kind of product.

mod library;
mod plan;
mod unplanned;

use std::collections::HashMap;
use std::ffi::c_void;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cubecl::prelude::*;
use cubecl::server::Handle;

use crate::cube::device_thread::{DeviceThread, FirstFailure, OnStream};
use crate::cube::matrix::Matrix;
use crate::cube::queue::Queue;

use self::library::{Opaque, checked, library};
use self::plan::{Key, Plan};
use self::unplanned::Unplanned;
use super::operand::{Operand, Products, sizes};
use super::plain::Plain;

/// Memory that an algorithm may use for itself, in bytes.
const WORKSPACE: usize = 32 << 20;

/// The library's handle and plans for one device. Used on CubeCL's device thread, where the card's context is current.
struct Shared {
    handle: Opaque,
    workspace: Handle,
    /// None where the library has no algorithm for a product.
    plans: Mutex<HashMap<Key, Option<Plan>>>,
    unplanned: Unplanned,
    failure: FirstFailure,
}

// SAFETY: the library's handle and descriptors may be used by any thread; the plans are behind a lock.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

/// Products by cuBLASLt; by the plain kernel where it has no algorithm.
pub(in crate::cube) struct CublasLt {
    shared: Arc<Shared>,
    device: DeviceThread,
}

impl CublasLt {
    /// For the CUDA device of that index; the reason where the library cannot be opened.
    pub(in crate::cube) fn open(client: &Client, index: u16) -> Result<Self, String> {
        let library = library()?;
        let device = DeviceThread::of(index);
        // Graphs know its address: the pools move what lies in them.
        let workspace = client.memory_persistent_allocation((), |()| client.empty(WORKSPACE));
        let (reply, replied) = std::sync::mpsc::channel();
        // Having asked for a buffer makes the card's context current on that thread.
        device.submit([workspace.clone()], move |placed| {
            let mut handle: Opaque = std::ptr::null_mut();
            let created = placed.and_then(|_| {
                // SAFETY: an out pointer to a local.
                checked("cublasLtCreate", unsafe { (library.create)(&mut handle) })
            });
            let _ = reply.send(created.map(|()| handle as usize));
        });
        device.begin();
        let handle = replied.recv().map_err(|error| error.to_string())??;
        let shared = Shared {
            handle: handle as Opaque,
            workspace,
            plans: Mutex::default(),
            unplanned: Unplanned::default(),
            failure: FirstFailure::default(),
        };
        Ok(Self {
            shared: Arc::new(shared),
            device,
        })
    }

    /// Whether there is a plan for the product, made where it is new: on the device's thread, since the library plans for the card whose
    /// context is current.
    fn has_plan(&self, key: Key) -> bool {
        if let Some(known) = self.shared.plans().get(&key) {
            return known.is_some();
        }
        let shared = self.shared.clone();
        let (reply, replied) = std::sync::mpsc::channel();
        self.device.submit([shared.workspace.clone()], move |_| {
            let plan = Plan::of(&key, shared.handle);
            if let Err(reason) = &plan {
                shared.unplanned.note(&key, reason);
            }
            let _ = reply.send(plan.is_ok());
            shared.plans().insert(key, plan.ok());
        });
        self.device.begin();
        replied.recv().unwrap_or(false)
    }
}

impl Products for CublasLt {
    fn name(&self) -> String {
        "cuBLASLt".to_owned()
    }

    fn unplanned(&self) -> Option<String> {
        self.shared.unplanned.text()
    }

    fn failure(&self) -> Option<String> {
        self.shared.failure.text()
    }

    fn take_failure(&self) -> Option<String> {
        self.shared.failure.take()
    }

    fn multiply(
        &self,
        queue: &Queue,
        left: Operand<'_>,
        right: Operand<'_>,
        out: &Matrix,
        is_added: bool,
    ) {
        // A launch reports nothing: the failure of an earlier one is seen here.
        if let Some(error) = self.failure() {
            panic!("{error}");
        }
        let [rows, columns, depth] = sizes(left, right, out);
        if is_narrow_and_deep([rows, columns, depth]) {
            return Plain::default().multiply(queue, left, right, out, is_added);
        }
        let key = Key {
            rows,
            columns,
            depth,
            operands: left.matrix.storage,
            result: out.storage,
            is_left_transposed: left.is_transposed,
            is_right_transposed: right.is_transposed,
        };
        if !self.has_plan(key) {
            return Plain::default().multiply(queue, left, right, out, is_added);
        }
        let shared = self.shared.clone();
        let handles = [
            left.matrix.buffer.handle(),
            right.matrix.buffer.handle(),
            out.buffer.handle(),
            shared.workspace.clone(),
        ];
        self.device.submit(handles, move |placed| {
            let multiplied = placed.and_then(|placed| shared.launch(&key, &placed, is_added));
            if let Err(text) = multiplied {
                shared.failure.note(text);
            }
        });
    }
}

impl Shared {
    fn plans(&self) -> MutexGuard<'_, HashMap<Key, Option<Plan>>> {
        self.plans.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Multiplies on the device's thread: `placed` are left, right, the result and the workspace.
    fn launch(&self, key: &Key, placed: &OnStream, is_added: bool) -> Result<(), String> {
        let [left, right, out, workspace] = std::array::from_fn(|index| placed.addresses[index]);
        let plans = self.plans();
        let plan = plans.get(key).and_then(Option::as_ref);
        let plan = plan.ok_or("a product of cuBLASLt without a plan")?;
        let (alpha, beta) = (1.0f32, if is_added { 1.0f32 } else { 0.0 });
        let library = library()?;
        // SAFETY: the pointers are those of live allocations of the layouts' sizes, which stay in place meanwhile; the stream is the one on
        // which they are used. The library counts columns first: a row-major product is that of the operands' transposes in the other order.
        let status = unsafe {
            (library.matmul)(
                self.handle,
                plan.descriptor,
                (&raw const alpha).cast(),
                right as *const c_void,
                plan.right,
                left as *const c_void,
                plan.left,
                (&raw const beta).cast(),
                out as *const c_void,
                plan.out,
                out as *mut c_void,
                plan.out,
                &raw const plan.algorithm.algorithm,
                workspace as *mut c_void,
                WORKSPACE,
                placed.stream,
            )
        };
        checked("cublasLtMatmul", status)
    }
}

/// Whether few results have very long sums: the weights' gradients of layers with the three colours on one side, over all pixels of a batch, and
/// dense layers' products of a few images.
///
/// Rows of three values are not aligned, so the library has only its slowest kernels for them, and few tiles, which may leave most of a card
/// idle: up to 3 ms each at batch 128 by an estimate, not by a measurement. The project's own kernel divides each sum over the card.
fn is_narrow_and_deep([rows, columns, depth]: [usize; 3]) -> bool {
    rows.min(columns) < 8 && depth >= 1 << 13
}
