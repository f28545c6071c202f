#include "tests/cpp/c_api.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

static const char* failure(int line, const char* what) {
  static char text[1024];
  snprintf(text, sizeof(text), "c_api.c:%d: %s; dlk_last_error: %s", line, what, dlk_last_error());
  return text;
}
#define EXPECT(condition)                                   \
  do {                                                      \
    if (!(condition)) return failure(__LINE__, #condition); \
  } while (0)

static int contains(const char* text, const char* part) { return strstr(text, part) != NULL; }

static const int64_t kShape[2] = {2, 3};
static const float kInput[6] = {-2, 3, -0.25f, 1, 1, 1};
static const float kExpected[6] = {0, 1, 0.25f, 2, 0, 1.5f};

static dlk_tensor input_tensor(const float* values) {
  dlk_tensor tensor;
  tensor.dtype = DLK_FLOAT32;
  tensor.rank = 2;
  tensor.shape = kShape;
  tensor.data = values;
  return tensor;
}

const char* c_api_check_devices(void) {
  const size_t count = dlk_device_count();
  EXPECT(count > 0);
  for (size_t i = 0; i < count; i++) {
    dlk_device_info info;
    memset(&info, 0xff, sizeof(info));
    EXPECT(dlk_device_get_info(i, &info) == DLK_OK);
    EXPECT(strlen(info.id) > 2 && strlen(info.name) > 0 && strlen(info.driver) > 0);
    EXPECT(strncmp(info.id, info.backend, strlen(info.backend)) == 0);
    EXPECT(info.is_cpu == 0 || info.is_cpu == 1);
  }
  dlk_device_info untouched;
  memset(&untouched, 0x55, sizeof(untouched));
  EXPECT(dlk_device_get_info(count, &untouched) == DLK_INVALID_ARGUMENT);
  EXPECT(untouched.memory_bytes == 0x5555555555555555u);
  EXPECT(dlk_device_get_info(0, NULL) == DLK_INVALID_ARGUMENT);
  EXPECT(contains(dlk_last_error(), "info is NULL"));
  EXPECT(dlk_dtype_size(DLK_FLOAT16) == 2 && dlk_dtype_size(DLK_INT64) == 8);
  EXPECT(dlk_dtype_size((dlk_dtype)99) == 0);
  EXPECT(dlk_kernel_pack_add(NULL) == DLK_INVALID_ARGUMENT);
  EXPECT(dlk_kernel_pack_add("none.pack") == DLK_INVALID_ARGUMENT);
  EXPECT(strstr(dlk_last_error(), "none.pack") != NULL);
  EXPECT(strchr(dlk_version(), '.') != NULL);
  return NULL;
}

const char* c_api_check_run(const dlk_device* device, const char* model_path) {
  dlk_model* model = NULL;
  dlk_session* session = NULL;
  dlk_run* run = NULL;
  dlk_tensor_info info;
  float result[6];
  EXPECT(dlk_model_load(model_path, device, NULL, &model) == DLK_OK);
  EXPECT(dlk_model_input_count(model) == 1);
  EXPECT(dlk_model_input_info(model, 0, &info) == DLK_OK);
  EXPECT(strcmp(info.name, "x") == 0 && info.dtype == DLK_FLOAT32 && info.rank == 2);
  EXPECT(info.shape[0] == -1 && info.shape[1] == 3);
  EXPECT(dlk_model_output_count(model) == 1);
  EXPECT(strcmp(dlk_model_output_name(model, 0), "y") == 0);
  EXPECT(dlk_model_output_name(model, 1) == NULL);
  EXPECT(dlk_model_label_count(model) == 0 && dlk_model_label(model, 0) == NULL);

  const dlk_tensor tensor = input_tensor(kInput);
  EXPECT(dlk_session_create(model, &session) == DLK_OK);
  EXPECT(dlk_session_bind(session, "x", &tensor) == DLK_OK);
  for (int i = 0; i < 3; i++) { /* what was bound stays */
    EXPECT(dlk_session_run(session, &run) == DLK_OK);
    EXPECT(dlk_run_is_done(run));
    EXPECT(dlk_run_output_info(run, "y", &info) == DLK_OK);
    EXPECT(info.rank == 2 && info.shape[0] == 2 && info.shape[1] == 3);
    memset(result, 0, sizeof(result));
    EXPECT(dlk_run_read(run, "y", result, sizeof(result)) == DLK_OK);
    EXPECT(memcmp(result, kExpected, sizeof(result)) == 0);
    dlk_run_release(run);
  }
  dlk_session_release(session);
  dlk_model_release(model);
  return NULL;
}

typedef struct waiter {
  pthread_mutex_t mutex;
  pthread_cond_t changed;
  int calls;
  dlk_status status;
  pthread_t thread;
} waiter;

static void on_complete(dlk_status status, void* user) {
  waiter* w = user;
  pthread_mutex_lock(&w->mutex);
  w->calls++;
  w->status = status;
  w->thread = pthread_self();
  pthread_cond_signal(&w->changed);
  pthread_mutex_unlock(&w->mutex);
}

const char* c_api_check_async(const dlk_device* device, const char* model_path) {
  enum { kRuns = 5 };
  dlk_model* model = NULL;
  dlk_session* session = NULL;
  dlk_run* runs[kRuns];
  waiter w;
  dlk_model_options options;
  memset(&options, 0, sizeof(options));
  options.in_flight = 3;
  memset(&w, 0, sizeof(w));
  pthread_mutex_init(&w.mutex, NULL);
  pthread_cond_init(&w.changed, NULL);
  EXPECT(dlk_model_load(model_path, device, &options, &model) == DLK_OK);
  EXPECT(dlk_session_create(model, &session) == DLK_OK);
  for (int i = 0; i < kRuns; i++) {
    float values[6];
    for (int k = 0; k < 6; k++) values[k] = kInput[k] + (float)i;
    const dlk_tensor tensor = input_tensor(values);
    EXPECT(dlk_session_bind(session, "x", &tensor) == DLK_OK);
    memset(values, 0, sizeof(values)); /* bind has copied them */
    EXPECT(dlk_session_run_async(session, &runs[i]) == DLK_OK);
    EXPECT(dlk_run_on_complete(runs[i], on_complete, &w) == DLK_OK);
  }
  pthread_mutex_lock(&w.mutex);
  while (w.calls < kRuns) pthread_cond_wait(&w.changed, &w.mutex);
  pthread_mutex_unlock(&w.mutex);
  EXPECT(w.status == DLK_OK);
  EXPECT(!pthread_equal(w.thread, pthread_self()));
  for (int i = kRuns - 1; i >= 0; i--) { /* outputs of all runs are still there */
    float result[6];
    EXPECT(dlk_run_is_done(runs[i]) && dlk_run_wait(runs[i]) == DLK_OK);
    EXPECT(dlk_run_read(runs[i], "y", result, sizeof(result)) == DLK_OK);
    for (int k = 0; k < 6; k++) {
      const float bias[3] = {1, -2, 0.5f};
      const float sum = kInput[k] + (float)i + bias[k % 3];
      EXPECT(result[k] == (sum > 0 ? sum : 0));
    }
    dlk_run_release(runs[i]);
  }
  EXPECT(w.calls == kRuns);
  dlk_session_release(session);
  dlk_model_release(model);
  pthread_cond_destroy(&w.changed);
  pthread_mutex_destroy(&w.mutex);
  return NULL;
}

static void* fail_elsewhere(void* user) {
  dlk_device* device = NULL;
  (void)user;
  dlk_device_open("on another thread", &device);
  return NULL;
}

const char* c_api_check_errors(const dlk_device* device, const char* model_path) {
  dlk_device* other = (dlk_device*)&other;
  dlk_model* model = NULL;
  dlk_model_options options;
  pthread_t thread;
  memset(&options, 0, sizeof(options));
  EXPECT(dlk_device_open("warp:9", &other) == DLK_INVALID_ARGUMENT);
  EXPECT(other == (dlk_device*)&other); /* nothing is written on failure */
  EXPECT(contains(dlk_last_error(), "warp:9"));
  EXPECT(pthread_create(&thread, NULL, fail_elsewhere, NULL) == 0);
  EXPECT(pthread_join(thread, NULL) == 0);
  EXPECT(contains(dlk_last_error(), "warp:9")); /* each thread has its own */
  EXPECT(dlk_device_open(NULL, NULL) == DLK_INVALID_ARGUMENT);

  EXPECT(dlk_device_wrap("vulkan", NULL, &other) == DLK_INVALID_ARGUMENT);
  dlk_native_device nothing;
  memset(&nothing, 0, sizeof(nothing));
  EXPECT(dlk_device_wrap("warp", &nothing, &other) == DLK_INVALID_ARGUMENT);
  EXPECT(dlk_device_wrap(NULL, &nothing, &other) == DLK_INVALID_ARGUMENT);
  EXPECT(dlk_device_wrap("null", &nothing, &other) == DLK_UNSUPPORTED);

  EXPECT(dlk_model_load("/nonexistent/model.dlk", device, NULL, &model) == DLK_INVALID_ARGUMENT);
  EXPECT(contains(dlk_last_error(), "/nonexistent/model.dlk") && model == NULL);
  EXPECT(dlk_model_load(NULL, device, NULL, &model) == DLK_INVALID_ARGUMENT);
  EXPECT(dlk_model_load(model_path, NULL, NULL, &model) == DLK_INVALID_ARGUMENT);
  EXPECT(contains(dlk_last_error(), "device is NULL"));
  EXPECT(dlk_model_load(model_path, device, NULL, NULL) == DLK_INVALID_ARGUMENT);
  options.dtype = (dlk_dtype)77;
  EXPECT(dlk_model_load(model_path, device, &options, &model) == DLK_INVALID_ARGUMENT);
  EXPECT(contains(dlk_last_error(), "77"));
  options.dtype = DLK_INT8;
  EXPECT(dlk_model_load(model_path, device, &options, &model) == DLK_INVALID_ARGUMENT);
  options.dtype = DLK_FLOAT32;
  options.in_flight = -1;
  EXPECT(dlk_model_load(model_path, device, &options, &model) == DLK_INVALID_ARGUMENT);
  EXPECT(model == NULL);
  EXPECT(dlk_model_input_count(NULL) == 0 && dlk_model_output_count(NULL) == 0);
  EXPECT(dlk_model_output_name(NULL, 0) == NULL && dlk_model_label_count(NULL) == 0);
  EXPECT(dlk_session_create(NULL, NULL) == DLK_INVALID_ARGUMENT);
  return NULL;
}

const char* c_api_check_wrong_run(const dlk_device* device, const char* model_path) {
  dlk_model* model = NULL;
  dlk_session* session = NULL;
  dlk_run* run = NULL;
  dlk_tensor_info info;
  float result[6];
  EXPECT(dlk_model_load(model_path, device, NULL, &model) == DLK_OK);
  EXPECT(dlk_model_input_info(model, 1, &info) == DLK_INVALID_ARGUMENT);
  EXPECT(dlk_session_create(model, &session) == DLK_OK);
  EXPECT(dlk_session_run(session, &run) == DLK_INVALID_ARGUMENT && run == NULL);
  EXPECT(contains(dlk_last_error(), "input 'x' is missing"));

  dlk_tensor tensor = input_tensor(NULL);
  EXPECT(dlk_session_bind(session, "x", &tensor) == DLK_INVALID_ARGUMENT);
  EXPECT(contains(dlk_last_error(), "tensor->data is NULL"));
  tensor = input_tensor(kInput);
  tensor.shape = NULL;
  EXPECT(dlk_session_bind(session, "x", &tensor) == DLK_INVALID_ARGUMENT);
  const int64_t negative[2] = {-1, 3}, huge[2] = {INT64_MAX, 3};
  tensor.shape = negative;
  EXPECT(dlk_session_bind(session, "x", &tensor) == DLK_INVALID_ARGUMENT);
  tensor.shape = huge;
  EXPECT(dlk_session_bind(session, "x", &tensor) == DLK_INVALID_ARGUMENT);
  EXPECT(dlk_session_bind(session, NULL, &tensor) == DLK_INVALID_ARGUMENT);
  EXPECT(dlk_session_bind(session, "x", NULL) == DLK_INVALID_ARGUMENT);

  const int64_t flat[1] = {3};
  tensor.rank = 1;
  tensor.shape = flat;
  EXPECT(dlk_session_bind(session, "x", &tensor) == DLK_OK);
  EXPECT(dlk_session_run(session, &run) == DLK_INVALID_ARGUMENT && run == NULL);
  EXPECT(contains(dlk_last_error(), "shape [3], expected [N, 3]"));
  tensor = input_tensor(kInput);
  EXPECT(dlk_session_bind(session, "x", &tensor) == DLK_OK);
  EXPECT(dlk_session_run(session, NULL) == DLK_INVALID_ARGUMENT);
  EXPECT(dlk_session_run(session, &run) == DLK_OK);
  EXPECT(dlk_run_output_info(run, "z", &info) == DLK_INVALID_ARGUMENT);
  EXPECT(contains(dlk_last_error(), "'z'"));
  memset(result, 0x55, sizeof(result));
  EXPECT(dlk_run_read(run, "y", result, sizeof(result) - 1) == DLK_INVALID_ARGUMENT);
  EXPECT(contains(dlk_last_error(), "has 24 bytes, the buffer 23"));
  EXPECT(((const unsigned char*)result)[0] == 0x55);
  EXPECT(dlk_run_read(run, "y", NULL, sizeof(result)) == DLK_INVALID_ARGUMENT);
  EXPECT(dlk_run_on_complete(run, NULL, NULL) == DLK_INVALID_ARGUMENT);
  EXPECT(dlk_run_wait(NULL) == DLK_INVALID_ARGUMENT && dlk_run_is_done(NULL) == 0);
  EXPECT(dlk_run_read(run, "y", result, sizeof(result)) == DLK_OK);
  EXPECT(memcmp(result, kExpected, sizeof(result)) == 0);
  dlk_run_release(run);
  dlk_session_release(session);
  dlk_model_release(model);
  return NULL;
}

const char* c_api_check_release_order(const char* spec, const char* model_path) {
  dlk_device* device = NULL;
  dlk_model* model = NULL;
  dlk_session* session = NULL;
  dlk_run* run = NULL;
  float result[6];
  const dlk_tensor tensor = input_tensor(kInput);
  EXPECT(dlk_device_open(spec, &device) == DLK_OK);
  EXPECT(dlk_model_load(model_path, device, NULL, &model) == DLK_OK);
  dlk_device_release(device);
  EXPECT(dlk_session_create(model, &session) == DLK_OK);
  dlk_model_release(model);
  EXPECT(dlk_session_bind(session, "x", &tensor) == DLK_OK);
  EXPECT(dlk_session_run_async(session, &run) == DLK_OK);
  dlk_session_release(session);
  EXPECT(dlk_run_read(run, "y", result, sizeof(result)) == DLK_OK);
  EXPECT(memcmp(result, kExpected, sizeof(result)) == 0);
  dlk_run_release(run);
  dlk_run_release(NULL);
  dlk_session_release(NULL);
  dlk_model_release(NULL);
  dlk_device_release(NULL);
  return NULL;
}

const char* c_api_check_picture(const dlk_device* device, const char* classifier_path) {
  enum { kSide = 16 };
  static uint8_t rgb[kSide * kSide * 3];
  static float pixels[3 * 8 * 8];
  dlk_model* model = NULL;
  dlk_session* session = NULL;
  dlk_run* run = NULL;
  dlk_tensor_info info;
  float scores[3];
  for (size_t i = 0; i < sizeof(rgb); i++) rgb[i] = i % 3 == 2 ? 200 : 20;
  EXPECT(dlk_model_load(classifier_path, device, NULL, &model) == DLK_OK);
  EXPECT(dlk_model_label_count(model) == 3);
  EXPECT(strcmp(dlk_model_label(model, 2), "blue") == 0 && dlk_model_label(model, 3) == NULL);
  EXPECT(dlk_model_prepare_image(model, rgb, kSide, kSide, NULL, 0, &info) == DLK_OK);
  EXPECT(info.rank == 4 && info.shape[1] == 3 && info.shape[2] == 8 && info.shape[3] == 8);
  EXPECT(dlk_model_prepare_image(model, rgb, kSide, kSide, pixels, sizeof(pixels) - 4, &info) ==
         DLK_INVALID_ARGUMENT);
  EXPECT(dlk_model_prepare_image(model, NULL, kSide, kSide, pixels, sizeof(pixels), &info) ==
         DLK_INVALID_ARGUMENT);
  EXPECT(dlk_model_prepare_image(model, rgb, 0, kSide, NULL, 0, &info) == DLK_INVALID_ARGUMENT);
  EXPECT(dlk_model_prepare_image(model, rgb, kSide, kSide, pixels, sizeof(pixels), &info) ==
         DLK_OK);
  EXPECT(pixels[0] < 0.1f && pixels[2 * 64] > 0.7f);
  const dlk_tensor tensor = {info.dtype, info.rank, info.shape, pixels};
  EXPECT(dlk_session_create(model, &session) == DLK_OK);
  EXPECT(dlk_session_bind(session, info.name, &tensor) == DLK_OK);
  EXPECT(dlk_session_run(session, &run) == DLK_OK);
  EXPECT(dlk_run_read(run, dlk_model_output_name(model, 0), scores, sizeof(scores)) == DLK_OK);
  EXPECT(scores[2] > scores[0] && scores[2] > scores[1]);
  dlk_run_release(run);
  dlk_session_release(session);
  dlk_model_release(model);
  return NULL;
}
