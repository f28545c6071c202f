# Sets DLK_METAL_CPP_DIR, the folder of Apple's metal-cpp (Metal/Metal.hpp): what the user names, in
# CMake or in the environment, else the headers that PyPI's mlx-metal carries, fetched by hash. They are
# Apache-2.0, 2 MB of a wheel of 43 MB; nothing of them is kept in the repository.
set(DLK_METAL_CPP_DIR "$ENV{DLK_METAL_CPP_DIR}" CACHE PATH "Folder that holds Metal/Metal.hpp")
if(DLK_METAL_CPP_DIR AND NOT EXISTS "${DLK_METAL_CPP_DIR}/Metal/Metal.hpp")
  message(FATAL_ERROR "DLK_METAL_CPP_DIR is ${DLK_METAL_CPP_DIR}, which has no Metal/Metal.hpp")
endif()
if(NOT DLK_METAL_CPP_DIR)
  find_package(Python3 COMPONENTS Interpreter REQUIRED)
  set(metal_cpp_folder "${PROJECT_BINARY_DIR}/metal_cpp")
  execute_process(
    COMMAND ${Python3_EXECUTABLE} "${CMAKE_CURRENT_LIST_DIR}/../scripts/metal_cpp.py" "${metal_cpp_folder}"
    RESULT_VARIABLE failed OUTPUT_VARIABLE log ERROR_VARIABLE log)
  if(failed)
    message(FATAL_ERROR "metal-cpp cannot be fetched; download it from Apple's developer site and set "
      "DLK_METAL_CPP_DIR to its folder.\n${log}")
  endif()
  set(DLK_METAL_CPP_DIR "${metal_cpp_folder}" CACHE PATH "Folder that holds Metal/Metal.hpp" FORCE)
endif()
message(STATUS "dlk: metal-cpp in ${DLK_METAL_CPP_DIR}")
