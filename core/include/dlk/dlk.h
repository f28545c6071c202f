/*
 * dlk's C interface: open a device, load a model, run it. C99, no other header needed, stable
 * across compilers; a C++ wrapper is in dlk.hpp.
 *
 * - Every function that can fail returns a dlk_status; dlk_last_error() says in words what was
 * wrong with this thread's last failed call and what to do. On failure nothing is written to the
 * outputs.
 * - Objects are handles: each *_open, *_load, *_create gives one to the caller, who releases it
 * once. An object keeps alive what it was made from, so handles may be released in any order.
 * - Devices and models may be used by several threads at once, a session by one thread at a time.
 * - Tensors are dense, row-major, little endian. Strings are UTF-8.
 */
#ifndef DLK_DLK_H
#define DLK_DLK_H

#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32)
#if defined(DLK_BUILDING)
#define DLK_API __declspec(dllexport)
#else
#define DLK_API __declspec(dllimport)
#endif
#else
#define DLK_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

typedef enum dlk_status {
  DLK_OK = 0,
  DLK_INVALID_ARGUMENT = 1,
  DLK_UNSUPPORTED = 2,
  DLK_OUT_OF_MEMORY = 3,
  DLK_COMPILE_FAILED = 4,
  DLK_DEVICE_LOST = 5,
  DLK_INTERNAL_ERROR = 6,
  DLK_STATUS_MAX = 0x7fffffff /* no status: every int is a value of the type, also in C++ */
} dlk_status;

typedef enum dlk_dtype {
  DLK_FLOAT32 = 0,
  DLK_FLOAT16 = 1,
  DLK_BFLOAT16 = 2,
  DLK_FLOAT64 = 3,
  DLK_INT8 = 4,
  DLK_INT16 = 5,
  DLK_INT32 = 6,
  DLK_INT64 = 7,
  DLK_UINT8 = 8,
  DLK_UINT16 = 9,
  DLK_UINT32 = 10,
  DLK_UINT64 = 11,
  DLK_BOOL = 12,
  DLK_DTYPE_MAX = 0x7fffffff /* no dtype */
} dlk_dtype;

typedef struct dlk_device dlk_device;
typedef struct dlk_model dlk_model;
typedef struct dlk_session dlk_session;
typedef struct dlk_run dlk_run;

#define DLK_MAX_RANK 8

/* Version of the library, "0.1.0". */
DLK_API const char* dlk_version(void);
/* What was wrong with this thread's last failed call; "" if none failed. Valid until the next one.
 */
DLK_API const char* dlk_last_error(void);
/* Bytes of one element; 0 for a value that is no dtype. */
DLK_API size_t dlk_dtype_size(dlk_dtype dtype);
/* Kernels are taken from this file, which `dlk pack` made, before they are compiled: a first start
 * is faster on the devices that it is for. Call it before models are loaded. The environment's
 * DLK_KERNEL_PACKS (paths as in PATH) names more; DLK_KERNEL_PACKS=0 turns packs off. */
DLK_API dlk_status dlk_kernel_pack_add(const char* path);

/* ---- Devices ---- */

typedef struct dlk_device_info {
  char id[32]; /* "vulkan:0" */
  char backend[32];
  char name[128];
  char driver[128];
  uint64_t memory_bytes;
  int is_cpu;
  int fp16;
} dlk_device_info;

/* Number of devices of all backends. */
DLK_API size_t dlk_device_count(void);
DLK_API dlk_status dlk_device_get_info(size_t index, dlk_device_info* info);
/* `spec`: NULL or "" (DLK_DEVICE, else the best device), "vulkan", "opencl:1", "name:TEXT". */
DLK_API dlk_status dlk_device_open(const char* spec, dlk_device** device);

/* An app's own device and queue. What is given stays the app's and must outlive the dlk_device.
 * Fields that an API does not have are NULL. The app must not submit to `queue` during dlk calls.
 */
typedef struct dlk_native_device {
  void* instance;        /* VkInstance */
  void* physical_device; /* VkPhysicalDevice */
  void* device;          /* VkDevice, cl_device_id, MTLDevice */
  void* context;         /* cl_context */
  void* queue;           /* VkQueue; cl_command_queue, MTLCommandQueue (NULL: dlk makes one) */
  uint32_t queue_family; /* Vulkan */
  uint64_t features;     /* DLK_FEATURE_*: what the app enabled on the VkDevice */
} dlk_native_device;

#define DLK_FEATURE_STORAGE_16BIT (1u << 0)
#define DLK_FEATURE_STORAGE_8BIT (1u << 1)
#define DLK_FEATURE_FLOAT16 (1u << 2)
#define DLK_FEATURE_INT64 (1u << 3)
#define DLK_FEATURE_FLOAT64 (1u << 4)
#define DLK_FEATURE_INT16 (1u << 5)
#define DLK_FEATURE_TIMELINE_SEMAPHORE (1u << 6)
#define DLK_FEATURE_INT8 (1u << 7)

/* `backend`: "vulkan", "opencl" or "metal". */
DLK_API dlk_status dlk_device_wrap(const char* backend, const dlk_native_device* native,
                                   dlk_device** device);
DLK_API void dlk_device_release(dlk_device* device);

/* ---- Models ---- */

typedef struct dlk_model_options {
  dlk_dtype dtype;     /* DLK_FLOAT32, or DLK_FLOAT16 to store weights and activations in it */
  int accumulate_fp16; /* sums in fp16; needs fp16 arithmetic on the device */
  int in_flight;       /* runs under way at once in a session; 0: two, or four small ones */
} dlk_model_options;

typedef struct dlk_tensor_info {
  char name[128];
  dlk_dtype dtype;
  size_t rank;
  int64_t shape[DLK_MAX_RANK]; /* -1 where a dimension is free */
} dlk_tensor_info;

/* Loads a `.dlk` file or directory. `options` may be NULL. A bundle for the device (`dlk convert
 * --target`) starts without planning and compiling; DLK_BUNDLE=require in the environment makes a
 * model without one DLK_UNSUPPORTED. */
DLK_API dlk_status dlk_model_load(const char* path, const dlk_device* device,
                                  const dlk_model_options* options, dlk_model** model);
DLK_API size_t dlk_model_input_count(const dlk_model* model);
DLK_API dlk_status dlk_model_input_info(const dlk_model* model, size_t index,
                                        dlk_tensor_info* info);
DLK_API size_t dlk_model_output_count(const dlk_model* model);
/* NULL beyond the last; valid as long as the model. */
DLK_API const char* dlk_model_output_name(const dlk_model* model, size_t index);
/* Labels of a classifier; 0 if the model has none. */
DLK_API size_t dlk_model_label_count(const dlk_model* model);
DLK_API const char* dlk_model_label(const dlk_model* model, size_t index);
/* Prepares a picture as the model wants it (its "preprocessing"): `rgb` holds width*height*3 bytes,
 * `tensor` gets float32 of shape `info`, (1, 3, H, W). With tensor NULL only `info` is filled in.
 */
DLK_API dlk_status dlk_model_prepare_image(const dlk_model* model, const uint8_t* rgb,
                                           uint32_t width, uint32_t height, float* tensor,
                                           size_t tensor_bytes, dlk_tensor_info* info);
DLK_API void dlk_model_release(dlk_model* model);

/* ---- Running ---- */

typedef struct dlk_tensor {
  dlk_dtype dtype;
  size_t rank;
  const int64_t* shape;
  const void* data; /* host memory, read during the call that takes it */
} dlk_tensor;

DLK_API dlk_status dlk_session_create(const dlk_model* model, dlk_session** session);
/* Sets an input for the runs that follow; the data is copied. */
DLK_API dlk_status dlk_session_bind(dlk_session* session, const char* input,
                                    const dlk_tensor* tensor);
/* Starts a run and returns; blocks only while `in_flight` runs are under way. */
DLK_API dlk_status dlk_session_run_async(dlk_session* session, dlk_run** run);
/* Starts a run and waits for it. */
DLK_API dlk_status dlk_session_run(dlk_session* session, dlk_run** run);
DLK_API void dlk_session_release(dlk_session* session);

/* Waits, and reports what went wrong on the device. */
DLK_API dlk_status dlk_run_wait(dlk_run* run);
DLK_API int dlk_run_is_done(dlk_run* run);
/* Calls `callback` once, from a thread of dlk's, when the run is done or has failed. */
DLK_API dlk_status dlk_run_on_complete(dlk_run* run, void (*callback)(dlk_status, void* user),
                                       void* user);
DLK_API dlk_status dlk_run_output_info(dlk_run* run, const char* output, dlk_tensor_info* info);
/* Waits and copies an output; `bytes` must be its exact size. */
DLK_API dlk_status dlk_run_read(dlk_run* run, const char* output, void* data, size_t bytes);
DLK_API void dlk_run_release(dlk_run* run);

#ifdef __cplusplus
}
#endif

#endif
