# Tests that load a stand-in of NVIDIA's CUDA driver library.
add_library(fake_cuda_driver MODULE fake_cuda_driver.c)
foreach(test test_background_kernels test_cubin test_kernel_pack)
  add_dependencies(${test} fake_cuda_driver)
  target_compile_definitions(${test} PRIVATE DLK_FAKE_CUDA="$<TARGET_FILE:fake_cuda_driver>")
endforeach()
