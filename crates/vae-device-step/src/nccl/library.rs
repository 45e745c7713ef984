//! The functions of NCCL that are used, opened at run time.

use std::ffi::{CStr, c_char, c_void};

use resnet_blocks::c_library;

/// `ncclComm_t`
pub(super) type Communicator = *mut c_void;
/// `ncclResult_t`; zero is success.
pub(super) type Status = i32;

/// `ncclInProgress`
pub(super) const IN_PROGRESS: Status = 7;
/// `ncclFloat32`
pub(super) const FLOAT32: i32 = 7;

/// `ncclUniqueId`
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct UniqueId(pub(super) [u8; 128]);

c_library! {
    ["libnccl.so.2", "libnccl.so"];
    get_version = b"ncclGetVersion\0": fn(*mut i32) -> Status;
    get_unique_id = b"ncclGetUniqueId\0": fn(*mut UniqueId) -> Status;
    init_rank = b"ncclCommInitRank\0": fn(*mut Communicator, i32, UniqueId, i32) -> Status;
    async_error = b"ncclCommGetAsyncError\0": fn(Communicator, *mut Status) -> Status;
    abort = b"ncclCommAbort\0": fn(Communicator) -> Status;
    group_start = b"ncclGroupStart\0": fn() -> Status;
    group_end = b"ncclGroupEnd\0": fn() -> Status;
    send = b"ncclSend\0": fn(*const c_void, usize, i32, i32, Communicator, *mut c_void) -> Status;
    receive = b"ncclRecv\0": fn(*mut c_void, usize, i32, i32, Communicator, *mut c_void) -> Status;
    error_string = b"ncclGetErrorString\0": fn(Status) -> *const c_char;
}

impl Library {
    pub(super) fn checked(&self, what: &str, status: Status) -> Result<(), String> {
        if status == 0 {
            return Ok(());
        }
        // SAFETY: the library gives a text that stays for each status.
        let text = unsafe {
            let text = (self.error_string)(status);
            (!text.is_null()).then(|| CStr::from_ptr(text).to_string_lossy().into_owned())
        };
        Err(format!("{what}: {}", text.unwrap_or_default()))
    }
}
