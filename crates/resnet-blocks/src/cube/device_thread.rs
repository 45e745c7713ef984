//! Work of other libraries on a CUDA device, in order with the kernels that are launched there.

use std::ffi::c_void;
use std::sync::{Mutex, PoisonError};

use cubecl::cuda::CudaRuntime;
use cubecl::server::Handle;
use cubecl_common::device::DeviceId;
use cubecl_common::device_handle::DeviceHandle;
use cubecl_environment::stream::StreamId;
use cubecl_server::runtime::Runtime;
use cubecl_server::server::ServerStorage;
use cubecl_server::stream::WriteScoped;

type Server = <CudaRuntime as Runtime>::Server;

/// CubeCL's thread of a CUDA device, on which the card's context is current.
#[derive(Clone)]
pub struct DeviceThread(DeviceHandle<Server>);

/// Where buffers lie, and the stream that they are used on.
pub struct OnStream {
    /// The first byte of each buffer, in their order.
    pub addresses: Vec<u64>,
    /// A `CUstream`.
    pub stream: *mut c_void,
}

/// What went wrong first with work that reports nothing by itself: everything after it failed because of it.
#[derive(Debug, Default)]
pub struct FirstFailure(Mutex<Option<String>>);

impl FirstFailure {
    /// Takes note of a failure.
    pub fn note(&self, text: String) {
        let mut first = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        first.get_or_insert(text);
    }

    /// The first failure, which is forgotten.
    pub fn take(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The first failure, as far as is known by now.
    pub fn text(&self) -> Option<String> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl DeviceThread {
    /// That of the device with this index.
    pub fn of(index: u16) -> Self {
        Self(DeviceHandle::new(DeviceId::new(0, index)))
    }

    /// Has `work` done behind everything that the calling thread has launched. The buffers stay where they are until it returns; it gets CubeCL's
    /// report where one of them was never written or has no memory, which names the failure that all began with.
    pub fn submit<const N: usize>(
        &self,
        buffers: [Handle; N],
        work: impl FnOnce(Result<OnStream, String>) + Send + 'static,
    ) {
        let stream = StreamId::current();
        let bindings = buffers.map(Handle::binding);
        self.0.submit(move |server| {
            let mut resources = Vec::with_capacity(N);
            let placed = (|| {
                for binding in &bindings {
                    let resource = server.get_resource(binding.clone(), stream);
                    resources.push(resource.map_err(|error| error.to_string())?);
                }
                let streams = server.write_streams();
                let streams = streams.resolve(stream, bindings.iter());
                let mut streams = streams.map_err(|error| error.to_string())?;
                let stream = streams.current().sys;
                Ok(OnStream {
                    addresses: resources.iter().map(|one| one.resource().ptr).collect(),
                    stream: stream.cast(),
                })
            })();
            work(placed);
        });
    }

    /// Has what was submitted begin, for which it would wait until more is, or until something is read.
    pub fn begin(&self) {
        self.0.flush_queue();
    }
}
