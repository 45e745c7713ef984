/* NCCL without cards: ranks are processes in one folder, and what one sends the other receives through named pipes, over the stand-in driver's
 * memory. A call waits until both have it, as the real library's kernels do on their stream. Lengths that do not fit together are an error.
 *
 * STAND_IN_REPORT receives the line `nccl SENT RECEIVED` (values) for each group. STAND_IN_NCCL_STOPS=RANK:GROUP stops that rank's process before its
 * group of that number, from 0; STAND_IN_NCCL_FAILS=RANK:GROUP has that group wait for ever, with an error that only asking for it shows. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

typedef int Status; /* ncclResult_t */
enum { SUCCESS = 0, SYSTEM_ERROR = 2, INVALID_ARGUMENT = 4, INVALID_USAGE = 5, FLOAT32 = 7 };
typedef struct { char folder[128]; } UniqueId;
typedef struct { char folder[128]; int rank, size, groups; volatile int is_aborted, is_broken; } Communicator;
typedef struct { char *at; uint64_t left; int pipe; } Transfer; /* bytes */

static int is_open;
static Communicator *of_group;
static struct { char *at; uint64_t count; int peer; } sent, received;

Status ncclGetVersion(int *version) { return *version = 22703, SUCCESS; }
const char *ncclGetErrorString(Status status) { return status == INVALID_USAGE ? "lengths differ" : status ? "the stand-in" : "no error"; }
Status ncclGetUniqueId(UniqueId *id) {
  memset(id, 0, sizeof *id);
  snprintf(id->folder, sizeof id->folder, "nccl-XXXXXX");
  return mkdtemp(id->folder) ? SUCCESS : SYSTEM_ERROR;
}

static void name(char *path, const Communicator *all, int from, int to) { snprintf(path, 200, "%s/%d-%d", all->folder, from, to); }
Status ncclCommInitRank(Communicator **made, int size, UniqueId id, int rank) {
  if (size > 16) return INVALID_ARGUMENT;
  Communicator *all = calloc(1, sizeof *all);
  memcpy(all->folder, id.folder, sizeof id.folder);
  all->rank = rank, all->size = size;
  char path[200];
  for (int from = 0; from < size; from++)
    if (name(path, all, from, rank), mkfifo(path, 0600) && errno != EEXIST) return SYSTEM_ERROR;
  /* All pipes to a rank are there once it has come. */
  for (int other = 0; other < size; other++)
    for (name(path, all, rank, other); access(path, F_OK);) usleep(1000);
  return *made = all, SUCCESS;
}
Status ncclCommGetAsyncError(Communicator *all, Status *status) { return *status = all->is_broken ? SYSTEM_ERROR : SUCCESS, SUCCESS; }
Status ncclCommAbort(Communicator *all) { return all->is_aborted = 1, SUCCESS; }

Status ncclGroupStart(void) { return is_open++ ? INVALID_USAGE : (of_group = NULL, sent.count = received.count = 0, SUCCESS); }
Status ncclSend(const void *from, size_t count, int type, int peer, Communicator *all, void *stream) {
  if (!is_open || !from || !count || type != FLOAT32 || !stream || peer < 0 || peer >= all->size || peer == all->rank) return INVALID_ARGUMENT;
  of_group = all, sent.at = (char *)from, sent.count = count, sent.peer = peer;
  return SUCCESS;
}
Status ncclRecv(void *into, size_t count, int type, int peer, Communicator *all, void *stream) {
  if (!is_open || !into || !count || type != FLOAT32 || !stream || peer < 0 || peer >= all->size || peer == all->rank) return INVALID_ARGUMENT;
  of_group = all, received.at = into, received.count = count, received.peer = peer;
  return SUCCESS;
}

/* Stays open: what a pipe holds would be gone with its last reader and writer. */
static int pipe_between(const Communicator *all, int from, int to) {
  static int pipes[16][16];
  char path[200];
  if (!pipes[from][to]) name(path, all, from, to), pipes[from][to] = open(path, O_RDWR | O_NONBLOCK);
  return pipes[from][to];
}
/* The next bytes, as many as go without waiting. */
static void go_on(Transfer *transfer, int is_sent) {
  if (!transfer->left) return;
  ssize_t done = is_sent ? write(transfer->pipe, transfer->at, transfer->left) : read(transfer->pipe, transfer->at, transfer->left);
  if (done > 0) transfer->at += done, transfer->left -= done;
}
/* Whether a variable has this rank's present group. */
static int is_named(const char *variable, const Communicator *all) {
  int rank, group;
  const char *text = getenv(variable);
  return text && sscanf(text, "%d:%d", &rank, &group) == 2 && rank == all->rank && group == all->groups;
}
Status ncclGroupEnd(void) {
  Communicator *all = of_group;
  is_open = 0;
  if (!all) return SUCCESS;
  if (is_named("STAND_IN_NCCL_STOPS", all)) raise(SIGSTOP);
  if (is_named("STAND_IN_NCCL_FAILS", all)) all->is_broken = 1;
  all->groups++;
  /* Before the values goes their number. */
  uint64_t head[2] = {sent.count, 0};
  Transfer out[2] = {{(char *)head, sent.count ? 8 : 0, 0}, {sent.at, 4 * sent.count, 0}};
  Transfer in[2] = {{(char *)(head + 1), received.count ? 8 : 0, 0}, {received.at, 4 * received.count, 0}};
  if (sent.count) out[0].pipe = out[1].pipe = pipe_between(all, all->rank, sent.peer);
  if (received.count) in[0].pipe = in[1].pipe = pipe_between(all, received.peer, all->rank);
  while (!all->is_aborted && (all->is_broken || out[0].left || out[1].left || in[0].left || in[1].left)) {
    go_on(out[0].left ? &out[0] : &out[1], 1);
    go_on(in[0].left ? &in[0] : &in[1], 0);
    if (received.count && !in[0].left && head[1] != received.count) return INVALID_USAGE;
    usleep(100);
  }
  FILE *report = fopen(getenv("STAND_IN_REPORT") ? getenv("STAND_IN_REPORT") : "/dev/null", "a");
  fprintf(report, "nccl %lu %lu\n", (unsigned long)sent.count, (unsigned long)received.count);
  return fclose(report), SUCCESS;
}
