/* A CUDA driver without a card. Memory is the host's, kernels are loaded and not run, and every call succeeds: NVIDIA's NVRTC compiles each
 * kernel for the capability that STAND_IN_CAPABILITY names ("8.0"), and what does not compile is seen without a card. What was compiled for a newer card is
 * refused, as by the driver.
 *
 * STAND_IN_REPORT, a file, receives a line for each event, which whoever runs on it may mark with lines of its own:
 * `module SECONDS NAME` (processor time of the thread since its last event: what compiling took, however busy the machine is), `launch NAME`,
 * `allocate BYTES`, `free BYTES`, `read BYTES`, `write BYTES`, `capture`, `graph`, `record EVENT`, `wait EVENT` (0 where it is all work of a stream or of the card that is waited for).
 *
 * STAND_IN_CARDS, a number, 1 without it: how many cards there are. What is launched on a further one has its number, ` on 1`.
 *
 * STAND_IN_MEMORY, a number of bytes, 80 GiB without it: what there is of memory. More is refused, with the line `refused BYTES`.
 *
 * STAND_IN_CAPTURE_FAILS, a number: the capture of that number, from 0, gives no graph; every one where it is negative.
 *
 * STAND_IN_DRIVER_VERSION, as 13010 for 13.1: the driver's, 12090 unless given.
 * STAND_IN_REFUSES_PTX, with any value: every kernel is of a newer toolkit than the driver.
 *
 * STAND_IN_HANGS, with any value: the driver does not begin. STAND_IN_MODULE_HANGS, a number: loading the module of that number, from 0, does not end.
 *
 * STAND_IN_FIRST_READ, a number: the first float32 that is read of each card, which a program has had computed to see whether the card works. */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

typedef int Result; /* CUresult */
typedef uint64_t Address; /* CUdeviceptr */
typedef void *Object; /* contexts, streams, events, modules, functions, graphs */
enum { SUCCESS = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NO_DEVICE = 101, NO_BINARY = 209, UNSUPPORTED_PTX = 222, NOT_PERMITTED = 800, NOT_SUPPORTED = 801, CAPTURE_UNSUPPORTED = 900, CAPTURE_INVALIDATED = 901 };

/* While anything is captured, in whichever thread, memory, modules and waiting are refused, as in the driver's global mode. */
static volatile int is_capturing, capture_is_broken;
static int breaks_capture(void) { return is_capturing && (capture_is_broken = 1); }

static char object[4096]; /* Something to point at. */
static _Thread_local Object current_context;

static FILE *report(void) {
  static FILE *file;
  if (!file) {
    const char *path = getenv("STAND_IN_REPORT");
    file = fopen(path ? path : "/dev/null", "a");
    setvbuf(file, NULL, _IOLBF, 256);
  }
  return file;
}

/* Seconds of this thread's processor time since it last asked. */
static double elapsed(void) {
  static _Thread_local struct timespec last;
  struct timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  double seconds = (now.tv_sec - last.tv_sec) + 1e-9 * (now.tv_nsec - last.tv_nsec);
  last = now;
  return seconds;
}

static void capability(int *major, int *minor) {
  const char *text = getenv("STAND_IN_CAPABILITY");
  if (!text || sscanf(text, "%d.%d", major, minor) != 2) *major = 8, *minor = 0;
}

Result cuInit(unsigned flags) {
  while (getenv("STAND_IN_HANGS")) sleep(1);
  return elapsed(), SUCCESS;
}
Result cuDriverGetVersion(int *version) {
  const char *given = getenv("STAND_IN_DRIVER_VERSION");
  return *version = given ? atoi(given) : 12090, SUCCESS;
}
Result cuGetErrorName(int error, const char **text) {
  *text = error == OUT_OF_MEMORY ? "CUDA_ERROR_OUT_OF_MEMORY" : error == UNSUPPORTED_PTX ? "CUDA_ERROR_UNSUPPORTED_PTX_VERSION" : "STAND_IN";
  return SUCCESS;
}
Result cuGetErrorString(int error, const char **text) {
  *text = error == OUT_OF_MEMORY     ? "out of memory"
          : error == UNSUPPORTED_PTX ? "the provided PTX was compiled with an unsupported toolchain."
                                     : "the stand-in driver";
  return SUCCESS;
}
Result cuGetExportTable(const void **table, const void *id) { return *table = NULL, NOT_SUPPORTED; }

/* Devices, with a large card's limits. */
static int cards(void) {
  const char *text = getenv("STAND_IN_CARDS");
  return text ? atoi(text) : 1;
}
Result cuDeviceGetCount(int *count) { return *count = cards(), SUCCESS; }
Result cuDeviceGet(int *device, int index) { return *device = index, index < cards() ? SUCCESS : NO_DEVICE; }
Result cuDeviceGetName(char *name, int size, int device) { return snprintf(name, size, "stand-in"), SUCCESS; }
static size_t used; /* bytes */
static size_t memory(void) {
  const char *text = getenv("STAND_IN_MEMORY");
  return text ? strtoull(text, NULL, 10) : (size_t)80 << 30;
}
Result cuDeviceTotalMem_v2(size_t *bytes, int device) { return *bytes = memory(), SUCCESS; }
Result cuMemGetInfo_v2(size_t *available, size_t *all) { return *available = memory() - used, *all = memory(), SUCCESS; }
Result cuDeviceGetUuid(void *id, int device) { return memset(id, 1, 16), SUCCESS; }
Result cuDeviceGetUuid_v2(void *id, int device) { return cuDeviceGetUuid(id, device); }
Result cuDeviceGetLuid(void *id, unsigned *mask, int device) { return NOT_SUPPORTED; }
Result cuDeviceGetPCIBusId(char *id, int size, int device) { return snprintf(id, size, "0000:00:04.0"), SUCCESS; }
Result cuDeviceCanAccessPeer(int *can, int device, int peer) { return *can = 0, SUCCESS; }
Result cuDeviceGetAttribute(int *value, int attribute, int device) {
  int major, minor;
  capability(&major, &minor);
  switch (attribute) {
    case 1: case 2: case 3: *value = 1024; break;        /* threads of a block, and in x and y */
    case 4: *value = 64; break;                           /* in z */
    case 5: *value = 2147483647; break;                   /* blocks in x */
    case 6: case 7: *value = 65535; break;                /* in y and z */
    case 8: *value = 49152; break;                        /* shared memory of a block */
    case 10: *value = 32; break;                          /* threads of a warp */
    case 12: *value = 65536; break;                       /* registers of a block */
    case 13: *value = 1500000; break;                     /* kHz */
    case 16: *value = 100; break;                         /* multiprocessors */
    case 36: *value = 2000000; break;                     /* kHz of the memory */
    case 37: *value = 4096; break;                        /* bits of its bus */
    case 38: *value = 32 << 20; break;                    /* second-level cache */
    case 39: *value = 2048; break;                        /* threads of a multiprocessor */
    case 75: *value = major; break;
    case 76: *value = minor; break;
    case 81: case 97: *value = 98304; break;              /* shared memory of a multiprocessor, and by choice of a block */
    case 115: *value = 1; break;                          /* memory pools */
    default: *value = 0;
  }
  return SUCCESS;
}

/* Contexts: addresses that differ, one a device */
static int current_card(void) { return current_context ? (int)((char *)current_context - object) : 0; }
Result cuDevicePrimaryCtxRetain(Object *context, int device) { return *context = object + device, SUCCESS; }
Result cuDevicePrimaryCtxRelease_v2(int device) { return SUCCESS; }
Result cuDevicePrimaryCtxSetFlags_v2(int device, unsigned flags) { return SUCCESS; }
Result cuCtxSetCurrent(Object context) { return current_context = context, SUCCESS; }
Result cuCtxGetCurrent(Object *context) { return *context = current_context, SUCCESS; }
Result cuCtxGetDevice(int *device) { return *device = current_card(), SUCCESS; }
Result cuCtxSynchronize(void) { return fputs("wait 0\n", report()), SUCCESS; }
Result cuCtxGetStreamPriorityRange(int *least, int *greatest) { return *least = 0, *greatest = -5, SUCCESS; }
Result cuCtxEnablePeerAccess(Object context, unsigned flags) { return SUCCESS; }

/* Memory: the host's, zeroed; unused pages cost nothing. Its size lies before it. */
Result cuMemAlloc_v2(Address *address, size_t bytes) {
  if (breaks_capture()) return CAPTURE_UNSUPPORTED;
  char *place = used + bytes <= memory() ? calloc(1, bytes + 256) : NULL;
  if (!place) return fprintf(report(), "refused %zu\n", bytes), OUT_OF_MEMORY;
  used += *(size_t *)place = bytes;
  fprintf(report(), "allocate %zu\n", bytes);
  return *address = (Address)(place + 256), SUCCESS;
}
Result cuMemAllocAsync(Address *address, size_t bytes, Object stream) { return cuMemAlloc_v2(address, bytes); }
Result cuMemFree_v2(Address address) {
  if (!address) return SUCCESS;
  if (breaks_capture()) return CAPTURE_UNSUPPORTED;
  char *place = (char *)address - 256;
  used -= *(size_t *)place;
  fprintf(report(), "free %zu\n", *(size_t *)place);
  return free(place), SUCCESS;
}
Result cuMemFreeAsync(Address address, Object stream) { return cuMemFree_v2(address); }
Result cuMemHostAlloc(Object *memory, size_t bytes, unsigned flags) {
  if (breaks_capture()) return CAPTURE_UNSUPPORTED;
  *memory = calloc(1, bytes ? bytes : 1);
  return *memory ? SUCCESS : OUT_OF_MEMORY;
}
Result cuMemAllocHost_v2(Object *memory, size_t bytes) { return cuMemHostAlloc(memory, bytes, 0); }
Result cuMemFreeHost(Object memory) { return free(memory), SUCCESS; }
Result cuMemcpyHtoD_v2(Address to, const void *from, size_t bytes) {
  fprintf(report(), "write %zu\n", bytes);
  return memcpy((void *)to, from, bytes), SUCCESS;
}
Result cuMemcpyHtoDAsync_v2(Address to, const void *from, size_t bytes, Object stream) { return cuMemcpyHtoD_v2(to, from, bytes); }
static void answer(void *to, size_t bytes) {
  static int is_answered;
  const char *text = getenv("STAND_IN_FIRST_READ");
  if (!text || is_answered++ >= cards() || bytes < 4) return;
  float number = strtof(text, NULL);
  memcpy(to, &number, 4);
}
Result cuMemcpyDtoH_v2(void *to, Address from, size_t bytes) {
  fprintf(report(), "read %zu\n", bytes);
  return memcpy(to, (void *)from, bytes), answer(to, bytes), SUCCESS;
}
Result cuMemcpyDtoHAsync_v2(void *to, Address from, size_t bytes, Object stream) { return cuMemcpyDtoH_v2(to, from, bytes); }
Result cuMemcpyDtoDAsync_v2(Address to, Address from, size_t bytes, Object stream) {
  return memmove((void *)to, (void *)from, bytes), SUCCESS;
}
Result cuMemsetD8Async(Address address, unsigned char value, size_t bytes, Object stream) {
  return memset((void *)address, value, bytes), SUCCESS;
}
typedef struct { /* CUDA_MEMCPY2D */
  size_t from_x, from_y;
  int from_type;
  const char *from_host;
  Address from_device;
  Object from_array;
  size_t from_pitch, to_x, to_y;
  int to_type;
  char *to_host;
  Address to_device;
  Object to_array;
  size_t to_pitch, width, height;
} Copy2D;
Result cuMemcpy2DAsync_v2(const Copy2D *copy, Object stream) {
  if (copy->to_host) fprintf(report(), "read %zu\n", copy->width * copy->height);
  else if (copy->from_host) fprintf(report(), "write %zu\n", copy->width * copy->height);
  const char *from = copy->from_host ? copy->from_host : (const char *)copy->from_device;
  char *to = copy->to_host ? copy->to_host : (char *)copy->to_device;
  for (size_t row = 0; row < copy->height; row++)
    memcpy(to + (row + copy->to_y) * copy->to_pitch + copy->to_x, from + (row + copy->from_y) * copy->from_pitch + copy->from_x,
           copy->width);
  if (copy->to_host) answer(copy->to_host, copy->width);
  return SUCCESS;
}
Result cuPointerGetAttribute(void *data, int attribute, Address address) { return SUCCESS; }

/* Streams and events */
Result cuStreamCreate(Object *stream, unsigned flags) {
  static int created;
  return *stream = object + 1 + created++ % 4000, SUCCESS;
}
Result cuStreamCreateWithPriority(Object *stream, unsigned flags, int priority) { return cuStreamCreate(stream, flags); }
Result cuStreamSynchronize(Object stream) {
  return breaks_capture() ? CAPTURE_UNSUPPORTED : (fputs("wait 0\n", report()), SUCCESS);
}
Result cuStreamQuery(Object stream) { return SUCCESS; }
Result cuStreamWaitEvent(Object stream, Object event, unsigned flags) { return SUCCESS; }
Result cuStreamDestroy_v2(Object stream) { return SUCCESS; }
Result cuLaunchHostFunc(Object stream, void (*function)(void *), void *data) { return function(data), SUCCESS; }
Result cuEventCreate(Object *event, unsigned flags) { /* a number, from 1 */
  static uintptr_t created;
  return *event = (Object)__atomic_add_fetch(&created, 1, __ATOMIC_RELAXED), SUCCESS;
}
Result cuEventRecord(Object event, Object stream) { return fprintf(report(), "record %zu\n", (size_t)event), SUCCESS; }
Result cuEventSynchronize(Object event) { return fprintf(report(), "wait %zu\n", (size_t)event), SUCCESS; }
Result cuEventQuery(Object event) { return SUCCESS; }
Result cuEventElapsedTime(float *milliseconds, Object start, Object end) { return *milliseconds = 1, SUCCESS; }
Result cuEventElapsedTime_v2(float *milliseconds, Object start, Object end) { return *milliseconds = 1, SUCCESS; }
Result cuEventDestroy_v2(Object event) { return SUCCESS; }

/* Modules and kernels */
/* Whether it is PTX for a newer card than this one. */
static int is_too_new(const char *image) {
  static const char directive[] = "\n.target sm_";
  const char *target = strstr(image, directive);
  int major, minor;
  capability(&major, &minor);
  return target && atoi(target + sizeof directive - 1) > 10 * major + minor;
}
Result cuModuleLoadData(Object *module, const void *image) {
  if (is_too_new(image)) return NO_BINARY;
  if (getenv("STAND_IN_REFUSES_PTX")) return UNSUPPORTED_PTX;
  static int loaded;
  const char *hangs = getenv("STAND_IN_MODULE_HANGS");
  while (hangs && atoi(hangs) == loaded) sleep(1);
  loaded++;
  return *module = object, breaks_capture() ? CAPTURE_UNSUPPORTED : SUCCESS;
}
Result cuModuleUnload(Object module) { return SUCCESS; }
Result cuModuleGetFunction(Object *function, Object module, const char *name) {
  fprintf(report(), "module %.3f %s\n", elapsed(), name);
  return *function = strdup(name), SUCCESS;
}
Result cuFuncSetAttribute(Object function, int attribute, int value) { return SUCCESS; }
Result cuFuncGetAttribute(int *value, int attribute, Object function) { return *value = 0, SUCCESS; }
Result cuFuncSetCacheConfig(Object function, int config) { return SUCCESS; }
static void launched(Object function) {
  int card = current_card();
  if (card) fprintf(report(), "launch %s on %d\n", (const char *)function, card);
  else fprintf(report(), "launch %s\n", (const char *)function);
  elapsed();
}
Result cuLaunchKernel(Object function, unsigned x, unsigned y, unsigned z, unsigned units_x, unsigned units_y, unsigned units_z,
                      unsigned shared, Object stream, Object *parameters, Object *extra) {
  launched(function);
  int is_possible = x && y && z && y <= 65535 && z <= 65535 && units_x * units_y * units_z <= 1024;
  return is_possible ? SUCCESS : INVALID_VALUE;
}
Result cuLaunchKernelEx(const void *config, Object function, Object *parameters, Object *extra) {
  return launched(function), SUCCESS;
}

/* Graphs: what is captured counts as launched, and one graph, of one kernel, stands for all */
typedef struct { /* CUDA_KERNEL_NODE_PARAMS_v2 and longer ones */
  char bytes[256];
} NodeParameters;
Result cuStreamBeginCapture_v2(Object stream, int mode) {
  if (is_capturing++) return NOT_PERMITTED;
  return capture_is_broken = 0, fputs("capture\n", report()), SUCCESS;
}
Result cuStreamEndCapture(Object stream, Object *graph) {
  is_capturing = 0;
  static int ended;
  const char *fails = getenv("STAND_IN_CAPTURE_FAILS");
  if (fails && (atoi(fails) < 0 || atoi(fails) == ended++)) capture_is_broken = 1;
  return capture_is_broken ? (*graph = NULL, CAPTURE_INVALIDATED) : (*graph = object, SUCCESS);
}
Result cuStreamIsCapturing(Object stream, int *status) { return *status = 0, SUCCESS; }
Result cuGraphGetNodes(Object graph, Object *nodes, size_t *count) {
  if (nodes && *count) nodes[0] = object;
  return *count = 1, SUCCESS;
}
Result cuGraphNodeGetType(Object node, int *type) { return *type = 0 /* a kernel */, SUCCESS; }
Result cuGraphKernelNodeGetParams_v2(Object node, NodeParameters *parameters) { return SUCCESS; }
Result cuGraphInstantiateWithFlags(Object *executable, Object graph, unsigned long long flags) { return *executable = object, SUCCESS; }
Result cuGraphUpload(Object executable, Object stream) { return SUCCESS; }
Result cuGraphLaunch(Object executable, Object stream) { return fputs("graph\n", report()), SUCCESS; }
Result cuGraphDestroy(Object graph) { return SUCCESS; }
Result cuGraphExecDestroy(Object executable) { return SUCCESS; }
