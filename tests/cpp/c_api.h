/* Checks of dlk.h, written in C99 and called by test_c_api.cpp. Each returns NULL, or what was not
 * as it should be. The model computes y = relu(x + {1, -2, 0.5}) for x of shape (N, 3). */
#ifndef DLK_TESTS_C_API_H
#define DLK_TESTS_C_API_H

#include "dlk/dlk.h"

#ifdef __cplusplus
extern "C" {
#endif

const char* c_api_check_devices(void);
const char* c_api_check_run(const dlk_device* device, const char* model_path);
const char* c_api_check_async(const dlk_device* device, const char* model_path);
const char* c_api_check_errors(const dlk_device* device, const char* model_path);
const char* c_api_check_wrong_run(const dlk_device* device, const char* model_path);
const char* c_api_check_release_order(const char* spec, const char* model_path);
const char* c_api_check_picture(const dlk_device* device, const char* classifier_path);

#ifdef __cplusplus
}
#endif

#endif
