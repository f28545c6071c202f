# test_cubin loads a stand-in of NVIDIA's CUDA driver library.
add_library(fake_cuda_driver MODULE fake_cuda_driver.c)
add_dependencies(test_cubin fake_cuda_driver)
target_compile_definitions(test_cubin PRIVATE DLK_FAKE_CUDA="$<TARGET_FILE:fake_cuda_driver>")
