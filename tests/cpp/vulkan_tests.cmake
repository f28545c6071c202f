# The Vulkan tests once more: under the validation layer with synchronization validation, on fences
# instead of a timeline semaphore, and with device memory that the host cannot map.
if(NOT DLK_ENABLE_VULKAN)
  return()
endif()
function(dlk_vulkan_test name)
  add_test(NAME ${name} COMMAND test_vulkan)
  set_tests_properties(${name} PROPERTIES ENVIRONMENT "${ARGN}")
endfunction()
dlk_vulkan_test(vulkan_validated DLK_VULKAN_VALIDATION=1)
dlk_vulkan_test(vulkan_fences DLK_VULKAN_VALIDATION=1 DLK_VULKAN_TIMELINE=0)
dlk_vulkan_test(vulkan_staged DLK_VULKAN_VALIDATION=1 DLK_VULKAN_MAPPED=0)
add_test(NAME vulkan_external_validated COMMAND test_vulkan_external)
set_tests_properties(vulkan_external_validated PROPERTIES ENVIRONMENT "DLK_VULKAN_VALIDATION=1")
