# The Vulkan tests once more: under the validation layer with synchronization validation, on fences
# instead of a timeline semaphore, and on a machine without the loader.
function(dlk_vulkan_test name environment)
  add_test(NAME ${name} COMMAND test_vulkan ${ARGN})
  set_tests_properties(${name} PROPERTIES ENVIRONMENT "${environment}")
endfunction()
dlk_vulkan_test(vulkan_validation "DLK_VULKAN_VALIDATION=1")
dlk_vulkan_test(vulkan_fences "DLK_VULKAN_VALIDATION=1;DLK_VULKAN_TIMELINE=0")
