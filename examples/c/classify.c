/* Classifies a picture with a `.dlk` model on any device, in C99:
 *   classify MODEL.dlk PICTURE.ppm [DEVICE]
 * Pictures are binary PPM (P6), so that the example needs no image library. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dlk/dlk.h"

static int report(const char* what) {
  fprintf(stderr, "error: %s: %s\n", what, dlk_last_error());
  return 1;
}

/* The pixels, to be freed by the caller; NULL if the file is no such picture. */
static uint8_t* read_ppm(const char* path, uint32_t* width, uint32_t* height) {
  FILE* file = fopen(path, "rb");
  uint8_t* rgb = NULL;
  unsigned w = 0, h = 0, maximum = 0;
  if (!file) return NULL;
  if (fscanf(file, "P6 %u %u %u", &w, &h, &maximum) == 3 && maximum == 255 && w > 0 && h > 0 &&
      w <= 65535 && h <= 65535 && fgetc(file) != EOF) {
    const size_t bytes = (size_t)w * h * 3;
    rgb = malloc(bytes);
    if (rgb && fread(rgb, 1, bytes, file) != bytes) {
      free(rgb);
      rgb = NULL;
    }
    *width = w;
    *height = h;
  }
  fclose(file);
  return rgb;
}

static void print_top(const dlk_model* model, float* scores, size_t count) {
  for (int place = 0; place < 5 && (size_t)place < count; place++) {
    size_t best = 0;
    for (size_t i = 1; i < count; i++)
      if (scores[i] > scores[best]) best = i;
    const char* label = dlk_model_label(model, best);
    printf("%.3f  %s\n", (double)scores[best], label ? label : "(no label)");
    scores[best] = -1;
  }
}

static int run(dlk_model* model, dlk_session* session, const uint8_t* rgb, uint32_t width,
               uint32_t height) {
  dlk_tensor_info info;
  if (dlk_model_prepare_image(model, rgb, width, height, NULL, 0, &info)) return report("picture");
  size_t count = 1;
  for (size_t i = 0; i < info.rank; i++) count *= (size_t)info.shape[i];
  float* pixels = malloc(count * sizeof(float));
  if (!pixels) return 1;
  dlk_status status =
      dlk_model_prepare_image(model, rgb, width, height, pixels, count * sizeof(float), &info);
  if (!status) {
    const dlk_tensor tensor = {info.dtype, info.rank, info.shape, pixels};
    status = dlk_session_bind(session, info.name, &tensor);
  }
  free(pixels);
  if (status) return report("picture");

  dlk_run* started = NULL;
  if (dlk_session_run(session, &started)) return report("run");
  const char* output = dlk_model_output_name(model, 0);
  int failed = 0;
  if (dlk_run_output_info(started, output, &info)) {
    failed = report("output");
  } else {
    count = 1;
    for (size_t i = 0; i < info.rank; i++) count *= (size_t)info.shape[i];
    float* scores = malloc(count * sizeof(float));
    if (!scores || dlk_run_read(started, output, scores, count * sizeof(float)))
      failed = report("output");
    else
      print_top(model, scores, count);
    free(scores);
  }
  dlk_run_release(started);
  return failed;
}

int main(int argc, char** argv) {
  dlk_device* device = NULL;
  dlk_model* model = NULL;
  dlk_session* session = NULL;
  uint32_t width = 0, height = 0;
  int failed = 0;
  if (argc < 3 || argc > 4) {
    fprintf(stderr, "usage: %s MODEL.dlk PICTURE.ppm [DEVICE]\n", argv[0]);
    return 2;
  }
  uint8_t* rgb = read_ppm(argv[2], &width, &height);
  if (!rgb) {
    fprintf(stderr, "error: %s is no binary PPM picture (P6, 255)\n", argv[2]);
    return 1;
  }
  if (dlk_device_open(argc == 4 ? argv[3] : NULL, &device))
    failed = report("device");
  else if (dlk_model_load(argv[1], device, NULL, &model))
    failed = report("model");
  else if (dlk_session_create(model, &session))
    failed = report("session");
  else
    failed = run(model, session, rgb, width, height);
  dlk_session_release(session);
  dlk_model_release(model);
  dlk_device_release(device);
  free(rgb);
  return failed;
}
