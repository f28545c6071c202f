/* The few functions of NVIDIA's CUDA driver library that dlk calls, for a GPU called "Fake GPU":
 * proves the sequence of calls. "Machine code" says how long the text was. PTX that holds the
 * word REFUSE is refused, as a driver refuses what it cannot compile. */
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
  kSuccess = 0,
  kInvalidValue = 1,
  kNotInitialized = 3,
  kInvalidContext = 201,
  kInvalidPtx = 218
};

static int initialized, retained;
static _Thread_local void* current;
static int context_object;

int cuInit(unsigned flags) {
  initialized = flags == 0;
  return flags == 0 ? kSuccess : kInvalidValue;
}

int cuDeviceGetCount(int* count) {
  if (!initialized) return kNotInitialized;
  *count = 2;
  return kSuccess;
}

int cuDeviceGet(int* device, int ordinal) {
  *device = 40 + ordinal;
  return ordinal < 2 ? kSuccess : kInvalidValue;
}

int cuDeviceGetName(char* name, int bytes, int device) {
  snprintf(name, (size_t)bytes, "%s", device == 41 ? "Fake GPU" : "Another GPU");
  return kSuccess;
}

int cuDevicePrimaryCtxRetain(void** context, int device) {
  if (device != 41) return kInvalidValue;
  ++retained;
  *context = &context_object;
  return kSuccess;
}

int cuDevicePrimaryCtxRelease_v2(int device) {
  (void)device;
  --retained;
  return kSuccess;
}

int cuCtxPushCurrent_v2(void* context) {
  if (context != &context_object || retained < 1 || current != NULL) return kInvalidContext;
  current = context;
  return kSuccess;
}

int cuCtxPopCurrent_v2(void** context) {
  *context = current;
  current = NULL;
  return kSuccess;
}

struct link {
  char* log;
  size_t log_bytes;
  char* code;
};

int cuLinkCreate_v2(unsigned count, int* options, void** values, void** state) {
  if (current == NULL) return kInvalidContext;
  if (count != 2 || options[0] != 5 || options[1] != 6) return kInvalidValue;
  struct link* link = calloc(1, sizeof *link);
  link->log = values[0];
  link->log_bytes = (size_t)values[1];
  *state = link;
  return kSuccess;
}

int cuLinkAddData_v2(void* state, int type, void* data, size_t bytes, const char* name,
                     unsigned count, int* options, void** values) {
  struct link* link = state;
  (void)options;
  (void)values;
  if (type != 1 || count != 0 || name == NULL || ((char*)data)[bytes - 1] != 0)
    return kInvalidValue;
  if (strstr(data, "REFUSE") != NULL) {
    snprintf(link->log, link->log_bytes, "ptxas error: REFUSE in %s", name);
    return kInvalidPtx;
  }
  link->code = malloc(64);
  snprintf(link->code, 64, "CUBIN of %zu bytes", bytes - 1);
  return kSuccess;
}

int cuLinkComplete(void* state, void** code, size_t* bytes) {
  struct link* link = state;
  if (link->code == NULL) return kInvalidValue;
  *code = link->code;
  *bytes = strlen(link->code);
  return kSuccess;
}

int cuLinkDestroy(void* state) {
  struct link* link = state;
  free(link->code);
  free(link);
  return kSuccess;
}

/* For the test: contexts that are still held. */
int fake_cuda_retained(void) { return retained; }
